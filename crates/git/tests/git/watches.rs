//! Whether a move of a branch changed a file that someone watches.

use freestyle_git::{ObjectId, PathPatterns};

use crate::support::Server;

#[tokio::test]
async fn a_move_is_known_by_the_files_it_changed() {
    let server = Server::start().await;
    let repository = server.create().await;
    let client = server.clone_of(&repository, "a").await;
    let id = |hex: String| ObjectId::from_hex(hex.as_bytes()).unwrap();
    let first = id(client.commit("src/app.js", "1").await);
    let second = id(client.commit("README.md", "1").await);
    client.git(&["mv", "src/app.js", "src/main.ts"]).await;
    let third = id(client.commit("x", "").await);
    client.git(&["push", "-q", "origin", "main"]).await;

    let changed = async |from, to, globs: &[&str]| {
        let globs: Vec<_> = globs.iter().map(|glob| (*glob).to_owned()).collect();
        let patterns = PathPatterns::parse(&globs).unwrap();
        repository.has_changed(from, to, &patterns).await.unwrap()
    };
    assert!(!changed(Some(first), second, &["*.js"]).await);
    assert!(changed(Some(first), second, &["*.js", "*.md"]).await);
    // Both names of a file that was moved; and of all that happened in between.
    for glob in ["*.js", "src/*.ts", "src", "**/main.ts"] {
        assert!(changed(Some(second), third, &[glob]).await, "{glob}");
        assert!(changed(Some(first), third, &[glob]).await, "{glob}");
    }
    // A move back changes what it takes away.
    assert!(changed(Some(third), first, &["README.md"]).await);
    // Of a new branch everything is new.
    assert!(changed(None, second, &["*.js"]).await && !changed(None, second, &["*.ts"]).await);
    assert!(!changed(Some(second), second, &["**"]).await);

    let unknown = ObjectId::from_hex("1".repeat(40).as_bytes()).unwrap();
    let patterns = PathPatterns::parse(&["*".to_owned()]).unwrap();
    assert!(repository.has_changed(Some(unknown), second, &patterns).await.is_err());
}
