//! The calls on VMs and their snapshots, and what all calls are made with.

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::error::ClientError;
use crate::http::{Http, json};
use crate::pty::Pty;
use crate::wire::{
    AttachPtyQuery, AwaitVmResponse, ClosePtySessionResponse, CreateVmRequest, CreateVmResponse,
    DeleteSnapshotResponse, DeleteVmResponse, Empty, ExecRequest, ExecResponse, ForkVmRequest,
    ForkVmResponse, GetVmResponse, KillVmResponse, LINUX_USER_HEADER, ListPtySessionsResponse,
    ListSnapshotsQuery, ListSnapshotsResponse, ListVmsQuery, ListVmsResponse, OpenPtyQuery,
    OptimizeVmResponse, ReadFileOrDirResponse, RenameSnapshotRequest, RenameSnapshotResponse,
    ResizeVmRequest, SnapshotRecord, SnapshotVmRequest, SnapshotVmResponse, SshResponse,
    StartVmRequest, StartVmResponse, StopVmResponse, SuspendVmResponse, WhoamiResponse,
    WriteFileRequest,
};

/// What a path segment may hold as it is; a slash is encoded.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
        let path = format!("/v1/vms{}", query_string(query));
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
        self.post(vm, "/resize", Some(json(request))).await.map(nothing)
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
        let path = format!("/v1/vms/snapshots{}", query_string(query));
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
        self.http
            .call(Method::PUT, &file_path(vm, path), user_header(user)?, body)
            .await
            .map(nothing)
    }

    /// Starts a terminal session as `user`, root where absent, and looks on.
    pub async fn open_pty(
        &self,
        vm: &str,
        user: Option<&str>,
        query: &OpenPtyQuery,
    ) -> Result<Pty, ClientError> {
        let path = vm_path(vm, &format!("/pty{}", query_string(query)));
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
        let path = format!("{}{}", pty_path(vm, session), query_string(query));
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

fn snapshot_path(snapshot: &str) -> String {
    format!("/v1/vms/snapshots/{}", encode(snapshot))
}

/// What a query says, to stand behind a path; nothing if it says nothing.
pub(crate) fn query_string(query: &impl Serialize) -> String {
    let text = serde_urlencoded::to_string(query).expect("a query is a flat struct");
    // A plus of a value's own is encoded: those that are left mean a space.
    if text.is_empty() { text } else { format!("?{}", text.replace('+', "%20")) }
}

/// The answer of a call that has none.
pub(crate) fn nothing(Empty {}: Empty) {}

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
        assert_eq!(query_string(&ListVmsQuery::default()), "");
        let query = ListVmsQuery {
            limit: Some(5),
            vm_state: Some(VmState::Running),
            search: Some("a&b".into()),
            ..ListVmsQuery::default()
        };
        assert_eq!(query_string(&query), "?limit=5&vmState=running&search=a%26b");
        let query = ListSnapshotsQuery {
            include_deleted: Some(true),
            include_lost: Some(false),
            ..ListSnapshotsQuery::default()
        };
        assert_eq!(query_string(&query), "?includeDeleted=true&includeLost=false");
    }
}
