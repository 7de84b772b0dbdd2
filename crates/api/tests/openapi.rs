//! The published document against the contract of the npm SDK.
//!
//! `contract.json` is the part of the contract with the paths this server has; the example
//! `contract` makes it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Request fields of the contract that this version refuses unless they are empty.
const NOT_SUPPORTED: &[&str] = &["baseImage", "dockerCredentials", "udpHolePunchPorts"];
/// Optional response fields that nothing in this version could fill.
const NOT_SENT: &[&str] = &[
    "buildId",
    "createdDeclaratively",
    "metrics",
    "requestId",
    "snapshotId",
    "templateHash",
    "userId",
];
/// Response fields beside those of the contract: what a list of repositories is of little use without.
const ADDED: &[&str] =
    &["conflicts", "createdAt", "error", "name", "state", "syncedAt", "visibility"];
/// Values beside those of the contract: a domain without such a record gets no mail.
const ADDED_VALUES: &[&str] = &["MX"];
/// Operations that the SDK does not know.
const OURS_ALONE: &[&str] = &[
    "deleteGithubApp",
    "deleteVpc",
    "getGitHost",
    "getGithubApp",
    "githubWebhook",
    "listDeliveries",
    "listVpcs",
    "redeliver",
    "setGithubApp",
];
/// One type serves all layers, and the outermost has a name.
const LAYER_NAME: &str = "name";

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Request,
    Response,
}

/// A document with its components, so that references can be followed.
struct Document(Value);

/// What a schema says, with references, `allOf` and `null` resolved.
#[derive(Debug, Default)]
struct Shape {
    types: BTreeSet<String>,
    properties: BTreeMap<String, Value>,
    required: BTreeSet<String>,
    items: Option<Value>,
    alternatives: Vec<Value>,
    values: BTreeSet<String>,
}

impl Document {
    fn ours() -> Self {
        Self(serde_json::from_str(&freestyle_api::document()).unwrap())
    }

    fn contract() -> Self {
        Self(serde_json::from_str(include_str!("contract.json")).unwrap())
    }

    fn follow<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                self.follow(self.0.pointer(reference.trim_start_matches('#')).unwrap())
            }
            None => value,
        }
    }

    /// The operations that the contract has, or should have.
    fn shared_operations(&self) -> BTreeMap<(String, String), &Value> {
        let mut operations = self.operations();
        let is_ours = |it: &Value| OURS_ALONE.contains(&it["operationId"].as_str().unwrap());
        operations.retain(|_, operation| !is_ours(operation));
        operations
    }

    fn operations(&self) -> BTreeMap<(String, String), &Value> {
        let paths = self.0["paths"].as_object().unwrap();
        let methods = paths.iter().flat_map(|(path, item)| {
            let item = item.as_object().unwrap().iter();
            item.map(|(method, operation)| ((path.clone(), method.clone()), operation))
        });
        methods.collect()
    }

    /// Name in lower case, place, and whether it is required.
    fn parameters(&self, operation: &Value) -> BTreeSet<(String, String, bool)> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let parameters = parameters.map(|parameter| {
            let parameter = self.follow(parameter);
            let text = |field: &str| parameter[field].as_str().unwrap().to_owned();
            let required = parameter["required"].as_bool().unwrap_or(false);
            (text("name").to_lowercase(), text("in"), required)
        });
        parameters.collect()
    }

    fn shape(&self, schema: &Value) -> Shape {
        let schema = self.follow(schema);
        let mut shape = Shape::default();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let part = self.shape(part);
            shape.types.extend(part.types);
            shape.properties.extend(part.properties);
            shape.required.extend(part.required);
        }
        match &schema["type"] {
            Value::String(name) => shape.types.extend([name.clone()]),
            Value::Array(names) => {
                shape.types.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
            }
            _ => {}
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            shape.properties.insert(name.clone(), property.clone());
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            shape.required.insert(name.as_str().unwrap().to_owned());
        }
        for value in schema["enum"].as_array().into_iter().flatten() {
            shape.values.extend(value.as_str().map(str::to_owned));
        }
        shape.items = schema.get("items").cloned();
        self.resolve_alternatives(schema, &mut shape);
        shape
    }

    /// `null` or one thing is that thing, nullable.
    fn resolve_alternatives(&self, schema: &Value, shape: &mut Shape) {
        let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        let is_null = |schema: &&Value| schema["type"] == "null";
        let all: Vec<&Value> = alternatives.into_iter().flatten().collect();
        let nullable = all.iter().any(is_null);
        let rest: Vec<&Value> = all.into_iter().filter(|schema| !is_null(schema)).collect();
        if let [only] = rest[..] {
            *shape = self.shape(only);
        } else {
            shape.alternatives = rest.into_iter().cloned().collect();
        }
        if nullable {
            shape.types.insert("null".to_owned());
        }
    }
}

/// Everything in which our schema breaks the contract's, with the place of each.
fn differences(
    ours: (&Document, &Value),
    contract: (&Document, &Value),
    direction: Direction,
    place: &str,
    depth: usize,
) -> Vec<String> {
    // Layers contain layers.
    if depth > 8 {
        return Vec::new();
    }
    let (our_document, our_schema) = ours;
    let (contract_document, contract_schema) = contract;
    let our = our_document.shape(our_schema);
    let wanted = contract_document.shape(contract_schema);
    let mut found = Vec::new();

    let without_null = |types: &BTreeSet<String>| -> BTreeSet<String> {
        types.iter().filter(|name| *name != "null").cloned().collect()
    };
    if without_null(&our.types) != without_null(&wanted.types) {
        found.push(format!("{place}: type {:?}, not {:?}", our.types, wanted.types));
    }
    // Where the contract allows null, a client may send it; where it does not, none may be sent.
    let (may, must_allow) = match direction {
        Direction::Request => (&our.types, &wanted.types),
        Direction::Response => (&wanted.types, &our.types),
    };
    if must_allow.contains("null") && !may.contains("null") {
        found.push(format!("{place}: null"));
    }
    let is_added = |value: &&String| ADDED_VALUES.contains(&value.as_str());
    let values: BTreeSet<_> = our.values.iter().filter(|value| !is_added(value)).cloned().collect();
    if values != wanted.values {
        found.push(format!("{place}: values {:?}, not {:?}", our.values, wanted.values));
    }

    for (name, property) in &our.properties {
        let place = format!("{place}.{name}");
        match wanted.properties.get(name) {
            Some(wanted) => found.extend(differences(
                (our_document, property),
                (contract_document, wanted),
                direction,
                &place,
                depth + 1,
            )),
            None if name == LAYER_NAME && direction == Direction::Request => {}
            None if ADDED.contains(&name.as_str()) && direction == Direction::Response => {}
            None => found.push(format!("{place}: not in the contract")),
        }
    }
    let known = match direction {
        Direction::Request => NOT_SUPPORTED,
        Direction::Response => NOT_SENT,
    };
    for name in wanted.properties.keys().filter(|name| !our.properties.contains_key(*name)) {
        if !known.contains(&name.as_str()) {
            found.push(format!("{place}.{name}: missing"));
        }
    }
    // A client need not send more than the contract says, nor miss what it may rely on.
    let missing: Vec<_> = match direction {
        Direction::Request => our.required.difference(&wanted.required).collect(),
        Direction::Response => wanted.required.difference(&our.required).collect(),
    };
    if !missing.is_empty() {
        found.push(format!("{place}: required {missing:?}"));
    }

    match (&our.items, &wanted.items) {
        (Some(our), Some(wanted)) => found.extend(differences(
            (our_document, our),
            (contract_document, wanted),
            direction,
            &format!("{place}[]"),
            depth + 1,
        )),
        (None, None) => {}
        _ => found.push(format!("{place}: items")),
    }
    for (index, wanted) in wanted.alternatives.iter().enumerate() {
        let place = format!("{place}|{index}");
        let tries = our.alternatives.iter().map(|our| {
            let contract = (contract_document, wanted);
            differences((our_document, our), contract, direction, &place, depth + 1)
        });
        found.extend(tries.min_by_key(Vec::len).unwrap_or(vec![format!("{place}: missing")]));
    }
    if our.alternatives.len() > wanted.alternatives.len() {
        found.push(format!("{place}: more alternatives than the contract"));
    }
    found
}

fn json_content(holder: &Value) -> &Value {
    &holder["content"]["application/json"]["schema"]
}

#[test]
fn the_checked_in_document_is_the_one_this_build_publishes() {
    let checked_in = include_str!("../../../docs/openapi.json");
    assert!(
        checked_in == freestyle_api::document(),
        "run `cargo run -p freestyle-api --example openapi > docs/openapi.json`",
    );
}

#[test]
fn the_operations_are_those_of_the_contract() {
    let (ours, contract) = (Document::ours(), Document::contract());
    let names = |document: &Document| -> BTreeMap<_, String> {
        let operations = document.shared_operations().into_iter();
        operations.map(|(at, it)| (at, it["operationId"].as_str().unwrap().to_owned())).collect()
    };
    assert_eq!(names(&ours), names(&contract));
}

#[test]
fn parameters_are_those_of_the_contract() {
    let (ours, contract) = (Document::ours(), Document::contract());
    let contract_operations = contract.operations();
    for (at, operation) in ours.shared_operations() {
        let wanted = contract.parameters(contract_operations[&at]);
        assert_eq!(ours.parameters(operation), wanted, "{at:?}");
    }
}

#[test]
fn bodies_are_those_of_the_contract() {
    let (ours, contract) = (Document::ours(), Document::contract());
    let contract_operations = contract.operations();
    let mut found = Vec::new();
    for (at, operation) in ours.shared_operations() {
        let wanted = contract_operations[&at];
        let bodies = [
            (Direction::Request, &operation["requestBody"], &wanted["requestBody"]),
            (Direction::Response, &operation["responses"]["200"], &wanted["responses"]["200"]),
        ];
        for (direction, our, wanted) in bodies {
            assert_eq!(our.is_null(), wanted.is_null(), "{at:?}");
            if !our.is_null() {
                let place = format!("{} {}", at.1, at.0);
                let our = (&ours, json_content(our));
                let wanted = (&contract, json_content(wanted));
                found.extend(differences(our, wanted, direction, &place, 0));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_operation_documents_its_errors() {
    let ours = Document::ours();
    for (at, operation) in ours.operations() {
        let refused = &operation["responses"]["4XX"];
        let shape = ours.shape(json_content(refused));
        let fields: Vec<_> = shape.required.into_iter().collect();
        assert_eq!(fields, ["code", "error", "message"], "{at:?}");
    }
}
