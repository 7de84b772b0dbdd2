//! Who may join a VPC from outside.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::HOST;
use freestyle_client::wire::{
    ConfigureWireguardPeerRequest, ConfigureWireguardPeerResponse, CreateWireguardEphemeralRequest,
    CreateWireguardEphemeralResponse, DeleteWireguardEphemeralRequest, Empty, ErrorBody,
};
use freestyle_store::{VmId, WireguardPeerId};
use freestyle_vpc::{VpcService, VpnHost, VpnPeer, VpnSession};

use super::BAD;
use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, excerpt};
use crate::path::VpcPath;

/// Begins a session with a new pair of keys, which lasts until it is closed or not used for a day.
#[utoipa::path(
    post,
    path = "/v1/vpcs/{vpc_id}/wireguard/ephemeral",
    operation_id = "createWireguardEphemeral",
    tag = "vpcs",
    params(("vpc_id" = String, Path, description = "The VPC")),
    request_body = CreateWireguardEphemeralRequest,
    responses(
        (status = 200, description = "What the client must know", body = CreateWireguardEphemeralResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn create(
    Account(account): Account,
    VpcPath(vpc): VpcPath,
    State(vpcs): State<VpcService>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<CreateWireguardEphemeralResponse>, ApiError> {
    let called_by = called_by(&request);
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CreateWireguardEphemeralRequest {} = body.json_or_default(BAD)?;
    let session = vpcs.connect(&account, &vpc, called_by).await;
    session.map(|session| Json(encode_session(session))).map_err(ApiError::from_vpc)
}

/// Closes a session, at once. One that is closed already stays so.
#[utoipa::path(
    delete,
    path = "/v1/vpcs/{vpc_id}/wireguard/ephemeral",
    operation_id = "deleteWireguardEphemeral",
    tag = "vpcs",
    params(("vpc_id" = String, Path, description = "The VPC")),
    request_body = DeleteWireguardEphemeralRequest,
    responses(
        (status = 200, description = "Closed"),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn close(
    Account(account): Account,
    VpcPath(vpc): VpcPath,
    State(vpcs): State<VpcService>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<Empty>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let DeleteWireguardEphemeralRequest { session_id } = body.json(BAD)?;
    let session = session_id.parse::<WireguardPeerId>().map_err(|error| {
        let session = excerpt(&session_id);
        ApiError::new(BAD, format!("sessionId: {session:?} is none: {error}"))
    })?;
    vpcs.disconnect(&account, &vpc, &session).await.map_err(ApiError::from_vpc)?;
    Ok(Json(Empty {}))
}

/// Lets a computer with a key of its own into the VPC, for as long as the gateway VM exists.
#[utoipa::path(
    post,
    path = "/v1/vpcs/{vpc_id}/wireguard/peers",
    operation_id = "configureWireguardPeer",
    tag = "vpcs",
    params(("vpc_id" = String, Path, description = "The VPC")),
    request_body = ConfigureWireguardPeerRequest,
    responses(
        (status = 200, description = "What the client must know", body = ConfigureWireguardPeerResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(super) async fn configure_peer(
    Account(account): Account,
    VpcPath(vpc): VpcPath,
    State(vpcs): State<VpcService>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<ConfigureWireguardPeerResponse>, ApiError> {
    let called_by = called_by(&request);
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let ConfigureWireguardPeerRequest { gateway_vm_id, client_public_key } = body.json(BAD)?;
    let gateway = gateway_vm_id.parse::<VmId>().map_err(|error| {
        let gateway = excerpt(&gateway_vm_id);
        ApiError::new(BAD, format!("gatewayVmId: {gateway:?} is none: {error}"))
    })?;
    let peer = vpcs.configure_peer(&account, &vpc, &gateway, &client_public_key, called_by).await;
    let peer = peer.map_err(ApiError::from_vpc)?;
    Ok(Json(encode_peer(peer, gateway)))
}

/// The host that the client called the API by: it reaches this server there.
fn called_by(request: &Request) -> Option<VpnHost> {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    VpnHost::of_authority(header.or(authority)?)
}

fn encode_session(session: VpnSession) -> CreateWireguardEphemeralResponse {
    let VpnSession { peer, client_key } = session;
    CreateWireguardEphemeralResponse {
        vpc_id: peer.vpc.id.into(),
        session_id: peer.id.into(),
        endpoint_host: Some(peer.endpoint_host.to_string()),
        endpoint_port: peer.endpoint_port,
        listen_port: peer.endpoint_port,
        interface_name: peer.interface.to_owned(),
        server_public_key: peer.server_key.to_string(),
        client_public_key: client_key.public_key().to_string(),
        client_private_key: Some(client_key.expose()),
        server_tunnel_ip: peer.server_address.to_string(),
        client_tunnel_ip: peer.client_address.to_string(),
        vpc_ip: peer.client_address.to_string(),
        client_allowed_ips: vec![peer.vpc.cidr.to_string()],
        vpc_cidr: peer.vpc.cidr.to_string(),
        client_config: peer.client_config,
    }
}

fn encode_peer(peer: VpnPeer, gateway: VmId) -> ConfigureWireguardPeerResponse {
    ConfigureWireguardPeerResponse {
        vpc_id: peer.vpc.id.into(),
        gateway_vm_id: gateway.into(),
        endpoint_host: Some(peer.endpoint_host.to_string()),
        endpoint_port: peer.endpoint_port,
        listen_port: peer.endpoint_port,
        interface_name: peer.interface.to_owned(),
        server_public_key: peer.server_key.to_string(),
        server_tunnel_ip: peer.server_address.to_string(),
        client_tunnel_ip: peer.client_address.to_string(),
        vpc_cidr: peer.vpc.cidr.to_string(),
        client_config: peer.client_config,
    }
}
