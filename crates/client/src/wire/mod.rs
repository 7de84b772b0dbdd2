//! The JSON shapes of the API, one definition each, used by the server to decode and encode and by
//! the client to encode and decode.
//!
//! Requests are decoded leniently in form and judged by the server afterwards: a field that the
//! server does not know is collected, not lost, so that it can be refused by name.

mod background;
mod build;
mod create;
mod dns;
mod domain;
mod exec;
mod files;
pub mod git;
mod identity;
mod pty;
mod snapshot;
mod spec;
mod ssh;
mod vm;
mod vpc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use background::{
    BACKGROUND_AFTER_HEADER, BACKGROUND_REQUEST_HEADER, BackgroundRequest, LogLine, LogsResponse,
};
pub use build::{
    BuildPhase, BuildRecord, BuildState, EnsureSnapshotRequest, EnsureSnapshotResponse,
    ListBuildPhasesResponse,
};
pub use create::{
    CreateVmRequest, CreateVmResponse, DeleteEvent, PortMapping, PortProtocol, VmDomain,
    VmPersistence, VmSpecLayer, VmTemplate,
};
pub use dns::{
    CreateDnsRecordRequest, CreateDnsRecordResponse, DeleteDnsRecordQuery, DeleteDnsRecordResponse,
    DnsRecord, DnsRecordInput, DnsRecordKind, ListDnsRecordsQuery, ListDnsRecordsResponse,
};
pub use domain::{
    CancelVerification, CompleteVerificationRequest, DomainMapping, DomainResponse,
    DomainVerification, ListDomainsQuery, ListMappingsQuery, MapDomainRequest, OwnedDomain,
    PendingVerification, VerifyDomainRequest,
};
pub use exec::{ExecRequest, ExecResponse};
pub use files::{
    DirectoryResponse, FileEncoding, FileEntry, FileKind, FileResponse, ReadFileOrDirResponse,
    WriteFileRequest,
};
pub use identity::{
    CreateTokenResponse, GitAccessLevel, GitPermission, GitPermissionRequest, GrantedRepository,
    Identity, ListGitPermissionsResponse, ListIdentitiesQuery, ListIdentitiesResponse,
    ListPermissionsQuery, ListTokensResponse, ListVmPermissionsResponse, TokenListItem, Visibility,
    VmPermission, VmPermissionRequest,
};
pub use pty::{
    AttachPtyQuery, ClosePtySessionResponse, ListPtySessionsResponse, OpenPtyQuery, PTY_RESET,
    PtyClientMessage, PtyServerMessage, PtySessionInfo, PtySignal,
};
pub use snapshot::{
    DeleteSnapshotResponse, ListSnapshotsQuery, ListSnapshotsResponse, RenameSnapshotRequest,
    RenameSnapshotResponse, SnapshotPersistence, SnapshotRecord, SnapshotState, SnapshotVmRequest,
    SnapshotVmResponse,
};
pub use spec::{
    AdditionalFile, AdditionalFileEncoding, GitConfig, GitConfigUser, GitMount, GitSetup,
    LinuxGroup, LinuxUser, RestartPolicy, RestartPolicyKind, ServiceMode, SystemdConfig,
    SystemdService, SystemdServicePatch,
};
pub use ssh::SshResponse;
pub use vm::{
    AwaitVmResponse, DeleteVmResponse, ForkVmRequest, ForkVmResponse, ForkedVm, GetVmResponse,
    KillVmResponse, ListVmsQuery, ListVmsResponse, OptimizeVmResponse, ResizeVmRequest,
    StartVmRequest, StartVmResponse, StopVmResponse, SuspendVmResponse, VmListItem, VmSizing,
    VmState,
};

pub use vpc::{
    ConfigureWireguardPeerRequest, ConfigureWireguardPeerResponse, CreateVpcRequest,
    CreateVpcResponse, CreateWireguardEphemeralRequest, CreateWireguardEphemeralResponse,
    DeleteVpcResponse, DeleteWireguardEphemeralRequest, ListVpcsResponse, VmNic, VmNicAddress,
    VmNicBackend, VmNicMode, VpcItem, VpcMember,
};

/// Names the Linux user of the guest that exec and file calls act as; root where absent.
pub const LINUX_USER_HEADER: &str = "x-freestyle-vm-linux-user-id";
/// Carries an identity's access token.
pub const IDENTITY_TOKEN_HEADER: &str = "x-freestyle-identity-access-token";
/// On every response: names the request in the server's log.
pub const TRACE_ID_HEADER: &str = "x-freestyle-trace-id";

/// The body of every failure (protocol section 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// One of the documented codes.
    pub code: String,
    /// The code again: generated clients read it here.
    pub error: String,
    /// For people.
    pub message: String,
    /// What belongs to the code, in camel case.
    #[serde(flatten)]
    #[cfg_attr(feature = "utoipa", schema(ignore))]
    pub fields: Map<String, Value>,
}

/// Who a credential belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct WhoamiResponse {
    /// The account.
    pub account_id: String,
    /// The identity, when the credential is an identity's token.
    pub identity_id: Option<String>,
}

/// A reply without content: every 2xx carries JSON (protocol section 2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Empty {}

/// Keeps `null` apart from an absent field: `None` is absent, `Some(None)` is `null`.
mod nullable {
    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Option::deserialize(deserializer).map(Some)
    }
}
