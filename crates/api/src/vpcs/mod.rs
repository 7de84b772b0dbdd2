//! The family `vpcs`: private networks of VMs and the VPN into them (protocol section 14). The NIC of
//! a VM is in `vms::spec`, as it is made with the VM.

mod wireguard;

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRef, Request, State};
use freestyle_access::Access;
use freestyle_client::wire::{
    CreateVpcRequest, CreateVpcResponse, DeleteVpcResponse, ErrorBody, ListVpcsResponse, VpcItem,
    VpcMember,
};
use freestyle_vpc::{VpcInfo, VpcService};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::Account;
use crate::body::{Bodies, Limits};
use crate::error::{ApiError, Code};
use crate::label::label;
use crate::path::VpcPath;
use crate::timestamp::rfc3339;

/// A request that makes no sense.
const BAD: Code = Code::BadRequest;

pub(crate) fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Access: FromRef<S>,
    Arc<Bodies>: FromRef<S>,
    VpcService: FromRef<S>,
{
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(wireguard::create, wireguard::close))
        .routes(routes!(wireguard::configure_peer))
}

/// Makes a VPC.
#[utoipa::path(
    post,
    path = "/v1/vpcs",
    operation_id = "createVpc",
    tag = "vpcs",
    request_body = CreateVpcRequest,
    responses(
        (status = 200, description = "The VPC", body = CreateVpcResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn create(
    Account(account): Account,
    State(vpcs): State<VpcService>,
    State(bodies): State<Arc<Bodies>>,
    request: Request,
) -> Result<Json<CreateVpcResponse>, ApiError> {
    let body = bodies.receive(request, Limits::JSON, BAD).await?;
    let CreateVpcRequest { cidr, name } = body.json(BAD)?;
    let name = label(name, BAD)?;
    let vpc = vpcs.create(&account, name.as_deref(), &cidr).await.map_err(ApiError::from_vpc)?;
    Ok(Json(CreateVpcResponse { vpc_id: vpc.id.into() }))
}

/// Lists the account's VPCs, oldest first, and the VMs in them.
#[utoipa::path(
    get,
    path = "/v1/vpcs",
    operation_id = "listVpcs",
    tag = "vpcs",
    responses(
        (status = 200, description = "The VPCs", body = ListVpcsResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn list(
    Account(account): Account,
    State(vpcs): State<VpcService>,
) -> Result<Json<ListVpcsResponse>, ApiError> {
    let listed = vpcs.list(&account).await.map_err(ApiError::from_vpc)?;
    Ok(Json(ListVpcsResponse { vpcs: listed.into_iter().map(encode).collect() }))
}

/// Deletes a VPC, and with it all sessions and peers. One that VMs have a NIC in is kept.
#[utoipa::path(
    delete,
    path = "/v1/vpcs/{vpc_id}",
    operation_id = "deleteVpc",
    tag = "vpcs",
    params(("vpc_id" = String, Path, description = "The VPC")),
    responses(
        (status = 200, description = "Deleted", body = DeleteVpcResponse),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
async fn delete(
    Account(account): Account,
    VpcPath(vpc): VpcPath,
    State(vpcs): State<VpcService>,
) -> Result<Json<DeleteVpcResponse>, ApiError> {
    let deleted = vpcs.delete(&account, &vpc).await.map_err(ApiError::from_vpc)?;
    Ok(Json(DeleteVpcResponse { vpc_id: deleted.id.into() }))
}

fn encode(info: VpcInfo) -> VpcItem {
    let VpcInfo { vpc, members } = info;
    let vms = members
        .into_iter()
        .map(|member| VpcMember { vm_id: member.vm.into(), ipv4: member.address.to_string() });
    VpcItem {
        vpc_id: vpc.id.into(),
        name: vpc.name,
        cidr: vpc.cidr.to_string(),
        created_at: rfc3339(vpc.created_at),
        vms: vms.collect(),
    }
}
