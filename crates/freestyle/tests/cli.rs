//! The binary as a shell sees it, as far as it needs no VM.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::{Command, Output};

use freestyle_store::Store;
use serde_json::Value;

/// Runs `freestyle` in a folder, with nothing of this process's environment.
fn freestyle(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freestyle"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A data directory in which a server was started once.
async fn data_dir() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("metadata.sqlite3")).await.unwrap();
    store.system().create_account("default").await.unwrap();
    store.close().await;
    folder
}

#[test]
fn a_mistyped_command_line_exits_with_2_and_a_failure_with_1() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(freestyle(folder.path(), &["vm", "exec"]).status.code(), Some(2));
    let output = freestyle(folder.path(), &["vm", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: FREESTYLE_API_KEY is not set\nhint: "));
    assert!(output.stdout.is_empty());
}

#[test]
fn key_and_server_come_from_the_file_in_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    // A port that nothing listens on: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let file = format!("FREESTYLE_API_KEY=fs_x\nFREESTYLE_API_URL={url}\n");
    std::fs::write(folder.path().join(".env"), file).unwrap();
    let output = freestyle(folder.path(), &["whoami"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("{url} cannot be reached")), "{}", stderr(&output));
}

#[test]
fn a_broken_file_is_an_error_and_not_ignored() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "FREESTYLE_API_KEY=\"fs_x\n").unwrap();
    let output = freestyle(folder.path(), &["whoami"]);
    assert_eq!(stderr(&output), "error: .env: line 1: the quote is not closed\n");
}

#[test]
fn serve_refuses_a_configuration_it_does_not_understand() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("freestyle.toml"), "data-dirs = \"x\"\n").unwrap();
    let output = freestyle(folder.path(), &["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("data-dirs"), "{}", stderr(&output));
}

#[tokio::test]
async fn keys_are_made_listed_and_revoked() {
    let folder = data_dir().await;
    let admin = |arguments: &[&str]| {
        let data_dir = folder.path().to_str().unwrap();
        let output = freestyle(
            folder.path(),
            &[&["admin"], arguments, &["--json", "--data-dir", data_dir]].concat(),
        );
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str::<Value>(stdout(&output)).unwrap()
    };
    let key = admin(&["key", "create", "--name", "ci"]);
    let secret = key["secret"].as_str().unwrap();
    let store = Store::open(&folder.path().join("metadata.sqlite3")).await.unwrap();
    let found = store.system().authenticate_api_key(secret).await.unwrap().unwrap();
    assert_eq!(key["accountId"], found.account_id.as_str());

    let listed = admin(&["key", "list"]);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&key["id"], &Value::from("ci")));
    assert_eq!(listed[0].get("secret"), None);

    admin(&["key", "revoke", key["id"].as_str().unwrap()]);
    assert_eq!(store.system().authenticate_api_key(secret).await.unwrap(), None);
}

#[tokio::test]
async fn a_key_for_one_of_several_accounts_needs_its_name() {
    let folder = data_dir().await;
    let data_dir = folder.path().to_str().unwrap();
    let run = |arguments: &[&str]| {
        freestyle(folder.path(), &[arguments, &["--data-dir", data_dir]].concat())
    };
    assert!(run(&["admin", "account", "create", "other"]).status.success());
    let refused = run(&["admin", "key", "create"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("several accounts"));
    let made = run(&["admin", "key", "create", "--account", "other"]);
    assert!(stdout(&made).starts_with("fs_") && stdout(&made).lines().count() == 1);
}

#[test]
fn a_mistyped_data_directory_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong");
    let wrong = wrong.to_str().unwrap();
    let output = freestyle(folder.path(), &["admin", "account", "list", "--data-dir", wrong]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!Path::new(wrong).exists());
}
