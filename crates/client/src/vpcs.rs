//! The calls on VPCs and their WireGuard sessions.

use hyper::Method;

use crate::client::{Client, encode, nothing};
use crate::error::ClientError;
use crate::http::json;
use crate::wire::{
    CreateVpcRequest, CreateVpcResponse, CreateWireguardEphemeralRequest,
    CreateWireguardEphemeralResponse, DeleteVpcResponse, DeleteWireguardEphemeralRequest,
    ListVpcsResponse,
};

impl Client {
    /// Makes a VPC.
    pub async fn create_vpc(
        &self,
        request: &CreateVpcRequest,
    ) -> Result<CreateVpcResponse, ClientError> {
        self.http.call(Method::POST, "/v1/vpcs", None, Some(json(request))).await
    }

    /// Lists the account's VPCs, oldest first, and the VMs in them.
    pub async fn list_vpcs(&self) -> Result<ListVpcsResponse, ClientError> {
        self.http.call(Method::GET, "/v1/vpcs", None, None).await
    }

    /// Deletes a VPC that no VM has a NIC in.
    pub async fn delete_vpc(&self, vpc: &str) -> Result<DeleteVpcResponse, ClientError> {
        self.http.call(Method::DELETE, &vpc_path(vpc, ""), None, None).await
    }

    /// Begins an ephemeral WireGuard session in a VPC.
    pub async fn create_wireguard_ephemeral(
        &self,
        vpc: &str,
    ) -> Result<CreateWireguardEphemeralResponse, ClientError> {
        let body = Some(json(&CreateWireguardEphemeralRequest {}));
        self.http.call(Method::POST, &vpc_path(vpc, "/wireguard/ephemeral"), None, body).await
    }

    /// Closes an ephemeral WireGuard session, at once.
    pub async fn delete_wireguard_ephemeral(
        &self,
        vpc: &str,
        session: &str,
    ) -> Result<(), ClientError> {
        let request = DeleteWireguardEphemeralRequest { session_id: session.to_owned() };
        let path = vpc_path(vpc, "/wireguard/ephemeral");
        self.http.call(Method::DELETE, &path, None, Some(json(&request))).await.map(nothing)
    }
}

fn vpc_path(vpc: &str, action: &str) -> String {
    format!("/v1/vpcs/{}{action}", encode(vpc))
}
