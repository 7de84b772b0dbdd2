use freestyle_vm::AptPackage;

use super::*;

#[test]
fn each_layer_has_its_packages_the_innermost_first() {
    let body = json!({"spec": {
        "name": null,
        "aptDeps": ["git", "curl"],
        "snapshot": {
            "aptDeps": ["make", "git", "make"],
            "discriminator": "v2",
            "skipCache": true,
            "snapshot": {
                "discriminator": "asks for nothing",
                "snapshot": {"aptDeps": ["g++"], "vcpuCount": 8, "ports": [], "git": {"config": {}}},
            },
        },
    }});
    let spec = spec(body);
    let packages = spec.layers.iter().map(|layer| {
        layer.setup.packages.iter().map(AptPackage::as_str).collect::<Vec<_>>().join(" ")
    });
    assert_eq!(packages.collect::<Vec<_>>(), ["g++", "make git", "git curl"]);
    let kept: Vec<_> =
        spec.layers.iter().map(|it| (it.discriminator.as_deref(), it.skip_cache)).collect();
    assert_eq!(kept, [(None, false), (Some("v2"), true), (None, false)]);
    assert_eq!(spec.sizes.vcpus, Some(8));
}

#[test]
fn a_layer_stands_on_one_thing() {
    let snapshot = "sc-abcdefghij0123456789";
    let error = refused(json!({"spec": {"snapshot": {"snapshotId": snapshot, "baseImage": {}}}}));
    assert_eq!(error["code"], "CONFLICTING_SPEC_SOURCES_ERROR");
    assert_eq!(
        (&error["depth"], &error["fieldA"], &error["fieldB"]),
        (&json!(1), &json!("snapshotId"), &json!("baseImage")),
    );
    let error = refused(json!({"spec": {"snapshot": {}, "snapshotId": snapshot}}));
    assert_eq!((&error["fieldA"], &error["fieldB"]), (&json!("snapshot"), &json!("snapshotId")));
}

#[test]
fn only_the_innermost_layer_has_sizes() {
    for field in ["vcpuCount", "memSizeGb", "rootfsSizeGb"] {
        let error = refused(json!({"spec": {"snapshot": {field: 4, "snapshot": {}}}}));
        assert_eq!(error["code"], "NON_LEAF_LAYER_FIELD_ERROR");
        assert_eq!((&error["depth"], &error["field"]), (&json!(1), &json!(field)));
    }
}

#[test]
fn a_snapshot_is_the_source_wherever_it_is_named() {
    let id = "sc-abcdefghij0123456789";
    for body in [
        json!({"snapshotId": id}),
        json!({"template": {"snapshotId": id}}),
        json!({"spec": {"snapshotId": id, "name": null}}),
        json!({"spec": {"snapshot": {"snapshotId": id}}}),
    ] {
        assert_eq!(spec(body.clone()).source, Source::Snapshot(id.parse().unwrap()), "{body}");
    }
    for malformed in ["", "sc-", "abcdefghij0123456789", "sc-ABCDEFGHIJ0123456789"] {
        assert_eq!(refused(json!({"snapshotId": malformed}))["code"], "INVALID_SNAPSHOT_ID");
    }
    let both = message(json!({"snapshotId": id, "template": {"snapshotId": id}}));
    assert!(both.contains("snapshotId and template.snapshotId"), "{both}");
    assert_eq!(spec(json!({"snapshotId": null})).source, Source::BaseImage);
}

#[test]
fn layers_are_bounded() {
    let nested = |depth| (0..depth).fold(json!({}), |inner, _| json!({"snapshot": inner}));
    assert!(create(json!({"spec": nested(MAX_LAYERS - 1)})).is_ok());
    assert!(message(json!({"spec": nested(MAX_LAYERS)})).contains("layers"));
}
