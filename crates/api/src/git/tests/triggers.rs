//! Triggers by API; what is delivered is tested in `webhooks`.

use serde_json::{Value, json};

use super::{Api, assert_refused};

fn trigger(endpoint: &str) -> Value {
    json!({
        "trigger": {"event": "push", "branches": ["main"], "globs": ["*.js"]},
        "action": {"action": "webhook", "endpoint": endpoint},
    })
}

#[tokio::test]
async fn a_trigger_is_made_listed_and_deleted() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let (status, made) = repo.post("/trigger", trigger("https://x.invalid/hook")).await;
    assert_eq!(status, 200, "{made}");
    let bare =
        json!({"trigger": {"event": "push"}, "action": trigger("http://x.invalid")["action"]});
    assert_eq!(repo.post("/trigger", bare).await.0, 200);

    let listed = repo.got("/trigger").await;
    let first = &listed["triggers"][0];
    assert_eq!((&first["id"], &first["repositoryId"]), (&made["triggerId"], &json!(repo.id)));
    assert_eq!(first["trigger"], trigger("")["trigger"]);
    assert_eq!(first["action"], trigger("https://x.invalid/hook")["action"]);
    assert_eq!(first["managed"], false);
    assert_eq!(listed["triggers"][1]["trigger"], json!({"event": "push"}));

    let path = repo.path(&format!("/trigger/{}", made["triggerId"].as_str().unwrap()));
    assert_eq!(api.ask("DELETE", &path, Value::Null).await, (200, json!({})));
    assert_refused(&api.ask("DELETE", &path, Value::Null).await, 404, "NOT_FOUND", "again");
    assert_eq!(repo.got("/trigger").await["triggers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_to_be_delivered_can_be_looked_at_and_repeated() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let (_, made) = repo.post("/trigger", trigger("https://x.invalid/hook")).await;
    let id = made["triggerId"].as_str().unwrap();
    let commit = repo.commit("main", "a.js", "1").await;
    repo.commit("other", "a.js", "1").await;

    let deliveries = format!("/trigger/{id}/deliveries");
    let listed = repo.got(&deliveries).await;
    let [delivery] = listed["deliveries"].as_array().unwrap().as_slice() else {
        panic!("{listed}")
    };
    assert_eq!((&delivery["branch"], &delivery["commit"]), (&json!("main"), &json!(commit)));
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("pending"), &json!([])));

    let again = format!("{deliveries}/{}/redeliver", delivery["id"].as_str().unwrap());
    let (status, again) = repo.post(&again, Value::Null).await;
    assert_eq!(status, 200, "{again}");
    let listed = repo.got(&format!("{deliveries}?limit=1")).await;
    assert_eq!(listed["deliveries"][0]["id"], again["deliveryId"]);
    assert_eq!(listed["deliveries"][0]["redeliveryOf"], delivery["id"]);
    assert_eq!(repo.got(&format!("{deliveries}?offset=2")).await["deliveries"], json!([]));

    for missing in ["/trigger/trg-x/deliveries", "/trigger/trg-aaaaaaaaaaaaaaaaaaaa/deliveries"] {
        assert_refused(&repo.get(missing).await, 404, "NOT_FOUND", missing);
    }
    let missing = format!("{deliveries}/dlv-aaaaaaaaaaaaaaaaaaaa/redeliver");
    assert_refused(&repo.post(&missing, Value::Null).await, 404, "NOT_FOUND", &missing);
    assert_refused(&repo.get(&format!("{deliveries}?x=1")).await, 400, "GIT_INVALID_REQUEST", "x");
}

#[tokio::test]
async fn a_trigger_that_makes_no_sense_is_refused() {
    let api = Api::start().await;
    let repo = api.create(json!({})).await;
    let with = |trigger: Value| json!({"trigger": trigger, "action": self::trigger("https://x.invalid")["action"]});
    for body in [
        json!({}),
        json!({"trigger": {"event": "push"}}),
        with(json!({"event": "pull"})),
        with(json!({"event": "push", "tags": []})),
        with(json!({"event": "push", "globs": ["a["]})),
        with(json!({"event": "push", "branches": [""]})),
        with(json!({"event": "push", "branches": vec!["x"; 101]})),
        trigger("http://127.0.0.1/"),
        trigger("http://169.254.169.254/latest"),
        trigger("https://user:secret@example.com/"),
        trigger("gopher://example.com/"),
        trigger(""),
        json!({"trigger": {"event": "push"}, "action": {"action": "email", "endpoint": "x"}}),
    ] {
        let answer = repo.post("/trigger", body.clone()).await;
        assert_refused(&answer, 400, "GIT_INVALID_REQUEST", &body.to_string());
    }
    assert_eq!(repo.got("/trigger").await["triggers"], json!([]));
}

#[tokio::test]
async fn triggers_are_for_the_account_of_the_repository() {
    let api = Api::start().await;
    // Whoever may read it may not see who is told of it.
    let repo = api.create(json!({"public": true})).await;
    let stranger = api.stranger().await;
    let (path, body) = (repo.path("/trigger"), trigger("https://x.invalid"));
    for (method, path, body) in [
        ("GET", path.clone(), Value::Null),
        ("POST", path.clone(), body),
        ("DELETE", format!("{path}/trg-aaaaaaaaaaaaaaaaaaaa"), Value::Null),
        ("GET", format!("{path}/trg-aaaaaaaaaaaaaaaaaaaa/deliveries"), Value::Null),
    ] {
        let answer = api.ask_as(&stranger, method, &path, body).await;
        assert_refused(&answer, 404, "REPOSITORY_NOT_FOUND", &path);
    }
    let unknown = path.replace(&repo.id, "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
    let answer = api.ask("GET", &unknown, Value::Null).await;
    assert_refused(&answer, 404, "REPOSITORY_NOT_FOUND", &unknown);
}

#[tokio::test]
async fn the_git_host_is_told() {
    let api = Api::start().await;
    let answer = api.ask("GET", "/git/v1/host", Value::Null).await;
    assert_eq!(answer, (200, json!({"url": "http://git.example.com"})));
}
