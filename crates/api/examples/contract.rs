//! Cuts the part that this server implements out of the contract, for `tests/contract.json`:
//!
//! ```text
//! cargo run -p freestyle-api --example contract -- ../shared/api/openapi.json \
//!     > crates/api/tests/contract.json
//! ```

use std::error::Error;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: contract OPENAPI.json")?;
    let contract: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let ours: Value = serde_json::from_str(&freestyle_api::document())?;

    let mut paths = Map::new();
    for (path, operations) in ours["paths"].as_object().ok_or("no paths")? {
        // What the SDK does not know is ours alone.
        let Some(mut of_contract) = contract["paths"].get(path).cloned() else { continue };
        if let (Some(wanted), Some(ours)) = (of_contract.as_object_mut(), operations.as_object()) {
            wanted.retain(|method, _| ours.contains_key(method));
        }
        paths.insert(path.clone(), of_contract);
    }
    let mut part = json!({"paths": paths, "components": {}, "x-error-codes": {}});
    let mut wanted = references(&part);
    while let Some(reference) = wanted.pop() {
        let pointer = reference.trim_start_matches('#');
        let [_, kind, name] = pointer[1..].split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("cannot follow {reference}").into());
        };
        if part["components"][kind].get(name).is_none() {
            let found = contract.pointer(pointer).ok_or("dangling reference")?;
            wanted.extend(references(found));
            part["components"][kind][name] = found.clone();
        }
    }
    let codes = contract["x-error-codes"].as_object().ok_or("no error codes")?;
    for (code, facts) in codes {
        part["x-error-codes"][code] = json!({"status": facts["status"]});
    }
    writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&part)?)?;
    Ok(())
}

fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(references).collect(),
        Value::Object(fields) => {
            let here = fields.get("$ref").and_then(Value::as_str).map(str::to_owned);
            here.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        _ => Vec::new(),
    }
}
