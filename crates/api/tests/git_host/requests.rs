//! Requests that no git sends.

use crate::support::Host;

fn bearer(host: &Host) -> String {
    format!("Authorization: Bearer {}", host.secret)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_words() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let id = repo.id();
    for (path, expected, words) in [
        (format!("/{id}/info/refs"), "403", "git 1.6.6 or newer"),
        (format!("/{id}/HEAD"), "403", "git 1.6.6 or newer"),
        (format!("/{id}/objects/info/packs"), "403", "git 1.6.6 or newer"),
        (format!("/{id}/info/refs?service=git-upload-archive"), "400", "no such service"),
        (format!("/{id}/info/lfs/objects/batch"), "501", "no Git LFS"),
        (format!("/{id}/config"), "404", "nothing here"),
        ("/".to_owned(), "404", "nothing here"),
        (format!("/../{id}/info/refs"), "404", "nothing here"),
        (format!("/{id}/git-upload-pack"), "404", "nothing here"),
    ] {
        let answer = host.get(&path, &bearer(&host)).await;
        assert_eq!(status(&answer), expected, "{path}: {answer}");
        assert!(answer.contains(words), "{path}: {answer}");
        assert!(answer.contains("x-freestyle-trace-id: "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_credential_that_cannot_be_read_is_refused() {
    let host = Host::start().await;
    let repo = host.filled(true).await;
    let path = format!("/{}/info/refs?service=git-upload-pack", repo.id());
    // Also where none would be needed: a mistake should not go unnoticed.
    for header in ["Authorization: Basic !!!", "Authorization: Digest x", "Authorization: Bearer x"]
    {
        let answer = host.get(&path, header).await;
        assert_eq!(status(&answer), "401", "{answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: basic realm="), "{answer}");
    }
    let twice = format!("{}\n{}", bearer(&host), bearer(&host));
    assert_eq!(status(&host.get(&path, &twice).await), "400");
    assert_eq!(status(&host.get(&path, "").await), "200");
}

#[tokio::test]
async fn a_body_must_be_what_git_sends() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let post = async |headers: &str, body: &str| {
        let (id, key, length) = (repo.id(), bearer(&host), body.len());
        let request = format!(
            "POST /{id}/git-upload-pack HTTP/1.1\nHost: h\nConnection: close\n{key}\n\
             Content-Length: {length}\n{headers}\n\n{body}"
        );
        host.raw(&request).await
    };
    const KIND: &str = "Content-Type: application/x-git-upload-pack-request";
    assert_eq!(status(&post("X: y", "0000").await), "415");
    assert_eq!(status(&post("Content-Type: application/json", "{}").await), "415");
    let brotli = format!("{KIND}\nContent-Encoding: br");
    assert_eq!(status(&post(&brotli, "0000").await), "415");
    let not_gzip = format!("{KIND}\nContent-Encoding: gzip");
    assert_eq!(status(&post(&not_gzip, "this is no gzip").await), "400");
    assert_eq!(status(&post(KIND, "0000").await), "200");
}

#[tokio::test]
async fn a_body_is_asked_for_only_after_the_credential_was_checked() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let request = |credential: &str| {
        format!(
            "POST /{}/git-upload-pack HTTP/1.1\nHost: h\nConnection: close\n{credential}\n\
             Content-Type: application/x-git-upload-pack-request\nContent-Length: 4\n\
             Expect: 100-continue\n\n",
            repo.id()
        )
    };
    let refused = host.raw(&request("X: y")).await;
    assert_eq!(status(&refused), "401", "{refused}");
    // The body follows at once here, which a server must bear.
    let served = host.raw(&(request(&bearer(&host)) + "0000")).await;
    assert!(served.starts_with("HTTP/1.1 100 Continue"), "{served}");
    assert!(served.contains("HTTP/1.1 200 OK"), "{served}");
}

#[tokio::test]
async fn the_public_keys_are_served_to_everybody() {
    let host = Host::start().await;
    let answer = host.get("/.well-known/jwks.json", "").await;
    assert_eq!(status(&answer), "200");
    let body: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body["keys"][0]["crv"], "Ed25519");
    assert_eq!(body["keys"][0]["alg"], "EdDSA");
}
