//! The Git API over real connections, with real repositories.

mod bad_input;
mod fuzz;
mod reads;
mod repositories;
mod searches;
mod triggers;
mod writes;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::tests::Server;

/// A server, and requests in few words.
struct Api {
    server: Server,
}

/// A repository of it.
struct Repo<'a> {
    api: &'a Api,
    id: String,
}

/// Status and body.
type Answer = (u16, Value);

impl Api {
    async fn start() -> Self {
        Self { server: Server::start().await }
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask_as(&self.server.key, method, path, body).await
    }

    async fn ask_as(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, _, answer) = self.server.send_with(key, method, path, &body).await;
        (status, serde_json::from_slice(&answer).unwrap())
    }

    /// A key of another account.
    async fn stranger(&self) -> String {
        let account = self.server.store.system().create_account("stranger").await.unwrap();
        let scope = self.server.store.account_scope(&account.id);
        let (_, secret) = scope.create_api_key("test").await.unwrap();
        secret.expose().to_owned()
    }

    /// Runs git in a repository on disk, for what only git can make.
    fn git(&self, repo: &str, arguments: &[&str], input: &str) -> String {
        let path = self.server.dir.path().join("git").join(&repo[..2]).join(format!("{repo}.git"));
        let mut git = Command::new("git")
            .args(arguments)
            .current_dir(&path)
            .env("GIT_DIR", &path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b.c")])
            .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@b.c")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        git.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = git.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    async fn create(&self, body: Value) -> Repo<'_> {
        let (status, answer) = self.ask("POST", "/git/v1/repo", body).await;
        assert_eq!(status, 200, "{answer}");
        Repo { api: self, id: answer["repoId"].as_str().unwrap().to_owned() }
    }

    /// A repository with files.
    async fn with_files(&self, files: Value) -> Repo<'_> {
        let import = json!({"type": "files", "files": files, "commitMessage": "Begin"});
        self.create(json!({"import": import})).await
    }
}

impl Repo<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/git/v1/repo/{}{rest}", self.id)
    }

    async fn get(&self, rest: &str) -> Answer {
        self.api.ask("GET", &self.path(rest), Value::Null).await
    }

    /// An answer that is expected to be one.
    async fn got(&self, rest: &str) -> Value {
        let (status, answer) = self.get(rest).await;
        assert_eq!(status, 200, "{rest}: {answer}");
        answer
    }

    async fn post(&self, rest: &str, body: Value) -> Answer {
        self.api.ask("POST", &self.path(rest), body).await
    }

    /// Makes a commit with one file and answers its id.
    async fn commit(&self, branch: &str, path: &str, content: &str) -> String {
        let files = json!([{"path": path, "content": content}]);
        let body = json!({"message": format!("Write {path}"), "branch": branch, "files": files});
        let (status, answer) = self.post("/commits", body).await;
        assert_eq!(status, 200, "{answer}");
        answer["commit"]["sha"].as_str().unwrap().to_owned()
    }
}

/// The refusal has this status and code, and the rest that every refusal has.
fn assert_refused(answer: &Answer, status: u16, code: &str, about: &str) {
    assert_eq!((answer.0, &answer.1["code"]), (status, &json!(code)), "{about}: {}", answer.1);
    assert_eq!(answer.1["error"], code, "{about}");
    assert!(answer.1["message"].as_str().is_some_and(|text| !text.is_empty()), "{about}");
}
