use proptest::prelude::*;
use serde_json::json;

use super::*;

fn create(body: Value) -> Result<CreateVm, ApiError> {
    decode(serde_json::from_value(body).expect("the body has the right types"))
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
    let defaults = CreateVm::default();
    // What the SDK and the CLI send without options.
    for body in [json!({}), json!({"spec": {"aptDeps": [], "name": null}})] {
        let vm = create(body).unwrap();
        assert_eq!(vm.name, None);
        assert_eq!(vm.sizing, defaults.sizing);
        assert_eq!(vm.persistence, Persistence::Persistent);
        assert_eq!(vm.idle_timeout, Some(DEFAULT_IDLE_TIMEOUT));
        assert!(!vm.recreate && vm.apt_packages.is_empty());
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
    let sizes = (vm.sizing.vcpus, vm.sizing.memory_mib, vm.sizing.disk_mib);
    assert_eq!(sizes, (2, 512, 10 * 1024));
}

#[test]
fn packages_come_from_all_layers_the_inner_ones_first() {
    let vm = create(json!({"spec": {
        "name": null,
        "aptDeps": ["git", "curl"],
        "discriminator": "v2",
        "skipCache": true,
        "snapshot": {
            "aptDeps": ["make", "git"],
            "snapshot": {"aptDeps": ["g++"], "vcpuCount": 8, "ports": [], "git": {"config": {}}},
        },
    }}))
    .unwrap();
    let packages: Vec<_> = vm.apt_packages.iter().map(AptPackage::as_str).collect();
    assert_eq!(packages, ["g++", "make", "git", "curl"]);
    assert_eq!(vm.sizing.vcpus, 8);
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
    assert_eq!(vm.sizing.vcpus, 2);
    let both = message(json!({"vcpuCount": 2, "template": {"vcpuCount": 2}}));
    assert!(both.contains("vcpuCount and template.vcpuCount"), "{both}");
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
fn snapshots_are_not_found_wherever_they_are_named() {
    let id = "sc-abcdefghij0123456789";
    for body in [
        json!({"snapshotId": id}),
        json!({"template": {"snapshotId": id}}),
        json!({"spec": {"snapshotId": id, "name": null}}),
        json!({"spec": {"snapshot": {"snapshotId": id}}}),
    ] {
        let error = refused(body);
        assert_eq!(error["code"], "SNAPSHOT_NOT_FOUND");
        assert_eq!(error["snapshotId"], id);
    }
    for malformed in ["", "sc-", "abcdefghij0123456789", "sc-ABCDEFGHIJ0123456789"] {
        assert_eq!(refused(json!({"snapshotId": malformed}))["code"], "INVALID_SNAPSHOT_ID");
    }
    assert!(create(json!({"snapshotId": null})).is_ok());
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_accepted_when_empty() {
    for field in NOT_SUPPORTED {
        for empty in [json!(null), json!([]), json!({}), json!({"config": {}, "repos": []})] {
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
    assert!(message(json!({"workdir": "/srv"})).contains("workdir"));
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
    let packages: Vec<_> = (0..=MAX_PACKAGES).map(|number| format!("package-{number}")).collect();
    assert!(message(json!({"aptDeps": packages})).contains("more than"));
}

#[test]
fn layers_are_bounded() {
    let nested = |depth| (0..depth).fold(json!({}), |inner, _| json!({"snapshot": inner}));
    assert!(create(json!({"spec": nested(MAX_LAYERS - 1)})).is_ok());
    assert!(message(json!({"spec": nested(MAX_LAYERS)})).contains("layers"));
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

fn any_number() -> impl Strategy<Value = Value> {
    let halves = (-4_i32..200).prop_map(|number| Value::from(f64::from(number) / 2.0));
    let power = (0_u32..12).prop_map(|exponent| Value::from(1_u32 << exponent));
    prop_oneof![2 => halves, 4 => power, 1 => any::<f64>().prop_map(Value::from)]
}

fn any_text() -> impl Strategy<Value = Value> {
    prop_oneof!["[a-z0-9-]{1,24}", "sc-[a-z0-9]{20}", Just("/".to_owned()), any::<String>()]
        .prop_map(Value::from)
}

fn any_persistence() -> impl Strategy<Value = Value> {
    let priority = prop::option::of(0_u8..14);
    prop_oneof![
        Just(json!({"type": "persistent"})),
        Just(json!({"type": "ephemeral", "deleteEvent": "OnSuspend"})),
        priority.prop_map(|priority| json!({"type": "sticky", "priority": priority})),
    ]
}

/// A field with a value of its type; now and then anything else.
fn any_field() -> impl Strategy<Value = (String, Value)> {
    let field = |names: &'static [&'static str], value: BoxedStrategy<Value>| {
        let value = prop_oneof![9 => value, 1 => Just(Value::Null)];
        (prop::sample::select(names).prop_map(str::to_owned), value)
    };
    let times = &["idleTimeoutSeconds", "readySignalTimeoutSeconds", "activityThresholdBytes"];
    let time = prop_oneof![0_u64..5000, any::<u64>()].prop_map(Value::from);
    let flag = any::<bool>().prop_map(Value::from);
    let list = prop::collection::vec(any_text(), 0..4).prop_map(Value::from);
    prop_oneof![
        4 => field(&["vcpuCount", "memSizeGb", "rootfsSizeGb"], any_number().boxed()),
        3 => field(times, time.boxed()),
        2 => field(&["name", "workdir", "discriminator", "snapshotId"], any_text().boxed()),
        1 => field(&["recreate", "skipCache", "waitForReadySignal"], flag.boxed()),
        1 => field(&["aptDeps"], list.boxed()),
        1 => field(&["persistence"], any_persistence().boxed()),
        1 => field(NOT_SUPPORTED, Just(json!([])).boxed()),
        1 => (any::<String>(), any_text()),
    ]
}

fn any_request() -> impl Strategy<Value = Value> {
    let fields = || {
        prop::collection::vec(any_field(), 0..3)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
    };
    let layers = prop::collection::vec(fields(), 0..4).prop_map(|layers| {
        let stack = |inner, mut layer: Value| {
            if inner != Value::Null {
                layer["snapshot"] = inner;
            }
            layer
        };
        layers.into_iter().fold(Value::Null, stack)
    });
    (fields(), prop::option::of(fields()), prop::option::of(layers)).prop_map(
        |(mut request, template, spec)| {
            for (field, value) in [("template", template), ("spec", spec)] {
                if let Some(value) = value {
                    request[field] = value;
                }
            }
            request
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever has the right types is a VM within its bounds or a refusal.
    #[test]
    fn no_request_is_too_strange(body in any_request()) {
        let Ok(request) = serde_json::from_value::<CreateVmRequest>(body) else { return Ok(()) };
        if let Ok(vm) = decode(request) {
            prop_assert!(vm.sizing.vcpus.is_power_of_two() && vm.sizing.vcpus <= MAX_VCPUS);
            prop_assert!(vm.sizing.memory_mib.is_power_of_two());
            prop_assert!((MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&vm.sizing.memory_mib));
            prop_assert!((MIN_DISK_MIB..=MAX_DISK_MIB).contains(&vm.sizing.disk_mib));
            prop_assert!(vm.idle_timeout.is_none_or(|timeout| !timeout.is_zero()));
        }
    }

    /// Sizes alone, where a wrong bound would hide.
    #[test]
    fn no_size_escapes_its_bounds(vcpus in any::<f64>(), memory in any::<f64>(), disk in any::<f64>()) {
        let template = VmTemplate {
            vcpu_count: Some(vcpus),
            mem_size_gb: Some(memory),
            rootfs_size_gb: Some(disk),
            ..VmTemplate::default()
        };
        let request = CreateVmRequest { template: Some(template), ..CreateVmRequest::default() };
        if let Ok(vm) = decode(request) {
            prop_assert_eq!(f64::from(vm.sizing.vcpus), vcpus);
            prop_assert_eq!(vm.sizing.memory_mib as f64, memory * 1024.0);
            prop_assert_eq!(vm.sizing.disk_mib as f64, (disk * 1024.0).ceil());
        }
    }
}
