//! Repositories that begin with the history of another, fetched by real `git` through a real proxy.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use freestyle_git::{
    BranchName, GitError, ListCommits, Remote, RemoteError, Repository, Selection,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Server};

/// A SOCKS proxy that lets everybody everywhere.
async fn proxy() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("socks5h://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut hello = [0; 2];
                client.read_exact(&mut hello).await.unwrap();
                let mut methods = vec![0; hello[1].into()];
                client.read_exact(&mut methods).await.unwrap();
                client.write_all(&[5, 0]).await.unwrap();
                let mut head = [0; 5];
                client.read_exact(&mut head).await.unwrap();
                // Curl sends an address as one, and a name as a name.
                let mut rest = vec![0; if head[3] == 1 { 5 } else { usize::from(head[4]) + 2 }];
                client.read_exact(&mut rest).await.unwrap();
                let port = u16::from_be_bytes(*rest.last_chunk().unwrap());
                let server = SocketAddr::from(([127, 0, 0, 1], port));
                let mut server = TcpStream::connect(server).await.unwrap();
                client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

/// A source with two branches and two tags, one of them an object; and where to import it.
pub(crate) struct Case {
    pub(crate) server: Server,
    source: Repository,
    pub(crate) writer: Client,
    pub(crate) remote: Remote,
}

impl Case {
    pub(crate) async fn new() -> Self {
        let server = Server::start().await;
        let source = server.create().await;
        let writer = server.clone_of(&source, "writer").await;
        for n in 0..5 {
            writer.commit("file", format!("{n}\n")).await;
        }
        writer.git(&["tag", "-a", "v1", "-m", "first"]).await;
        writer.git(&["checkout", "-q", "-b", "feature/x"]).await;
        writer.commit("feature", "x").await;
        writer.git(&["tag", "light"]).await;
        writer.git(&["push", "-q", "origin", "main", "feature/x", "v1", "light"]).await;
        let remote = Remote { url: server.url(&source), authorization: None, proxy: proxy().await };
        Self { server, source, writer, remote }
    }

    async fn import(&self, selection: Selection) -> Result<Repository, RemoteError> {
        let repository = self.server.create().await;
        repository.import(&self.remote, &selection).await?;
        self.server.fsck(&repository).await;
        Ok(repository)
    }

    async fn id(&self, revision: &str) -> String {
        self.writer.git(&["rev-parse", &format!("{revision}^{{commit}}")]).await
    }
}

async fn names(repository: &Repository) -> Vec<String> {
    repository.refs().await.unwrap().into_iter().map(|tip| tip.name).collect()
}

fn revision(revision: &str) -> Selection {
    Selection { revision: Some(revision.to_owned()), ..Selection::default() }
}

#[tokio::test]
async fn the_default_branch_comes_with_its_history_and_tags() {
    let case = Case::new().await;
    let imported = case.import(Selection::default()).await.unwrap();
    assert_eq!(names(&imported).await, ["refs/heads/main", "refs/tags/v1"]);
    assert_eq!(imported.default_branch().await.unwrap().as_str(), "main");
    let tip = imported.branch("main").await.unwrap();
    assert_eq!(tip.sha.to_string(), case.id("main").await);
    // And can be cloned and pushed to like any other.
    let client = case.server.clone_of(&imported, "clone").await;
    assert_eq!(client.git(&["rev-list", "--count", "HEAD"]).await, "5");
    client.commit("more", "").await;
    client.git(&["push", "-q", "origin", "main"]).await;
}

#[tokio::test]
async fn a_revision_becomes_the_default_branch() {
    let case = Case::new().await;
    let imported = case.import(revision("feature/x")).await.unwrap();
    assert_eq!(imported.default_branch().await.unwrap().as_str(), "feature/x");
    assert_eq!(names(&imported).await[0], "refs/heads/feature/x");

    for tag in ["v1", "refs/tags/v1"] {
        let imported = case.import(revision(tag)).await.unwrap();
        assert_eq!(names(&imported).await, ["refs/heads/main", "refs/tags/v1"]);
        let tip = imported.branch("main").await.unwrap();
        assert_eq!(tip.sha.to_string(), case.id("v1").await);
    }
    let commit = case.id("main~2").await;
    let named = Selection { branch: BranchName::parse("trunk").ok(), ..revision(&commit) };
    let imported = case.import(named).await.unwrap();
    assert_eq!(imported.default_branch().await.unwrap().as_str(), "trunk");
    assert_eq!(imported.branch("trunk").await.unwrap().sha.to_string(), commit);
}

#[tokio::test]
async fn everything_comes_when_everything_is_asked_for() {
    let case = Case::new().await;
    let all = |revision: Option<&str>, branch: Option<&str>| Selection {
        revision: revision.map(str::to_owned),
        branch: branch.map(|branch| BranchName::parse(branch).unwrap()),
        all_branches: true,
        ..Selection::default()
    };
    let imported = case.import(all(Some("feature/x"), None)).await.unwrap();
    let everything = ["refs/heads/feature/x", "refs/heads/main", "refs/tags/light", "refs/tags/v1"];
    assert_eq!(names(&imported).await, everything);
    assert_eq!(imported.default_branch().await.unwrap().as_str(), "feature/x");

    let imported = case.import(all(None, Some("trunk"))).await.unwrap();
    assert_eq!(names(&imported).await.len(), 5);
    assert_eq!(
        imported.branch("trunk").await.unwrap().sha,
        imported.branch("main").await.unwrap().sha
    );
    let taken = case.import(all(Some("feature/x"), Some("main"))).await;
    assert!(matches!(taken, Err(RemoteError::Git(GitError::InvalidRequest(_)))), "{taken:?}");
}

#[tokio::test]
async fn a_shallow_import_can_be_read_cloned_and_written_to() {
    let case = Case::new().await;
    let depth = NonZeroU32::new(2);
    let imported = case.import(Selection { depth, ..Selection::default() }).await.unwrap();
    let query = ListCommits { limit: 10, with_total: true, ..ListCommits::default() };
    let listed = imported.list_commits(query).await.unwrap();
    assert_eq!((listed.commits.len(), listed.total), (2, Some(2)));
    assert!(listed.commits[1].parents.is_empty());
    let compared = imported.compare("main~1", "main").await.unwrap();
    assert_eq!(compared.ahead_by, 1);

    let client = case.server.clone_of(&imported, "clone").await;
    assert_eq!(client.git(&["rev-list", "--count", "HEAD"]).await, "2");
    client.commit("more", "").await;
    client.git(&["push", "-q", "origin", "main"]).await;
    case.server.fsck(&imported).await;
    imported.upkeep().await.unwrap();
    let again = case.server.clone_of(&imported, "again").await;
    assert_eq!(again.git(&["rev-list", "--count", "HEAD"]).await, "3");
}

#[tokio::test]
async fn an_empty_source_makes_an_empty_repository() {
    let case = Case::new().await;
    let empty = case.server.create().await;
    let remote = Remote { url: case.server.url(&empty), ..case.remote.clone() };
    let repository = case.server.create().await;
    repository.import(&remote, &Selection::default()).await.unwrap();
    assert_eq!(names(&repository).await, [""; 0]);
    let wanted = repository.import(&remote, &revision("main")).await;
    assert!(matches!(wanted, Err(RemoteError::NoSuchRevision { .. })), "{wanted:?}");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let case = Case::new().await;
    for missing in ["nothing", "refs/heads/v1", "refs/tags/main", "-x", "a..b", "main~1", ""] {
        let failed = case.import(revision(missing)).await;
        assert!(matches!(failed, Err(RemoteError::NoSuchRevision { .. })), "{missing}: {failed:?}");
    }
    let unknown = case.import(revision(&"1".repeat(40))).await;
    assert!(matches!(unknown, Err(RemoteError::NoSuchRevision { .. })), "{unknown:?}");

    let url = case.remote.url.replace(case.source.id().as_str(), "nothing");
    let repository = case.server.create().await;
    let remote = Remote { url, ..case.remote.clone() };
    let failed = repository.import(&remote, &Selection::default()).await;
    assert!(matches!(failed, Err(RemoteError::NotFound(_))), "{failed:?}");
}

/// A server with one answer to everything.
async fn answers(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn a_source_that_wants_a_credential_or_is_no_repository_is_said_to_be_so() {
    let case = Case::new().await;
    let repository = case.server.create().await;
    let import = async |answer| {
        let remote = Remote { url: answers(answer).await, ..case.remote.clone() };
        repository.import(&remote, &Selection::default()).await.unwrap_err()
    };
    const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n\
                                Content-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(matches!(import(UNAUTHORIZED).await, RemoteError::Unauthorized(_)));
    const FORBIDDEN: &str =
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(matches!(import(FORBIDDEN).await, RemoteError::Unauthorized(_)));
    const PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 15\r\n\
                        Connection: close\r\n\r\n<html>\n</html>\n";
    let page = import(PAGE).await;
    assert!(matches!(page, RemoteError::NotFound(_) | RemoteError::Failed { .. }), "{page:?}");
}

#[tokio::test]
async fn a_credential_reaches_the_source_and_no_message() {
    let case = Case::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let authorization = Some("Basic c2VjcmV0".to_owned());
    let remote = Remote { url, authorization, ..case.remote.clone() };
    assert!(!format!("{remote:?}").contains("c2VjcmV0"));
    let repository = case.server.create().await;
    let failed = repository.import(&remote, &Selection::default()).await.unwrap_err();
    assert!(!failed.to_string().contains("c2VjcmV0"));
    assert!(asked.await.unwrap().contains("Authorization: Basic c2VjcmV0"));
}

#[tokio::test]
async fn malformed_objects_are_not_imported() {
    let case = Case::new().await;
    // The source takes it, as a careless server would.
    let blob = case.writer.git(&["rev-parse", "main:file"]).await;
    case.writer.write("entry", format!("100644 blob {blob}\t..\n"));
    let input = std::fs::File::open(case.writer.path.join("entry")).unwrap();
    let tree = case.writer.command(&["mktree"]).stdin(input).output().await.unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap().trim().to_owned();
    let evil = case.writer.git(&["commit-tree", "-m", "evil", &tree]).await;
    let judge = Client::at(&case.server.path(&case.source));
    let pack = case.writer.path.join(".git/objects").to_str().unwrap().to_owned();
    std::fs::write(judge.path.join("objects/info/alternates"), pack + "\n").unwrap();
    judge.git(&["update-ref", "refs/heads/evil", &evil]).await;

    let failed = case.import(revision("evil")).await.unwrap_err();
    assert!(matches!(failed, RemoteError::Failed { .. }), "{failed:?}");
}
