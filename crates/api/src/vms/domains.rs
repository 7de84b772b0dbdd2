//! The domains that a new VM is reached by.

use freestyle_client::wire::{CreateVmRequest, PortMapping, PortProtocol, VmDomain, VmSpecLayer};
use freestyle_domains::{DomainError, Domains, Pattern};
use freestyle_store::{AccountId, VmId};

use crate::error::{ApiError, Code};

const BAD: Code = Code::CreateVmBadRequest;
/// How many domains a create may name.
const MAX_DOMAINS: usize = 100;
/// Where a domain leads that names no port: to what `ports` says of this one.
const DEFAULT_EXTERNAL_PORT: u32 = 443;
/// The ports that `ports` may say something of.
const EXTERNAL_PORTS: [u32; 2] = [DEFAULT_EXTERNAL_PORT, 8081];
/// What `ports` says if it is not there.
const DEFAULT_PORTS: [(u32, u16); 1] = [(DEFAULT_EXTERNAL_PORT, 3000)];

/// Which domains are to lead to which ports of a VM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted(Vec<(Pattern, u16)>);

impl Wanted {
    /// Takes them out of a request, which is then without `domains` and `ports`. The outermost place
    /// that has `ports` wins.
    pub(super) fn take(request: &mut CreateVmRequest) -> Result<Self, ApiError> {
        let mut ports = request.ports.take();
        if let Some(template) = &mut request.template {
            ports = ports.or(template.ports.take());
        }
        let mut layer: Option<&mut VmSpecLayer> = request.spec.as_mut();
        while let Some(this) = layer {
            ports = ports.or(this.ports.take());
            layer = this.snapshot.as_deref_mut();
        }
        let ports = match ports {
            None => DEFAULT_PORTS.to_vec(),
            Some(ports) => ports.into_iter().map(decode_port).collect::<Result<_, _>>()?,
        };
        let domains = request.domains.take().unwrap_or_default();
        if domains.len() > MAX_DOMAINS {
            let message = format!("domains: there are more than {MAX_DOMAINS}");
            return Err(ApiError::new(BAD, message));
        }
        let domains = domains.into_iter().map(|domain| decode_domain(domain, &ports));
        domains.collect::<Result<_, _>>().map(Self)
    }

    /// Fails if the account may not map one of them.
    pub(super) async fn check(
        &self,
        domains: &Domains,
        account: &AccountId,
    ) -> Result<(), ApiError> {
        for (pattern, _) in &self.0 {
            domains.may_map(account, pattern).await.map_err(failure)?;
        }
        Ok(())
    }

    /// Has all of them lead to the VM. Answers their names.
    pub(super) async fn map(
        self,
        domains: &Domains,
        account: &AccountId,
        vm: &VmId,
    ) -> Result<Vec<String>, ApiError> {
        let mut names = Vec::new();
        for (pattern, port) in self.0 {
            let mapped = domains.map(account, &pattern, vm, port).await.map_err(failure)?;
            names.push(mapped.domain);
        }
        Ok(names)
    }
}

pub(super) fn failure(error: DomainError) -> ApiError {
    ApiError::from_domain(error, Code::FailedInsertDomainMapping)
}

fn decode_domain(wanted: VmDomain, ports: &[(u32, u16)]) -> Result<(Pattern, u16), ApiError> {
    let VmDomain { domain, vm_port } = wanted;
    let pattern = Pattern::parse(&domain).map_err(failure)?;
    let named = vm_port.unwrap_or(DEFAULT_EXTERNAL_PORT);
    let mapped = ports.iter().find(|(external, _)| *external == named);
    let port = match mapped {
        Some((_, target)) => *target,
        None => port(named, &format!("domains: the vmPort of {pattern}"))?,
    };
    Ok((pattern, port))
}

fn decode_port(mapping: PortMapping) -> Result<(u32, u16), ApiError> {
    let PortMapping { port: external, target_port, protocol } = mapping;
    if protocol == Some(PortProtocol::Udp) {
        return Err(ApiError::new(BAD, "ports: domains are for HTTP, which is tcp"));
    }
    if !EXTERNAL_PORTS.contains(&external) {
        let message = format!("ports: port is {external}; it can be 443 or 8081");
        return Err(ApiError::new(BAD, message));
    }
    Ok((external, port(target_port, "ports: targetPort")?))
}

fn port(number: u32, what: &str) -> Result<u16, ApiError> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => {
            let message = format!("{what} is {number}; it must be between 1 and 65535");
            Err(ApiError::new(BAD, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn taken(body: Value) -> Result<Vec<(String, u16)>, ApiError> {
        let mut request: CreateVmRequest = serde_json::from_value(body).unwrap();
        let wanted = Wanted::take(&mut request)?;
        assert_eq!((&request.domains, &request.ports), (&None, &None));
        Ok(wanted.0.into_iter().map(|(pattern, port)| (pattern.to_string(), port)).collect())
    }

    #[test]
    fn a_domain_leads_to_its_port_or_to_where_ports_says() {
        let domain = |port: Option<u16>| json!([{"domain": "A.example.com", "vmPort": port}]);
        for (body, port) in [
            (json!({"domains": domain(Some(8080))}), 8080),
            (json!({"domains": domain(None)}), 3000),
            (json!({"domains": domain(Some(443))}), 3000),
            (json!({"domains": domain(None), "ports": [{"port": 443, "targetPort": 80}]}), 80),
            (json!({"domains": domain(None), "ports": []}), 443),
            (
                json!({
                    "domains": domain(None),
                    "template": {"ports": [{"port": 443, "targetPort": 81}]},
                }),
                81,
            ),
            (
                json!({
                    "domains": domain(Some(8081)),
                    "spec": {"snapshot": {"ports": [{"port": 8081, "targetPort": 82}]}},
                }),
                82,
            ),
        ] {
            let expected = vec![("a.example.com".to_owned(), port)];
            assert_eq!(taken(body.clone()), Ok(expected), "{body}");
        }
        assert_eq!(taken(json!({})), Ok(Vec::new()));
        assert_eq!(taken(json!({"domains": null, "ports": null})), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_mapped_is_refused_before_there_is_a_vm() {
        let domain = |domain: &str, port: u32| json!([{"domain": domain, "vmPort": port}]);
        let many = vec![json!({"domain": "a.example.com"}); MAX_DOMAINS + 1];
        for (body, code) in [
            (json!({"domains": domain("localhost", 80)}), Code::InvalidDomain),
            (json!({"domains": domain("a.example.com", 0)}), BAD),
            (json!({"domains": domain("a.example.com", 65536)}), BAD),
            (json!({"domains": many}), BAD),
            (json!({"ports": [{"port": 80, "targetPort": 80}]}), BAD),
            (json!({"ports": [{"port": 443, "targetPort": 0}]}), BAD),
            (json!({"ports": [{"port": 443, "targetPort": 53, "protocol": "udp"}]}), BAD),
        ] {
            assert_eq!(taken(body.clone()).unwrap_err().code(), code, "{body}");
        }
    }
}
