//! VPCs and the VPN into them (protocol sections 6.2 and 14).

use serde::{Deserialize, Serialize};

/// An item of `nics` of a create: a VM's place in a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmNic {
    /// The VPC.
    pub vpc: String,
    /// How the VM is joined to it.
    pub mode: VmNicMode,
    /// The address to have there, or `true` for one that is free.
    #[cfg_attr(feature = "utoipa", schema(schema_with = ipv4_schema))]
    pub ipv4: VmNicAddress,
    /// Whether the VM uses that address on its way to the internet as well; `false` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Not chosen by callers: refused unless it is `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<VmNicBackend>,
}

/// How a VM is joined to a VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum VmNicMode {
    /// Packets are routed to it by its address.
    Routed,
}

/// What a NIC is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum VmNicBackend {
    /// A device of its own.
    DedicatedDevice,
    /// A VLAN on another.
    Vlan,
}

/// The address of a NIC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VmNicAddress {
    /// `true`: one that is free.
    Any(bool),
    /// This one.
    Fixed(String),
}

#[cfg(feature = "utoipa")]
fn ipv4_schema() -> utoipa::openapi::schema::Schema {
    use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
    let either = SchemaType::from_iter([Type::Boolean, Type::String]);
    Schema::Object(ObjectBuilder::new().schema_type(either).build())
}

/// The body of `POST /v1/vpcs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateVpcRequest {
    /// The range of its VMs' addresses, in CIDR notation: within one of the private ranges.
    pub cidr: String,
    /// A label for people; not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The reply of `POST /v1/vpcs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateVpcResponse {
    /// The VPC.
    pub vpc_id: String,
}

/// The reply of `GET /v1/vpcs`, which the npm SDK does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ListVpcsResponse {
    /// Oldest first.
    pub vpcs: Vec<VpcItem>,
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VpcItem {
    /// Identifier.
    pub vpc_id: String,
    /// Its label.
    pub name: Option<String>,
    /// The range of its VMs' addresses.
    pub cidr: String,
    /// RFC 3339.
    pub created_at: String,
    /// The VMs that have a NIC in it, by address.
    pub vms: Vec<VpcMember>,
}

/// A VM in a VPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VpcMember {
    /// The VM.
    pub vm_id: String,
    /// Its address there.
    pub ipv4: String,
}

/// The reply of `DELETE /v1/vpcs/{vpc_id}`, which the npm SDK does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeleteVpcResponse {
    /// The VPC that is gone.
    pub vpc_id: String,
}

/// The body of `POST /v1/vpcs/{vpc_id}/wireguard/ephemeral`: nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateWireguardEphemeralRequest {}

/// The reply of `POST /v1/vpcs/{vpc_id}/wireguard/ephemeral`. It holds a key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateWireguardEphemeralResponse {
    /// The VPC.
    pub vpc_id: String,
    /// What the session is closed by.
    pub session_id: String,
    /// Where the server is.
    pub endpoint_host: Option<String>,
    /// Its UDP port.
    pub endpoint_port: u16,
    /// The same.
    pub listen_port: u16,
    /// The server's end of the tunnel.
    pub interface_name: String,
    /// The server's key.
    pub server_public_key: String,
    /// The client's key.
    pub client_public_key: String,
    /// The secret half of it; nobody else knows it.
    pub client_private_key: Option<String>,
    /// The server's address in the tunnel.
    pub server_tunnel_ip: String,
    /// The client's address in the tunnel.
    pub client_tunnel_ip: String,
    /// The address by which the VPC's VMs know the client: that in the tunnel.
    pub vpc_ip: String,
    /// What the client reaches through the tunnel.
    pub client_allowed_ips: Vec<String>,
    /// The VPC's range.
    pub vpc_cidr: String,
    /// For `wg-quick`, with the key.
    pub client_config: String,
}

/// Without the key.
impl std::fmt::Debug for CreateWireguardEphemeralResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateWireguardEphemeralResponse")
            .field("vpc_id", &self.vpc_id)
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// The body of `DELETE /v1/vpcs/{vpc_id}/wireguard/ephemeral`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DeleteWireguardEphemeralRequest {
    /// The session.
    pub session_id: String,
}

/// The body of `POST /v1/vpcs/{vpc_id}/wireguard/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ConfigureWireguardPeerRequest {
    /// A VM with a NIC in the VPC; the peer is let in as long as it exists.
    pub gateway_vm_id: String,
    /// The peer's key, in base64.
    pub client_public_key: String,
}

/// The reply of `POST /v1/vpcs/{vpc_id}/wireguard/peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ConfigureWireguardPeerResponse {
    /// The VPC.
    pub vpc_id: String,
    /// As in the request.
    pub gateway_vm_id: String,
    /// Where the server is.
    pub endpoint_host: Option<String>,
    /// Its UDP port.
    pub endpoint_port: u16,
    /// The same.
    pub listen_port: u16,
    /// The server's end of the tunnel.
    pub interface_name: String,
    /// The server's key.
    pub server_public_key: String,
    /// The server's address in the tunnel.
    pub server_tunnel_ip: String,
    /// The client's address in the tunnel.
    pub client_tunnel_ip: String,
    /// The VPC's range.
    pub vpc_cidr: String,
    /// For `wg-quick`, but for the client's own key.
    pub client_config: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_text_or_true() {
        let nic = |ipv4: &str| {
            let json = format!(r#"{{"vpc":"v","mode":"routed","ipv4":{ipv4}}}"#);
            serde_json::from_str::<VmNic>(&json).map(|nic| nic.ipv4)
        };
        assert_eq!(nic("true").unwrap(), VmNicAddress::Any(true));
        assert_eq!(nic(r#""10.1.0.5""#).unwrap(), VmNicAddress::Fixed("10.1.0.5".to_owned()));
        for bad in ["null", "1", "{}", "[]"] {
            assert!(nic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_not_logged() {
        let json = r#"{"vpcId":"v","sessionId":"s","endpointPort":1,"listenPort":1,
            "interfaceName":"wg0","serverPublicKey":"p","clientPublicKey":"p",
            "clientPrivateKey":"secret","serverTunnelIp":"","clientTunnelIp":"","vpcIp":"",
            "clientAllowedIps":[],"vpcCidr":"","clientConfig":"secret"}"#;
        let response: CreateWireguardEphemeralResponse = serde_json::from_str(json).unwrap();
        assert!(!format!("{response:?}").contains("secret"));
    }
}
