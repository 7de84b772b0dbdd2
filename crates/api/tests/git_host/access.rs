//! Who may clone and who may push, and what the others are told.

use freestyle_store::RepositoryLevel::{Read, Write};

use crate::support::Host;

#[tokio::test]
async fn every_credential_works_in_every_place_that_git_has_for_it() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let user = host.user().await;
    host.grant(&user, &repo, Write).await;
    let plain = host.plain_url(repo.id().as_str());
    for (name, secret) in [("key", &host.secret), ("token", &user.token)] {
        let header = format!("http.extraHeader=Authorization: Bearer {secret}");
        let client = host.client(name);
        client.git(&["-c", &header, "clone", "-q", &plain, "bearer"]).await;
        client.git(&["clone", "-q", &host.url(secret, &repo), "basic"]).await;
        let suffixed = format!("{}.git", host.url(secret, &repo));
        client.git(&["clone", "-q", &suffixed, "suffixed"]).await;
        // Whatever the user name.
        let other = host.url(secret, &repo).replace("x-access-token", "someone");
        client.git(&["clone", "-q", &other, "other"]).await;
        let push = ["-C", "basic", "push", "-q", "origin", &format!("main:{name}")];
        client.git(&push).await;
    }
    assert_eq!(repo.git().branches().await.unwrap().len(), 3);
}

#[tokio::test]
async fn who_may_only_read_is_told_so_when_pushing() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let user = host.user().await;
    host.grant(&user, &repo, Read).await;
    let client = host.client("reader");
    client.git(&["clone", "-q", &host.url(&user.token, &repo), "."]).await;
    client.commit("more", "").await;
    let message = client.refused(&["push", "origin", "main"]).await;
    assert!(message.contains("You may read this repository, and not push to it"), "{message}");
    assert!(message.contains("403"), "{message}");

    let scope = host.store.account_scope(&host.account);
    scope.update_git_grant(&user.id, repo.id().as_str(), Write).await.unwrap();
    client.git(&["push", "-q", "origin", "main"]).await;
}

#[tokio::test]
async fn a_public_repository_is_read_by_all_and_written_by_few() {
    let host = Host::start().await;
    let repo = host.filled(true).await;
    let plain = host.plain_url(repo.id().as_str());
    let client = host.client("anybody");
    client.git(&["clone", "-q", &plain, "."]).await;
    client.commit("more", "").await;
    let message = client.refused(&["push", "origin", "main"]).await;
    assert!(message.contains("could not read Username"), "{message}");

    let stranger = host.user().await;
    client.git(&["fetch", "-q", &host.url(&stranger.token, &repo)]).await;
    let message = client.refused(&["push", &host.url(&stranger.token, &repo), "main"]).await;
    assert!(message.contains("not push to it"), "{message}");
    client.git(&["push", "-q", &host.url(&host.secret, &repo), "main"]).await;
}

#[tokio::test]
async fn nobody_learns_which_repositories_exist() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let user = host.user().await;
    let other = host.store.system().create_account("other").await.unwrap();
    let (_, foreign) = host.store.account_scope(&other.id).create_api_key("x").await.unwrap();
    let basic = |secret: &str| {
        use base64::Engine;
        let pair = format!("x:{secret}");
        format!("Authorization: Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let without_trace = |answer: String| {
        let lines = answer.lines().filter(|line| !line.starts_with("x-freestyle-trace-id"));
        lines.filter(|line| !line.starts_with("date")).map(str::to_owned).collect::<Vec<_>>()
    };
    let unknown = repo.id().as_str().replace(|c: char| c.is_ascii_digit(), "0");
    for service in ["git-upload-pack", "git-receive-pack"] {
        for (header, status) in [
            (String::new(), "401"),
            (basic("fsi_wrong"), "401"),
            (basic(&user.token), "404"),
            (basic(foreign.expose()), "404"),
        ] {
            let ask = async |id: &str| {
                let path = format!("/{id}/info/refs?service={service}");
                without_trace(host.get(&path, &header).await)
            };
            let answer = ask(repo.id().as_str()).await;
            assert!(answer[0].contains(status), "{header} {answer:?}");
            assert_eq!(answer, ask(&unknown).await);
            assert_eq!(answer, ask("no-id-at-all").await);
        }
    }
}

#[tokio::test]
async fn git_says_what_is_wrong() {
    let host = Host::start().await;
    let repo = host.create(false).await;
    let client = host.client("client");
    let url = host.url(&host.secret, &repo);
    let missing = url.replace(repo.id().as_str(), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    let owner = url.replace(repo.id().as_str(), &format!("owner/{}", repo.id()));
    for url in [missing.as_str(), &format!("{url}/tree/main"), &owner] {
        let message = client.refused(&["clone", url, "x"]).await;
        assert!(message.contains("not found"), "{message}");
    }
    let message = client.refused(&["clone", &missing, "x"]).await;
    assert!(message.contains("remote: There is no such repository"), "{message}");
    let message = client.refused(&["clone", &host.url("fsi_wrong", &repo), "x"]).await;
    assert!(message.contains("it is unknown or was revoked"), "{message}");
    assert!(message.contains("Authentication failed"), "{message}");
}

#[tokio::test]
async fn what_is_revoked_opens_nothing_from_the_next_request_on() {
    let host = Host::start().await;
    let repo = host.filled(false).await;
    let user = host.user().await;
    host.grant(&user, &repo, Write).await;
    let client = host.client("client");
    client.git(&["clone", "-q", &host.url(&user.token, &repo), "."]).await;

    let scope = host.store.account_scope(&host.account);
    scope.revoke_git_grant(&user.id, repo.id().as_str()).await.unwrap();
    let message = client.refused(&["fetch"]).await;
    assert!(message.contains("no such repository"), "{message}");
    host.grant(&user, &repo, Read).await;
    client.git(&["fetch", "-q"]).await;
    scope.revoke_token(&user.id, &user.token_id).await.unwrap();
    let message = client.refused(&["fetch"]).await;
    assert!(message.contains("unknown or was revoked"), "{message}");

    let (key, secret) = scope.create_api_key("other").await.unwrap();
    let url = host.url(secret.expose(), &repo);
    client.git(&["fetch", "-q", &url]).await;
    assert!(scope.revoke_api_key(&key.id).await.unwrap());
    client.refused(&["fetch", "-q", &url]).await;
    host.repos.delete(&host.account, repo.id()).await.unwrap();
    let message = client.refused(&["fetch", "-q", &host.url(&host.secret, &repo)]).await;
    assert!(message.contains("no such repository"), "{message}");
}
