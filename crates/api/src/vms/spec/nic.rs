//! The NIC of a VM (protocol section 6.2).

use freestyle_client::wire::{VmNic, VmNicAddress, VmNicMode};
use freestyle_vm::CreateNic;

use crate::error::{ApiError, Code, excerpt};

/// At most one place in a VPC.
pub(super) fn decode(nics: Vec<VmNic>, bad: Code) -> Result<Option<CreateNic>, ApiError> {
    let refused = |message: String| Err(ApiError::new(bad, message));
    let count = nics.len();
    let mut nics = nics.into_iter();
    let Some(VmNic { vpc, mode: VmNicMode::Routed, ipv4, default, backend }) = nics.next() else {
        return Ok(None);
    };
    if count > 1 {
        return refused(format!("nics has {count} items; a VM has at most one NIC"));
    }
    if backend.is_some() {
        return refused("nics[0].backend cannot be chosen; leave it out".to_owned());
    }
    let address = match &ipv4 {
        VmNicAddress::Any(true) => None,
        VmNicAddress::Any(false) => {
            return refused("nics[0].ipv4 must be an IPv4 address, or true for any".to_owned());
        }
        VmNicAddress::Fixed(text) => match text.parse() {
            Ok(address) => Some(address),
            Err(_) => {
                let text = excerpt(text);
                return refused(format!("nics[0].ipv4: {text:?} is not an IPv4 address"));
            }
        },
    };
    let Ok(vpc) = vpc.parse() else {
        // As one that does not exist.
        return refused(format!("there is no VPC {}", excerpt(&vpc)));
    };
    Ok(Some(CreateNic { vpc, address, is_default: default.unwrap_or(false) }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BAD: Code = Code::CreateVmBadRequest;

    fn decoded(nics: Value) -> Result<Option<CreateNic>, String> {
        let nics: Vec<VmNic> = serde_json::from_value(nics).map_err(|error| error.to_string())?;
        decode(nics, BAD).map_err(|error| error.into_body().message)
    }

    fn nic(fields: Value) -> Value {
        let mut nic = json!({"vpc": "vpc-abcdefghij0123456789", "mode": "routed", "ipv4": true});
        nic.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([nic])
    }

    #[test]
    fn a_nic_has_a_vpc_and_an_address_or_any() {
        assert_eq!(decoded(json!([])), Ok(None));
        let any = decoded(nic(json!({"backend": null, "default": null}))).unwrap().unwrap();
        assert_eq!((any.address, any.is_default), (None, false));
        assert_eq!(any.vpc.as_str(), "vpc-abcdefghij0123456789");
        let fixed = nic(json!({"ipv4": "192.168.10.10", "default": true}));
        let fixed = decoded(fixed).unwrap().unwrap();
        assert_eq!((fixed.address, fixed.is_default), (Some([192, 168, 10, 10].into()), true));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (fields, named) in [
            (json!({"ipv4": false}), "nics[0].ipv4"),
            (json!({"ipv4": "192.168.10"}), "192.168.10"),
            (json!({"ipv4": "fd00::1"}), "fd00::1"),
            (json!({"ipv4": "192.168.10.10/24"}), "/24"),
            (json!({"backend": "vlan"}), "backend"),
            (json!({"vpc": "vpc-1"}), "there is no VPC vpc-1"),
            (json!({"mode": "bridged"}), "bridged"),
            (json!({"subnet": "a"}), "subnet"),
        ] {
            let message = decoded(nic(fields)).unwrap_err();
            assert!(message.contains(named), "{message}");
        }
        let twice = json!([nic(json!({}))[0], nic(json!({}))[0]]);
        assert!(decoded(twice).unwrap_err().contains("at most one"));
    }
}
