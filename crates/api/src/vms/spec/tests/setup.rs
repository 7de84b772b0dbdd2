use std::time::Duration;

use super::*;

#[test]
fn what_the_sdk_makes_of_commands_is_a_layer() {
    let run = |number: u32, after: Option<&str>| {
        let mut service = json!({
            "name": format!("freestyle-run-command-{number}"),
            "mode": "oneshot",
            "deleteAfterSuccess": true,
            "workdir": "/root",
            "env": {"HOME": "/root"},
            "exec": [format!("/bin/bash /opt/freestyle/scripts/freestyle-run-command-{number}.sh")],
        });
        if let Some(after) = after {
            service["after"] = json!([after]);
            service["requires"] = json!([after]);
        }
        service
    };
    let script = json!({"content": "#!/bin/bash\ntrue", "encoding": "utf-8"});
    let layer = json!({
        "aptDeps": ["curl"],
        "systemd": {"services": [run(1, None), run(2, Some("freestyle-run-command-1.service"))]},
        "additionalFiles": {
            "/opt/freestyle/scripts/freestyle-run-command-1.sh": script,
            "/opt/freestyle/scripts/freestyle-run-command-2.sh": script,
        },
    });
    let wanted = [Phase::Packages, Phase::Files, Phase::Systemd];
    assert_eq!(phases(&spec(json!({"spec": layer}))), [wanted]);
    let below = spec(json!({"spec": {"name": null, "snapshot": layer}}));
    assert_eq!(phases(&below), [wanted.to_vec(), vec![]]);
    assert_eq!(phases(&ensure(json!({"spec": layer})).unwrap().spec), [wanted]);
    assert_eq!(phases(&ensure(json!({"template": layer})).unwrap().spec), [wanted]);
    assert_eq!(phases(&ensure(json!({})).unwrap().spec), [vec![]]);
}

#[test]
fn a_vm_is_set_up_as_the_top_level_and_the_outermost_layer_say_together() {
    let body = json!({
        "users": [{"name": "top"}],
        "additionalFiles": {"/both": {"content": "top"}},
        "git": {"config": {"user": {"name": "top"}}, "repos": [{"repo": "https://a/b", "path": "x"}]},
        "waitForReadySignal": false,
        "spec": {
            "users": [{"name": "layer"}],
            "additionalFiles": {"/both": {"content": "layer"}, "relative": {"content": ""}},
            "git": {"config": {"user": {"name": "layer", "email": "a@b"}}},
            "workdir": "/srv",
            "readySignalTimeoutSeconds": 7,
            "snapshot": {"users": [{"name": "inner"}], "waitForReadySignal": false},
        },
    });
    let separately = json!({
        "users": [{"name": "layer"}, {"name": "top"}],
        "additionalFiles": {"/both": {"content": "top"}, "/srv/relative": {"content": ""}},
        "git": {
            "config": {"user": {"name": "top", "email": "a@b"}},
            "repos": [{"repo": "https://a/b", "path": "/srv/x"}],
        },
        "workdir": "/srv",
        "waitForReadySignal": false,
        "readySignalTimeoutSeconds": 7,
    });
    let of = |body: Value| spec(body).layers.pop().unwrap().setup;
    let together = spec(body);
    assert_eq!(together.layers.last().unwrap().setup, of(separately));
    assert_eq!(together.layers[0].setup, of(json!({"users": [{"name": "inner"}]})));

    // A template is below the VM, as it was when it was a snapshot of its own.
    let template = spec(json!({"users": [{"name": "a"}], "template": {"users": [{"name": "b"}]}}));
    assert_eq!(template.layers.len(), 2);
    assert_eq!(template.layers[0].setup, of(json!({"users": [{"name": "b"}]})));
}

#[test]
fn waiting_is_asked_for_outside_first() {
    let ready = |body: Value| spec(body).layers.pop().unwrap().setup.ready;
    assert!(ready(json!({})).wait);
    let inner = json!({"waitForReadySignal": true, "readySignalTimeoutSeconds": 5});
    let outer = json!({"waitForReadySignal": false, "spec": inner});
    assert!(!ready(outer.clone()).wait);
    assert_eq!(ready(outer).timeout, Some(Duration::from_secs(5)));
}

/// Every code that protocol section 21 has for users, groups and units.
#[test]
fn what_cannot_be_set_up_is_refused_with_its_code() {
    let group = |name: &str| json!({"groups": [{"name": name}]});
    let user = |fields: Value| {
        let mut user = json!({"name": "dev"});
        user.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"users": [user]})
    };
    let service = |fields: Value| {
        let mut service = json!({"name": "app", "mode": "service", "exec": ["/bin/app"]});
        service.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({"systemd": {"services": [service]}})
    };
    let twice = |mut body: Value, list: &str| {
        let items = body.pointer_mut(list).unwrap().as_array_mut().unwrap();
        items.push(items[0].clone());
        body
    };
    let cases = [
        ("GROUP_NAME_EMPTY", group("")),
        ("GROUP_NAME_TOO_LONG", group(&"x".repeat(33))),
        ("GROUP_NAME_INVALID_CHARS", group("a b")),
        ("GROUP_NAME_RESERVED", group("root")),
        ("DUPLICATE_GROUP_NAME", twice(group("dev"), "/groups")),
        ("DUPLICATE_USER_NAME", twice(user(json!({})), "/users")),
        ("USER_GROUP_EMPTY", user(json!({"groups": [""]}))),
        ("USER_SYSTEM_FLAG_MISMATCH", user(json!({"system": true, "uid": 1000}))),
        ("USER_UID_OUT_OF_RANGE", user(json!({"uid": 65_536}))),
        ("USER_UID_OUT_OF_RANGE", user(json!({"uid": -1}))),
        ("USER_HOME_INVALID", user(json!({"home": "home"}))),
        ("USER_SHELL_INVALID", user(json!({"shell": "bash"}))),
        ("VALIDATION_ERROR", user(json!({"name": "a:b"}))),
        ("SERVICE_NAME_EMPTY", service(json!({"name": ""}))),
        ("SERVICE_NAME_TOO_LONG", service(json!({"name": "x".repeat(201)}))),
        ("SERVICE_NAME_INVALID_PREFIX", service(json!({"name": "-app"}))),
        ("SERVICE_NAME_INVALID_CHARS", service(json!({"name": "a/b"}))),
        ("SERVICE_ALREADY_EXISTS", twice(service(json!({})), "/systemd/services")),
        ("SERVICE_ALREADY_EXISTS", service(json!({"name": "freestyle-agent"}))),
        ("EXEC_EMPTY", service(json!({"exec": []}))),
        ("EXEC_EMPTY", service(json!({"exec": [" "]}))),
        ("ENV_KEY_EMPTY", service(json!({"env": {"": "x"}}))),
        ("ENV_KEY_CONTAINS_EQUALS", service(json!({"env": {"a=b": "x"}}))),
        ("AFTER_ARRAY_CONTAINS_EMPTY", service(json!({"after": [""]}))),
        ("REQUIRES_ARRAY_CONTAINS_EMPTY", service(json!({"requires": [""]}))),
        ("ON_FAILURE_ARRAY_CONTAINS_EMPTY", service(json!({"onFailure": [""]}))),
        ("WANTED_BY_EMPTY", service(json!({"wantedBy": []}))),
        ("WANTED_BY_EMPTY", service(json!({"wantedBy": [""]}))),
        ("USER_EMPTY", service(json!({"user": ""}))),
        ("GROUP_EMPTY", service(json!({"group": ""}))),
        ("WORKDIR_EMPTY", service(json!({"workdir": ""}))),
        ("WORKDIR_EMPTY", json!({"workdir": ""})),
        ("VALIDATION_ERROR", service(json!({"exec": ["/bin/app 'x"]}))),
        ("VALIDATION_ERROR", service(json!({"deleteAfterSuccess": true}))),
    ];
    for (code, body) in cases {
        for body in [body.clone(), json!({"spec": body}), json!({"spec": {"snapshot": body}})] {
            let error = refused(body);
            assert_eq!(error["code"], code, "{error}");
            let error = error["message"].as_str().unwrap().to_owned();
            assert!(error.len() < 500, "{error}");
        }
        let error = ensure(json!({"spec": body})).unwrap_err();
        assert_eq!(error.into_body().code, code);
    }
    let named = refused(json!({"spec": {"snapshot": group("root")}}))["message"].to_string();
    assert!(named.contains("spec.snapshot.groups: group root"), "{named}");
    let exists = refused(service(json!({"name": "freestyle-agent"})));
    assert_eq!(exists["serviceName"], "freestyle-agent");
}

#[test]
fn files_and_repositories_are_checked() {
    let file = |path: &str, content: &str, encoding: &str| json!({"additionalFiles": {path: {"content": content, "encoding": encoding}}});
    assert!(create(file("/a", "aGk=", "base64")).is_ok());
    for (bad, named) in [
        (file("/a", "aGk", "base64"), "not base64"),
        (file("/a/", "", "utf-8"), "slash"),
        (file("/a/../b", "", "utf-8"), ".."),
        (file("", "", "utf-8"), "empty"),
        (file("/a\nb", "", "utf-8"), "control"),
        (json!({"gitRepos": [{"repo": "some-id", "path": "/a"}]}), "not available"),
        (json!({"gitRepos": [{"repo": "https://a/b", "path": "/a", "rev": "-b"}]}), "branch"),
    ] {
        let message = message(bad);
        assert!(message.contains(named), "{message}");
    }
    let repo = json!([{"repo": "https://a/b", "path": "/a"}]);
    let both = json!({"gitRepos": repo, "git": {"repos": repo}});
    for body in [both.clone(), json!({"template": both})] {
        assert_eq!(refused(body)["code"], "INVALID_GIT_REPO_SPEC_ERROR");
    }
    assert_eq!(phases(&spec(json!({"gitRepos": repo}))), [[Phase::Git]]);
}

#[test]
fn a_snapshot_to_build_has_the_codes_of_its_own_call() {
    let refused = |body: Value| {
        let error = ensure(body).unwrap_err().into_body();
        (error.code, error.message)
    };
    for (body, named) in [
        (json!({"domains": [1]}), "domains"),
        (json!({"users": []}), "unknown field users"),
        (json!({"spec": {}, "template": {}}), "exclude"),
        (json!({"name": ""}), "name"),
        (json!({"spec": {"aptDeps": ["-y"]}}), "spec.aptDeps"),
        (json!({"spec": {"baseImage": {"dockerfileContent": "FROM x"}}}), "no Docker"),
        (json!({"spec": {"discriminator": "x".repeat(256)}}), "discriminator"),
        (json!({"spec": {"readySignalTimeoutSeconds": 0}}), "readySignalTimeoutSeconds"),
    ] {
        let (code, message) = refused(body);
        assert_eq!(code, "CREATE_SNAPSHOT_BAD_REQUEST", "{message}");
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(refused(json!({"spec": {"snapshotId": "x"}})).0, "INVALID_SNAPSHOT_ID");
    let snapshot = json!({"name": "a", "spec": {"snapshotId": "sc-abcdefghij0123456789"}});
    let snapshot = ensure(snapshot).unwrap();
    assert_eq!(snapshot.name.as_deref(), Some("a"));
    assert!(matches!(snapshot.spec.source, Source::Snapshot(_)));
    assert_eq!(snapshot.spec.layers.len(), 1);
}
