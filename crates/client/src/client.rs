//! One method per documented call.

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::ClientError;
use crate::http::{Http, json};
use crate::pty::Pty;
use crate::wire::{
    AttachPtyQuery, AwaitVmResponse, ClosePtySessionResponse, CompleteVerificationRequest,
    CreateTokenResponse, CreateVmRequest, CreateVmResponse, CreateVpcRequest, CreateVpcResponse,
    CreateWireguardEphemeralRequest, CreateWireguardEphemeralResponse, DeleteSnapshotResponse,
    DeleteVmResponse, DeleteVpcResponse, DeleteWireguardEphemeralRequest, DomainMapping,
    DomainResponse, DomainVerification, Empty, ExecRequest, ExecResponse, ForkVmRequest,
    ForkVmResponse, GetVmResponse, GitPermission, GitPermissionRequest, Identity, KillVmResponse,
    LINUX_USER_HEADER, ListDomainsQuery, ListGitPermissionsResponse, ListIdentitiesQuery,
    ListIdentitiesResponse, ListMappingsQuery, ListPermissionsQuery, ListPtySessionsResponse,
    ListSnapshotsQuery, ListSnapshotsResponse, ListTokensResponse, ListVmPermissionsResponse,
    ListVmsQuery, ListVmsResponse, ListVpcsResponse, MapDomainRequest, OpenPtyQuery,
    OptimizeVmResponse, OwnedDomain, PendingVerification, ReadFileOrDirResponse,
    RenameSnapshotRequest, RenameSnapshotResponse, ResizeVmRequest, SnapshotRecord,
    SnapshotVmRequest, SnapshotVmResponse, SshResponse, StartVmRequest, StartVmResponse,
    StopVmResponse, SuspendVmResponse, VerifyDomainRequest, VmPermission, VmPermissionRequest,
    WhoamiResponse, WriteFileRequest,
};

/// What a path segment or a query value may hold as it is; a slash is encoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const VERIFICATIONS: &str = "/domains/v1/verifications";

/// A connection pool to one server, with one account's API key. Cheap to clone.
///
/// No call has a time limit: creating, starting and waiting take as long as they take. Drop the
/// future to give up; that ends a command run by [`Client::exec`] and nothing else.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) http: Http,
}

impl Client {
    /// A client of the API at `base_url`. A path in it is kept as a prefix. Reads the system's root
    /// certificates when the URL is `https`; connects only when a call is made.
    pub fn new(base_url: &str, api_key: &str) -> Result<Self, ClientError> {
        Ok(Self { http: Http::new(base_url, api_key)? })
    }

    /// The host in the URL of the API.
    pub fn host(&self) -> &str {
        self.http.host()
    }

    /// Where SSH is served and by which key it is known.
    pub async fn ssh(&self) -> Result<SshResponse, ClientError> {
        self.http.call(Method::GET, "/v1/ssh", None, None).await
    }

    /// Whose API key this is.
    pub async fn whoami(&self) -> Result<WhoamiResponse, ClientError> {
        self.http.call(Method::GET, "/auth/v1/whoami", None, None).await
    }

    /// Creates a VM and waits until it answers.
    pub async fn create_vm(
        &self,
        request: &CreateVmRequest,
    ) -> Result<CreateVmResponse, ClientError> {
        self.http.call(Method::POST, "/v1/vms", None, Some(json(request))).await
    }

    /// Lists the account's VMs, newest first.
    pub async fn list_vms(&self, query: &ListVmsQuery) -> Result<ListVmsResponse, ClientError> {
        let path = format!("/v1/vms{}", list_vms_query(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// What is known about a VM.
    pub async fn get_vm(&self, vm: &str) -> Result<GetVmResponse, ClientError> {
        self.http.call(Method::GET, &vm_path(vm, ""), None, None).await
    }

    /// Ends a VM and deletes its files.
    pub async fn delete_vm(&self, vm: &str) -> Result<DeleteVmResponse, ClientError> {
        self.http.call(Method::DELETE, &vm_path(vm, ""), None, None).await
    }

    /// Wakes a suspended VM or boots a stopped one, and waits until it answers.
    pub async fn start_vm(
        &self,
        vm: &str,
        request: &StartVmRequest,
    ) -> Result<StartVmResponse, ClientError> {
        self.post(vm, "/start", Some(json(request))).await
    }

    /// Shuts a VM down and keeps its disk.
    pub async fn stop_vm(&self, vm: &str) -> Result<StopVmResponse, ClientError> {
        self.post(vm, "/stop", None).await
    }

    /// Ends a VM's process at once and keeps its disk as it is.
    pub async fn kill_vm(&self, vm: &str) -> Result<KillVmResponse, ClientError> {
        self.post(vm, "/kill", None).await
    }

    /// Waits until a VM's process has ended.
    pub async fn await_vm(&self, vm: &str) -> Result<AwaitVmResponse, ClientError> {
        self.post(vm, "/await", None).await
    }

    /// Saves a VM's memory and ends its process; what needs the guest wakes it.
    pub async fn suspend_vm(&self, vm: &str) -> Result<SuspendVmResponse, ClientError> {
        self.post(vm, "/suspend", None).await
    }

    /// Changes a VM's sizes; one that runs is stopped and started.
    pub async fn resize_vm(&self, vm: &str, request: &ResizeVmRequest) -> Result<(), ClientError> {
        let Empty {} = self.post(vm, "/resize", Some(json(request))).await?;
        Ok(())
    }

    /// Makes VMs that go on from where this one is, and waits until they answer.
    pub async fn fork_vm(
        &self,
        vm: &str,
        request: &ForkVmRequest,
    ) -> Result<ForkVmResponse, ClientError> {
        self.post(vm, "/fork", Some(json(request))).await
    }

    /// Flattens the layers of a VM's disk into one.
    pub async fn optimize_vm(&self, vm: &str) -> Result<OptimizeVmResponse, ClientError> {
        self.post(vm, "/optimize", None).await
    }

    /// Saves a VM's memory and disk as a snapshot; the VM goes on.
    pub async fn snapshot_vm(
        &self,
        vm: &str,
        request: &SnapshotVmRequest,
    ) -> Result<SnapshotVmResponse, ClientError> {
        self.post(vm, "/snapshot", Some(json(request))).await
    }

    /// Lists the account's snapshots, newest first.
    pub async fn list_snapshots(
        &self,
        query: &ListSnapshotsQuery,
    ) -> Result<ListSnapshotsResponse, ClientError> {
        let path = format!("/v1/vms/snapshots{}", list_snapshots_query(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// What is known about a snapshot.
    pub async fn get_snapshot(&self, snapshot: &str) -> Result<SnapshotRecord, ClientError> {
        self.http.call(Method::GET, &snapshot_path(snapshot), None, None).await
    }

    /// Changes a snapshot's label.
    pub async fn rename_snapshot(
        &self,
        snapshot: &str,
        request: &RenameSnapshotRequest,
    ) -> Result<RenameSnapshotResponse, ClientError> {
        let body = Some(json(request));
        self.http.call(Method::PATCH, &snapshot_path(snapshot), None, body).await
    }

    /// Deletes a snapshot. VMs made from it live on.
    pub async fn delete_snapshot(
        &self,
        snapshot: &str,
    ) -> Result<DeleteSnapshotResponse, ClientError> {
        self.http.call(Method::DELETE, &snapshot_path(snapshot), None, None).await
    }

    /// Runs a command as `user`, root where absent, and waits for it.
    pub async fn exec(
        &self,
        vm: &str,
        user: Option<&str>,
        request: &ExecRequest,
    ) -> Result<ExecResponse, ClientError> {
        let path = vm_path(vm, "/exec-await");
        self.http.call(Method::POST, &path, user_header(user)?, Some(json(request))).await
    }

    /// Reads a file or lists a directory as `user`, root where absent.
    pub async fn read_path(
        &self,
        vm: &str,
        user: Option<&str>,
        path: &str,
    ) -> Result<ReadFileOrDirResponse, ClientError> {
        self.http.call(Method::GET, &file_path(vm, path), user_header(user)?, None).await
    }

    /// Replaces a file's content as `user`, root where absent.
    pub async fn write_file(
        &self,
        vm: &str,
        user: Option<&str>,
        path: &str,
        request: &WriteFileRequest,
    ) -> Result<(), ClientError> {
        let body = Some(json(request));
        let Empty {} =
            self.http.call(Method::PUT, &file_path(vm, path), user_header(user)?, body).await?;
        Ok(())
    }

    /// Makes an identity, who can do nothing until it has a token and a grant.
    pub async fn create_identity(&self) -> Result<Identity, ClientError> {
        self.http.call(Method::POST, "/identity/v1/identities", None, None).await
    }

    /// Lists the account's identities, oldest first.
    pub async fn list_identities(
        &self,
        query: &ListIdentitiesQuery,
    ) -> Result<ListIdentitiesResponse, ClientError> {
        let ListIdentitiesQuery { limit, offset, include_managed } = query;
        let query = query_string([
            ("limit", limit.map(|value| value.to_string())),
            ("offset", offset.map(|value| value.to_string())),
            ("includeManaged", include_managed.map(|value| value.to_string())),
        ]);
        let path = format!("/identity/v1/identities{query}");
        self.http.call(Method::GET, &path, None, None).await
    }

    /// Deletes an identity, its tokens and all that it was granted.
    pub async fn delete_identity(&self, identity: &str) -> Result<(), ClientError> {
        self.identity(Method::DELETE, identity, "", None).await.map(nothing)
    }

    /// Makes a token. It is in the answer and never shown again.
    pub async fn create_token(&self, identity: &str) -> Result<CreateTokenResponse, ClientError> {
        self.identity(Method::POST, identity, "/tokens", None).await
    }

    /// Lists an identity's tokens, oldest first.
    pub async fn list_tokens(&self, identity: &str) -> Result<ListTokensResponse, ClientError> {
        self.identity(Method::GET, identity, "/tokens", None).await
    }

    /// Ends a token at once.
    pub async fn revoke_token(&self, identity: &str, token: &str) -> Result<(), ClientError> {
        let path = format!("/tokens/{}", encode(token));
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    /// Lets an identity use a VM.
    pub async fn grant_vm(
        &self,
        identity: &str,
        vm: &str,
        request: &VmPermissionRequest,
    ) -> Result<VmPermission, ClientError> {
        let body = Some(json(request));
        self.identity(Method::POST, identity, &permission_path("vm", vm), body).await
    }

    /// Replaces as which Linux users an identity may use a VM.
    pub async fn update_vm_permission(
        &self,
        identity: &str,
        vm: &str,
        request: &VmPermissionRequest,
    ) -> Result<VmPermission, ClientError> {
        let body = Some(json(request));
        self.identity(Method::PUT, identity, &permission_path("vm", vm), body).await
    }

    /// As whom an identity may use a VM.
    pub async fn get_vm_permission(
        &self,
        identity: &str,
        vm: &str,
    ) -> Result<VmPermission, ClientError> {
        self.identity(Method::GET, identity, &permission_path("vm", vm), None).await
    }

    /// Lists the VMs that an identity may use, in the order in which they were granted.
    pub async fn list_vm_permissions(
        &self,
        identity: &str,
        query: &ListPermissionsQuery,
    ) -> Result<ListVmPermissionsResponse, ClientError> {
        let path = format!("/permissions/vm{}", list_permissions_query(query));
        self.identity(Method::GET, identity, &path, None).await
    }

    /// Ends an identity's right to use a VM at once.
    pub async fn revoke_vm(&self, identity: &str, vm: &str) -> Result<(), ClientError> {
        let path = permission_path("vm", vm);
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    /// Lets an identity read or write a repository.
    pub async fn grant_repository(
        &self,
        identity: &str,
        repository: &str,
        request: &GitPermissionRequest,
    ) -> Result<(), ClientError> {
        let (path, body) = (permission_path("git", repository), Some(json(request)));
        self.identity(Method::POST, identity, &path, body).await.map(nothing)
    }

    /// Replaces what an identity may do with a repository.
    pub async fn update_repository_permission(
        &self,
        identity: &str,
        repository: &str,
        request: &GitPermissionRequest,
    ) -> Result<(), ClientError> {
        let (path, body) = (permission_path("git", repository), Some(json(request)));
        self.identity(Method::PUT, identity, &path, body).await.map(nothing)
    }

    /// What an identity may do with a repository.
    pub async fn get_repository_permission(
        &self,
        identity: &str,
        repository: &str,
    ) -> Result<GitPermission, ClientError> {
        self.identity(Method::GET, identity, &permission_path("git", repository), None).await
    }

    /// Lists the repositories that an identity may use, in the order in which they were granted.
    pub async fn list_repository_permissions(
        &self,
        identity: &str,
        query: &ListPermissionsQuery,
    ) -> Result<ListGitPermissionsResponse, ClientError> {
        let path = format!("/permissions/git{}", list_permissions_query(query));
        self.identity(Method::GET, identity, &path, None).await
    }

    /// Ends an identity's right to use a repository at once.
    pub async fn revoke_repository(
        &self,
        identity: &str,
        repository: &str,
    ) -> Result<(), ClientError> {
        let path = permission_path("git", repository);
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    /// Says what the DNS of a domain has to say for it to be the account's.
    pub async fn verify_domain(&self, domain: &str) -> Result<DomainVerification, ClientError> {
        let request = VerifyDomainRequest { domain: domain.to_owned() };
        self.http.call(Method::POST, VERIFICATIONS, None, Some(json(&request))).await
    }

    /// Has the DNS looked at. Answers the domain, which then is the account's.
    pub async fn complete_verification(
        &self,
        which: &CompleteVerificationRequest,
    ) -> Result<DomainResponse, ClientError> {
        self.http.call(Method::PUT, VERIFICATIONS, None, Some(json(which))).await
    }

    /// Lists what is still to be proven, oldest first.
    pub async fn list_verifications(&self) -> Result<Vec<PendingVerification>, ClientError> {
        self.http.call(Method::GET, VERIFICATIONS, None, None).await
    }

    /// Lists the account's domains, oldest first.
    pub async fn list_domains(
        &self,
        query: &ListDomainsQuery,
    ) -> Result<Vec<OwnedDomain>, ClientError> {
        let ListDomainsQuery { limit, offset, implicitly_owned } = query;
        let query = query_string([
            ("limit", limit.map(|value| value.to_string())),
            ("offset", offset.map(|value| value.to_string())),
            ("implicitlyOwned", implicitly_owned.map(|value| value.to_string())),
        ]);
        self.http.call(Method::GET, &format!("/domains/v1/domains{query}"), None, None).await
    }

    /// Has a domain lead to a port of a VM.
    pub async fn map_domain(
        &self,
        domain: &str,
        request: &MapDomainRequest,
    ) -> Result<DomainMapping, ClientError> {
        let path = mapping_path(domain);
        self.http.call(Method::POST, &path, None, Some(json(request))).await
    }

    /// Lists the account's mappings, newest first.
    pub async fn list_mappings(
        &self,
        query: &ListMappingsQuery,
    ) -> Result<Vec<DomainMapping>, ClientError> {
        let ListMappingsQuery { offset, limit, domain_ownership, domain } = query;
        let query = query_string([
            ("offset", offset.map(|value| value.to_string())),
            ("limit", limit.map(|value| value.to_string())),
            ("domainOwnership", domain_ownership.clone()),
            ("domain", domain.clone()),
        ]);
        self.http.call(Method::GET, &format!("/domains/v1/mappings{query}"), None, None).await
    }

    /// Has a domain lead nowhere.
    pub async fn unmap_domain(&self, domain: &str) -> Result<(), ClientError> {
        self.http.call(Method::DELETE, &mapping_path(domain), None, None).await.map(nothing)
    }

    async fn identity<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        identity: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        let path = format!("/identity/v1/identities/{}{path}", encode(identity));
        self.http.call(method, &path, None, body).await
    }

    /// Starts a terminal session as `user`, root where absent, and looks on.
    pub async fn open_pty(
        &self,
        vm: &str,
        user: Option<&str>,
        query: &OpenPtyQuery,
    ) -> Result<Pty, ClientError> {
        let OpenPtyQuery { cols, rows, exec, session_id } = query;
        let query = query_string([
            ("cols", cols.map(|value| value.to_string())),
            ("rows", rows.map(|value| value.to_string())),
            ("exec", exec.clone()),
            ("sessionId", session_id.clone()),
        ]);
        let path = format!("{}{query}", vm_path(vm, "/pty"));
        Ok(Pty::new(self.http.websocket(&path, user_header(user)?).await?).await)
    }

    /// Looks on at a terminal session of `user`, of anyone where absent.
    pub async fn attach_pty(
        &self,
        vm: &str,
        user: Option<&str>,
        session: &str,
        query: &AttachPtyQuery,
    ) -> Result<Pty, ClientError> {
        let AttachPtyQuery { cols, rows } = query;
        let query = query_string([
            ("cols", cols.map(|value| value.to_string())),
            ("rows", rows.map(|value| value.to_string())),
        ]);
        let path = format!("{}{query}", pty_path(vm, session));
        Ok(Pty::new(self.http.websocket(&path, user_header(user)?).await?).await)
    }

    /// Lists the terminal sessions of `user`, of everyone where absent. Wakes nothing.
    pub async fn list_ptys(
        &self,
        vm: &str,
        user: Option<&str>,
    ) -> Result<ListPtySessionsResponse, ClientError> {
        let path = vm_path(vm, "/pty/sessions");
        self.http.call(Method::GET, &path, user_header(user)?, None).await
    }

    /// Kills the program of a terminal session and forgets the session.
    pub async fn close_pty(
        &self,
        vm: &str,
        user: Option<&str>,
        session: &str,
    ) -> Result<ClosePtySessionResponse, ClientError> {
        let path = pty_path(vm, session);
        self.http.call(Method::DELETE, &path, user_header(user)?, None).await
    }

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
        let Empty {} = self.http.call(Method::DELETE, &path, None, Some(json(&request))).await?;
        Ok(())
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        vm: &str,
        action: &str,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        self.http.call(Method::POST, &vm_path(vm, action), None, body).await
    }
}

pub(crate) fn encode(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, UNRESERVED)
}

fn vm_path(vm: &str, action: &str) -> String {
    format!("/v1/vms/{}{action}", encode(vm))
}

fn file_path(vm: &str, path: &str) -> String {
    format!("/v1/vms/{}/files/{}", encode(vm), encode(path))
}

fn pty_path(vm: &str, session: &str) -> String {
    format!("/v1/vms/{}/pty/sessions/{}", encode(vm), encode(session))
}

fn vpc_path(vpc: &str, action: &str) -> String {
    format!("/v1/vpcs/{}{action}", encode(vpc))
}

fn snapshot_path(snapshot: &str) -> String {
    format!("/v1/vms/snapshots/{}", encode(snapshot))
}

fn mapping_path(domain: &str) -> String {
    format!("/domains/v1/mappings/{}", encode(domain))
}

fn permission_path(kind: &str, id: &str) -> String {
    format!("/permissions/{kind}/{}", encode(id))
}

fn list_permissions_query(query: &ListPermissionsQuery) -> String {
    let ListPermissionsQuery { limit, offset } = query;
    query_string([
        ("limit", limit.map(|value| value.to_string())),
        ("offset", offset.map(|value| value.to_string())),
    ])
}

fn nothing(Empty {}: Empty) {}

fn list_vms_query(query: &ListVmsQuery) -> String {
    let ListVmsQuery { limit, offset, vm_state, include_deleted, search } = query;
    query_string([
        ("limit", limit.map(|value| value.to_string())),
        ("offset", offset.map(|value| value.to_string())),
        ("vmState", vm_state.map(|value| value.to_string())),
        ("includeDeleted", include_deleted.map(|value| value.to_string())),
        ("search", search.clone()),
    ])
}

fn list_snapshots_query(query: &ListSnapshotsQuery) -> String {
    let ListSnapshotsQuery {
        include_deleted,
        include_failed,
        include_building,
        include_cancelled,
        include_lost,
    } = query;
    let fields = [
        ("includeDeleted", include_deleted),
        ("includeFailed", include_failed),
        ("includeBuilding", include_building),
        ("includeCancelled", include_cancelled),
        ("includeLost", include_lost),
    ];
    query_string(fields.map(|(name, value)| (name, value.map(|value| value.to_string()))))
}

/// The fields that are there, encoded.
pub(crate) fn query_string<const N: usize>(fields: [(&str, Option<String>); N]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&format!("{name}={}", encode(&value)));
    }
    text
}

fn user_header(user: Option<&str>) -> Result<Option<(HeaderName, HeaderValue)>, ClientError> {
    let Some(user) = user else { return Ok(None) };
    let value = HeaderValue::from_str(user).map_err(|_| ClientError::BadUser(user.to_owned()))?;
    Ok(Some((HeaderName::from_static(LINUX_USER_HEADER), value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::VmState;

    #[test]
    fn a_file_path_is_one_segment() {
        assert_eq!(file_path("vm", "/srv/a b"), "/v1/vms/vm/files/%2Fsrv%2Fa%20b");
    }

    #[test]
    fn absent_query_fields_are_not_sent() {
        assert_eq!(list_vms_query(&ListVmsQuery::default()), "");
        let query = ListVmsQuery {
            limit: Some(5),
            vm_state: Some(VmState::Running),
            search: Some("a&b".into()),
            ..ListVmsQuery::default()
        };
        assert_eq!(list_vms_query(&query), "?limit=5&vmState=running&search=a%26b");
        let query = ListSnapshotsQuery {
            include_deleted: Some(true),
            include_lost: Some(false),
            ..ListSnapshotsQuery::default()
        };
        assert_eq!(list_snapshots_query(&query), "?includeDeleted=true&includeLost=false");
    }
}
