mod fuzz;
mod layers;
mod setup;

use freestyle_store::{DeleteEvent, Persistence};
use freestyle_vm::setup::{Phase, Source};
use freestyle_vm::{MAX_MEMORY_MIB, MAX_VCPUS, MIN_MEMORY_MIB, Sizes};
use serde_json::{Value, json};

use super::place::{MAX_LAYERS, NOT_SUPPORTED};
use super::*;

fn create(body: Value) -> Result<CreateVm, ApiError> {
    decode_create(serde_json::from_value(body).expect("the body has the right types"))
}

fn spec(body: Value) -> Spec {
    let shown = body.to_string();
    create(body).expect(&shown).spec
}

fn ensure(body: Value) -> Result<EnsureSnapshot, ApiError> {
    decode_ensure(serde_json::from_value(body).expect("the body has the right types"))
}

/// What each layer is about, innermost first.
fn phases(spec: &Spec) -> Vec<Vec<Phase>> {
    spec.layers.iter().map(|layer| layer.setup.phases()).collect()
}

/// The error as it goes out.
fn refused(body: Value) -> Value {
    let shown = body.to_string();
    let error = create(body).expect_err(&shown);
    serde_json::to_value(error.into_body()).unwrap()
}

fn message(body: Value) -> String {
    let error = refused(body);
    assert_eq!(error["code"], "CREATE_VM_BAD_REQUEST", "{error}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn nothing_asked_for_is_the_default_vm() {
    // What the SDK and the CLI send without options.
    for body in [json!({}), json!({"spec": {"aptDeps": [], "name": null}})] {
        let vm = create(body).unwrap();
        assert_eq!(vm.name, None);
        assert_eq!(vm.spec.sizes, Sizes::default());
        assert_eq!(vm.persistence, Persistence::Persistent);
        assert_eq!(vm.idle_timeout, Some(DEFAULT_IDLE_TIMEOUT));
        assert!(!vm.recreate && phases(&vm.spec) == [[]]);
    }
}

#[test]
fn everything_that_can_be_asked_for() {
    let vm = create(json!({
        "name": "build",
        "idleTimeoutSeconds": null,
        "activityThresholdBytes": 1000,
        "waitForReadySignal": false,
        "readySignalTimeoutSeconds": 60,
        "persistence": {"type": "sticky", "priority": 7},
        "recreate": true,
        "ports": null,
        "workdir": "/",
        "template": {"vcpuCount": 2, "memSizeGb": 0.5, "rootfsSizeGb": 10},
    }))
    .unwrap();
    assert_eq!(vm.name.as_deref(), Some("build"));
    assert_eq!(vm.idle_timeout, None);
    assert_eq!(vm.activity_threshold_bytes, Some(1000));
    assert_eq!(vm.persistence, Persistence::Sticky { priority: 7 });
    assert!(vm.recreate);
    let sizes = (vm.spec.sizes.vcpus, vm.spec.sizes.memory_mib, vm.spec.sizes.disk_mib);
    assert_eq!(sizes, (Some(2), Some(512), Some(10 * 1024)));
}

#[test]
fn the_outer_setting_wins_and_null_is_a_setting() {
    let seconds = |body| create(body).unwrap().idle_timeout.map(|timeout| timeout.as_secs());
    let inner = json!({"idleTimeoutSeconds": 20});
    assert_eq!(seconds(json!({"spec": inner})), Some(20));
    assert_eq!(seconds(json!({"idleTimeoutSeconds": 10, "spec": inner})), Some(10));
    assert_eq!(seconds(json!({"idleTimeoutSeconds": null, "spec": inner})), None);
    let layers = json!({"idleTimeoutSeconds": 5, "snapshot": inner});
    assert_eq!(seconds(json!({"spec": layers})), Some(5));
}

#[test]
fn sizes_out_of_bounds_have_their_codes_and_bounds() {
    let size = |field: &str, value: Value| refused(json!({"template": {field: value}}));
    for (field, value, code, got) in [
        ("vcpuCount", json!(0), "CREATE_VM_VCPU_OUT_OF_RANGE", json!(0)),
        ("vcpuCount", json!(-2), "CREATE_VM_VCPU_OUT_OF_RANGE", json!(-2)),
        ("vcpuCount", json!(64), "CREATE_VM_VCPU_OUT_OF_RANGE", json!(64)),
        ("vcpuCount", json!(1e300), "CREATE_VM_VCPU_OUT_OF_RANGE", json!(1e300)),
        ("vcpuCount", json!(3), "CREATE_VM_VCPU_NOT_POWER_OF_TWO", json!(3)),
        ("vcpuCount", json!(1.5), "CREATE_VM_VCPU_NOT_POWER_OF_TWO", json!(1.5)),
        ("memSizeGb", json!(0), "CREATE_VM_MEM_OUT_OF_RANGE", json!(0)),
        ("memSizeGb", json!(-1), "CREATE_VM_MEM_OUT_OF_RANGE", json!(-1024)),
        ("memSizeGb", json!(0.25), "CREATE_VM_MEM_OUT_OF_RANGE", json!(256)),
        ("memSizeGb", json!(128), "CREATE_VM_MEM_OUT_OF_RANGE", json!(131_072)),
        ("memSizeGb", json!(3), "CREATE_VM_MEM_NOT_POWER_OF_TWO", json!(3072)),
        ("memSizeGb", json!(1.0001), "CREATE_VM_MEM_NOT_POWER_OF_TWO", json!(1.0001 * 1024.0)),
        ("rootfsSizeGb", json!(1), "CREATE_VM_ROOTFS_OUT_OF_RANGE", json!(1024)),
        ("rootfsSizeGb", json!(-1), "CREATE_VM_ROOTFS_OUT_OF_RANGE", json!(-1024)),
        ("rootfsSizeGb", json!(4096), "CREATE_VM_ROOTFS_OUT_OF_RANGE", json!(4_194_304)),
    ] {
        let error = size(field, value);
        assert_eq!((&error["code"], &error["got"]), (&json!(code), &got), "{error}");
    }
    assert_eq!(size("vcpuCount", json!(64))["max"], MAX_VCPUS);
    let memory = size("memSizeGb", json!(0));
    let bounds = (&memory["min"], &memory["max"]);
    assert_eq!(bounds, (&json!(MIN_MEMORY_MIB), &json!(MAX_MEMORY_MIB)));
}

#[test]
fn sizes_are_named_in_one_place() {
    let vm = create(json!({"vcpuCount": 2})).unwrap();
    assert_eq!(vm.spec.sizes.vcpus, Some(2));
    let both = message(json!({"vcpuCount": 2, "template": {"vcpuCount": 2}}));
    assert!(both.contains("vcpuCount and template.vcpuCount"), "{both}");
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_accepted_when_empty() {
    for field in NOT_SUPPORTED {
        for empty in [json!(null), json!([]), json!({}), json!({"a": {}, "b": []})] {
            for body in [json!({*field: empty}), json!({"spec": {*field: empty}})] {
                let accepted = *field != "baseImage" || empty.is_null();
                assert_eq!(create(body.clone()).is_ok(), accepted, "{body}");
            }
        }
        for full in [json!([1]), json!({"a": 1}), json!("x"), json!(false)] {
            let top = message(json!({*field: full}));
            assert!(top.contains(field) && top.contains("not supported"), "{top}");
            let layer = message(json!({"spec": {"snapshot": {*field: full}}}));
            assert!(layer.contains(&format!("spec.snapshot.{field}")), "{layer}");
        }
    }
    let image = message(json!({"baseImage": {"dockerfileContent": "FROM debian"}}));
    assert!(image.contains("no Docker") && image.contains("aptDeps"), "{image}");
}

#[test]
fn unknown_fields_are_refused_by_name() {
    assert!(message(json!({"vcpus": 2})).contains("unknown field vcpus"));
    assert!(message(json!({"spec": {"foo": null}})).contains("unknown field spec.foo"));
    let long = message(json!({"x".repeat(5000): 1}));
    assert!(long.len() < 200);
}

#[test]
fn names_are_short_printable_and_agree() {
    assert!(create(json!({"name": "é".repeat(255)})).is_ok());
    for bad in [String::new(), "x".repeat(256), "a\nb".to_owned(), "\u{7f}".to_owned()] {
        assert!(message(json!({"name": bad})).starts_with("name "));
    }
    assert!(create(json!({"name": "a", "spec": {"name": "a"}})).is_ok());
    assert!(message(json!({"name": "a", "spec": {"name": "b"}})).contains("differ"));
    assert!(message(json!({"spec": {"snapshot": {"name": "b"}}})).contains("outermost"));
}

#[test]
fn settings_without_sense_are_refused() {
    for (body, named) in [
        (json!({"idleTimeoutSeconds": 0}), "idleTimeoutSeconds"),
        (json!({"readySignalTimeoutSeconds": 0}), "readySignalTimeoutSeconds"),
        (json!({"activityThresholdBytes": u64::MAX}), "activityThresholdBytes"),
        (json!({"persistence": {"type": "sticky", "priority": 11}}), "priority"),
        (json!({"aptDeps": ["--purge"]}), "aptDeps"),
        (json!({"aptDeps": ["git; reboot"]}), "aptDeps"),
        (json!({"template": {}, "spec": {}}), "template and spec"),
    ] {
        let message = message(body);
        assert!(message.contains(named), "{message}");
    }
    let packages: Vec<_> = (0..=1000).map(|number| format!("package-{number}")).collect();
    assert!(message(json!({"aptDeps": packages})).contains("more than"));
}

#[test]
fn ephemeral_vms_go_when_they_stop_unless_told_otherwise() {
    let event = |persistence: Value| {
        let vm = create(json!({"persistence": persistence})).unwrap();
        let Persistence::Ephemeral { delete_event } = vm.persistence else { panic!("{vm:?}") };
        delete_event
    };
    assert_eq!(event(json!({"type": "ephemeral"})), DeleteEvent::OnStop);
    let on_suspend = json!({"type": "ephemeral", "deleteEvent": "OnSuspend"});
    assert_eq!(event(on_suspend), DeleteEvent::OnSuspend);
}
