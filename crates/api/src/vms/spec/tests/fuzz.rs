use freestyle_client::wire::VmTemplate;
use freestyle_vm::MIN_DISK_MIB;
use proptest::prelude::*;

use super::*;

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
        4 => any_wish(),
        1 => (any::<String>(), any_text()),
    ]
}

/// Something to set up, nearly as it should be.
fn any_wish() -> impl Strategy<Value = (String, Value)> {
    let name = || prop_oneof![4 => "[a-z][a-z0-9-]{0,6}", 1 => any::<String>()];
    let number = || prop_oneof![Just(json!(null)), (-2_i64..70_000).prop_map(Value::from)];
    let flag = || prop_oneof![Just(json!(null)), any::<bool>().prop_map(Value::from)];
    let path = || prop_oneof![3 => "(/[a-z.]{1,3}){1,3}", 1 => any::<String>()];
    let several = |value: BoxedStrategy<Value>| {
        prop::collection::vec(value, 0..3).prop_map(Value::from).boxed()
    };
    let group = (name(), number(), flag())
        .prop_map(|(name, gid, system)| json!({"name": name, "gid": gid, "system": system}));
    let user = (name(), number(), name(), path(), flag()).prop_map(
        |(name, uid, group, home, system)| {
            json!({"name": name, "uid": uid, "groups": [group], "home": home, "system": system})
        },
    );
    let file = (path(), any::<String>(), flag()).prop_map(|(path, content, base64)| {
        let encoding = if base64 == true { "base64" } else { "utf-8" };
        json!({path: {"content": content, "encoding": encoding}})
    });
    let git = (path(), name()).prop_map(|(path, rev)| {
        json!({"config": {}, "repos": [{"repo": "https://a/b", "path": path, "rev": rev}]})
    });
    let unit = (name(), any::<bool>(), path(), name(), flag(), any::<String>()).prop_map(
        |(name, once, exec, other, delete, value)| {
            let mode = if once { "oneshot" } else { "service" };
            json!({
                "name": name, "mode": mode, "exec": [exec], "requires": [other],
                "deleteAfterSuccess": delete, "env": {"A": value},
            })
        },
    );
    let systemd = several(unit.boxed()).prop_map(|services| json!({"services": services}));
    let field = |name: &'static str, value: BoxedStrategy<Value>| {
        value.prop_map(move |value| (name.to_owned(), value))
    };
    prop_oneof![
        field("groups", several(group.boxed())),
        field("users", several(user.boxed())),
        field("additionalFiles", file.boxed()),
        field("git", git.boxed()),
        field("systemd", systemd.boxed()),
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
        if let Ok(vm) = decode_create(request) {
            let spec = vm.spec;
            let Sizes { vcpus, memory_mib, disk_mib } = spec.sizes;
            prop_assert!(vcpus.is_none_or(|it| it.is_power_of_two() && it <= MAX_VCPUS));
            let fits = |it: u64| (MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&it);
            prop_assert!(memory_mib.is_none_or(|it| it.is_power_of_two() && fits(it)));
            prop_assert!(disk_mib.is_none_or(|it| it >= MIN_DISK_MIB));
            prop_assert!(vm.idle_timeout.is_none_or(|timeout| !timeout.is_zero()));
            prop_assert!((1..=MAX_LAYERS).contains(&spec.layers.len()));
            let (_, inner) = spec.layers.split_last().unwrap();
            prop_assert!(inner.iter().all(|layer| !layer.setup.is_empty()));
            prop_assert!(inner.iter().all(|layer| layer.setup.ready.wait));
        }
    }

    /// The same of a snapshot to build, which waits for every layer.
    #[test]
    fn no_snapshot_is_too_strange(body in any_request()) {
        let Ok(request) = serde_json::from_value::<EnsureSnapshotRequest>(body) else {
            return Ok(());
        };
        if let Ok(EnsureSnapshot { spec, .. }) = decode_ensure(request) {
            prop_assert!((1..=MAX_LAYERS).contains(&spec.layers.len()));
            prop_assert!(spec.layers.iter().all(|layer| layer.setup.ready.wait));
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
        if let Ok(CreateVm { spec, .. }) = decode_create(request) {
            prop_assert_eq!(spec.sizes.vcpus.map(f64::from), Some(vcpus));
            prop_assert_eq!(spec.sizes.memory_mib.map(|it| it as f64), Some(memory * 1024.0));
            prop_assert_eq!(spec.sizes.disk_mib.map(|it| it as f64), Some((disk * 1024.0).ceil()));
        }
    }
}
