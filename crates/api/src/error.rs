//! The one table from what went wrong to HTTP status, error code and extra fields (protocol
//! sections 3 and 21).

mod git;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use freestyle_access::Denied;
use freestyle_client::wire::{ErrorBody, LINUX_USER_HEADER};
use freestyle_domains::DomainError;
use freestyle_store::{AccountId, StoreError, VmId};
use freestyle_vm::setup::{Diagnostics, SpecError};
use freestyle_vm::{MAX_DISK_MIB, MAX_SESSIONS, MAX_VIEWERS, PtyFailure, SessionId, VmError};
use freestyle_vpc::VpcError;
use serde_json::{Map, Value, json};

macro_rules! codes {
    ($($name:ident $status:literal $text:literal)*) => {
        /// Every error code this server sends. The SDK knows each of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($name),* }

        impl Code {
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            pub(crate) fn status(self) -> StatusCode {
                let status: u16 = match self { $(Self::$name => $status),* };
                StatusCode::from_u16(status).expect("the table holds valid statuses")
            }
        }
    };
}

codes! {
    UnauthorizedError           401 "UNAUTHORIZED_ERROR"
    Unauthorized                401 "UNAUTHORIZED"
    Forbidden                   403 "FORBIDDEN"
    NotFound                    404 "NOT_FOUND"
    BadRequest                  400 "BAD_REQUEST"
    InternalError               500 "INTERNAL_ERROR"
    DatabaseError               500 "DATABASE_ERROR"
    InvalidVmId                 400 "INVALID_VM_ID"
    VmNotFound                  404 "VM_NOT_FOUND"
    VmNotFoundInFs              406 "VM_NOT_FOUND_IN_FS"
    VmNotRunning                400 "VM_NOT_RUNNING"
    VmDeleted                   410 "VM_DELETED"
    VmOperationDenied           409 "VM_OPERATION_DENIED_DURING_TRANSACTION"
    VmStartTimeout              504 "VM_START_TIMEOUT"
    VmExitDuringStart           500 "VM_EXIT_DURING_START"
    VmSetupFailed               500 "VM_SETUP_FAILED"
    SnapshotSetupFailed         500 "SNAPSHOT_SETUP_FAILED"
    VmNonResponsive             500 "RESUMED_VM_NON_RESPONSIVE"
    NoCapacity                  503 "NO_LOCAL_STORAGE_CAPACITY"
    CreateVmBadRequest          400 "CREATE_VM_BAD_REQUEST"
    CreateVmVcpuNotPowerOfTwo   400 "CREATE_VM_VCPU_NOT_POWER_OF_TWO"
    CreateVmVcpuOutOfRange      400 "CREATE_VM_VCPU_OUT_OF_RANGE"
    CreateVmMemNotPowerOfTwo    400 "CREATE_VM_MEM_NOT_POWER_OF_TWO"
    CreateVmMemOutOfRange       400 "CREATE_VM_MEM_OUT_OF_RANGE"
    CreateVmRootfsOutOfRange    400 "CREATE_VM_ROOTFS_OUT_OF_RANGE"
    ConflictingSpecSources      400 "CONFLICTING_SPEC_SOURCES_ERROR"
    NonLeafLayerField           400 "NON_LEAF_LAYER_FIELD_ERROR"
    CreateSnapshotBadRequest    400 "CREATE_SNAPSHOT_BAD_REQUEST"
    InvalidGitRepoSpec          400 "INVALID_GIT_REPO_SPEC_ERROR"
    ValidationError             400 "VALIDATION_ERROR"
    GroupNameEmpty              400 "GROUP_NAME_EMPTY"
    GroupNameTooLong            400 "GROUP_NAME_TOO_LONG"
    GroupNameInvalidChars       400 "GROUP_NAME_INVALID_CHARS"
    GroupNameReserved           400 "GROUP_NAME_RESERVED"
    DuplicateGroupName          400 "DUPLICATE_GROUP_NAME"
    DuplicateUserName           400 "DUPLICATE_USER_NAME"
    UserGroupEmpty              400 "USER_GROUP_EMPTY"
    UserSystemFlagMismatch      400 "USER_SYSTEM_FLAG_MISMATCH"
    UserUidOutOfRange           400 "USER_UID_OUT_OF_RANGE"
    UserHomeInvalid             400 "USER_HOME_INVALID"
    UserShellInvalid            400 "USER_SHELL_INVALID"
    ServiceNameEmpty            400 "SERVICE_NAME_EMPTY"
    ServiceNameTooLong          400 "SERVICE_NAME_TOO_LONG"
    ServiceNameInvalidPrefix    400 "SERVICE_NAME_INVALID_PREFIX"
    ServiceNameInvalidChars     400 "SERVICE_NAME_INVALID_CHARS"
    ServiceAlreadyExists        409 "SERVICE_ALREADY_EXISTS"
    ExecEmpty                   400 "EXEC_EMPTY"
    EnvKeyEmpty                 400 "ENV_KEY_EMPTY"
    EnvKeyContainsEquals        400 "ENV_KEY_CONTAINS_EQUALS"
    AfterContainsEmpty          400 "AFTER_ARRAY_CONTAINS_EMPTY"
    RequiresContainsEmpty       400 "REQUIRES_ARRAY_CONTAINS_EMPTY"
    OnFailureContainsEmpty      400 "ON_FAILURE_ARRAY_CONTAINS_EMPTY"
    WantedByEmpty               400 "WANTED_BY_EMPTY"
    UserEmpty                   400 "USER_EMPTY"
    GroupEmpty                  400 "GROUP_EMPTY"
    WorkdirEmpty                400 "WORKDIR_EMPTY"
    BuildNotFound               404 "BUILD_NOT_FOUND"
    BuildNotFoundForVm          404 "BUILD_NOT_FOUND_FOR_VM"
    InvalidSnapshotId           400 "INVALID_SNAPSHOT_ID"
    SnapshotNotFound            404 "SNAPSHOT_NOT_FOUND"
    SnapshotAlreadyDeleted      409 "SNAPSHOT_ALREADY_DELETED"
    SnapshotVmBadRequest        400 "SNAPSHOT_VM_BAD_REQUEST"
    SourceSnapshotDeleted       410 "SOURCE_SNAPSHOT_DELETED"
    SourceSnapshotBuilding      409 "SOURCE_SNAPSHOT_BUILDING"
    SourceSnapshotCancelled     409 "SOURCE_SNAPSHOT_CANCELLED"
    SourceSnapshotLost          409 "SOURCE_SNAPSHOT_LOST"
    ForkVmNotFound              404 "FORK_VM_NOT_FOUND"
    VpcForkUnsupported          400 "VPC_FORK_UNSUPPORTED"
    SuspendFailedVmResumed      500 "SUSPEND_FAILED_VM_RESUMED"
    ResizeVmEmptyRequest        400 "RESIZE_VM_EMPTY_REQUEST"
    ResizeVmVcpuNotPowerOfTwo   400 "RESIZE_VM_VCPU_NOT_POWER_OF_TWO"
    ResizeVmVcpuOutOfRange      400 "RESIZE_VM_VCPU_OUT_OF_RANGE"
    ResizeVmMemNotPowerOfTwo    400 "RESIZE_VM_MEM_NOT_POWER_OF_TWO"
    ResizeVmMemOutOfRange       400 "RESIZE_VM_MEM_OUT_OF_RANGE"
    ResizeVmRootfsShrink        400 "RESIZE_VM_ROOTFS_SHRINK_NOT_SUPPORTED"
    RootfsSizeTooLarge          400 "ROOTFS_SIZE_TOO_LARGE"
    ResizeFailed                500 "RESIZE_FAILED"
    ExecTimedOut                408 "EXEC_TIMED_OUT"
    FilesBadRequest             400 "FILES_BAD_REQUEST"
    FileNotFound                404 "FILE_NOT_FOUND"
    RepoAlreadyExists           409 "REPO_ALREADY_EXISTS"
    GitRepoLimitExceeded        403 "GIT_REPO_LIMIT_EXCEEDED"
    GitInvalidRequest           400 "GIT_INVALID_REQUEST"
    GitServerError              500 "GIT_SERVER_ERROR"
    SourceImportConflict        400 "SOURCE_IMPORT_CONFLICT"
    ImportSubdirNotFound        400 "IMPORT_SUBDIR_NOT_FOUND"
    SourceNotFound              400 "SOURCE_NOT_FOUND"
    SourceUnauthorized          400 "SOURCE_UNAUTHORIZED"
    GithubSyncConflict          409 "GIT_HUB_SYNC_CONFLICT"
    GithubSyncFailed            500 "GIT_HUB_SYNC_FAILED"
    BranchNotFound              404 "BRANCH_NOT_FOUND"
    BranchAlreadyExists         409 "BRANCH_ALREADY_EXISTS"
    BranchNameEmpty             400 "BRANCH_NAME_EMPTY"
    EmptyTag                    400 "EMPTY_TAG"
    NoDefaultBranch             404 "NO_DEFAULT_BRANCH"
    ReferenceNotFound           404 "REFERENCE_NOT_FOUND"
    CommitNotFound              404 "COMMIT_NOT_FOUND"
    ParentNotFound              404 "PARENT_NOT_FOUND"
    CommitNotInBranch           400 "COMMIT_NOT_IN_BRANCH"
    BlobNotFound                404 "BLOB_NOT_FOUND"
    TreeNotFound                404 "TREE_NOT_FOUND"
    TagNotFound                 404 "TAG_NOT_FOUND"
    PathNotFound                404 "PATH_NOT_FOUND"
    ContentNotFound             404 "CONTENT_NOT_FOUND"
    InvalidObjectId             400 "INVALID_OBJECT_ID"
    InvalidRevision             400 "INVALID_REVISION"
    Ambiguous                   400 "AMBIGUOUS"
    Invalid                     400 "INVALID"
    InvalidRange                400 "INVALID_RANGE"
    OffsetWithSelector          400 "OFFSET_WITH_SELECTOR"
    InvalidFilePath             400 "INVALID_FILE_PATH"
    InvalidFileChange           400 "INVALID_FILE_CHANGE"
    InvalidBase64Content        400 "INVALID_BASE64_CONTENT"
    ConflictingParent           409 "CONFLICTING_PARENT"
    EmptyQuery                  400 "EMPTY_QUERY"
    FilenameEmptyQuery          400 "FILENAME_EMPTY_QUERY"
    CommitEmptyQuery            400 "COMMIT_EMPTY_QUERY"
    DiffEmptyQuery              400 "DIFF_EMPTY_QUERY"
    InvalidRegex                400 "INVALID_REGEX"
    CommitInvalidRegex          400 "COMMIT_INVALID_REGEX"
    DiffInvalidRegex            400 "DIFF_INVALID_REGEX"
    InvalidPathPattern          400 "INVALID_PATH_PATTERN"
    FilenameInvalidPattern      400 "FILENAME_INVALID_PATTERN"
    DiffInvalidPathPattern      400 "DIFF_INVALID_PATH_PATTERN"
    InvalidSessionId            400 "INVALID_SESSION_ID"
    SessionNotFound             404 "SESSION_NOT_FOUND"
    SessionExpired              410 "SESSION_EXPIRED"
    SessionAlreadyExists        409 "SESSION_ALREADY_EXISTS"
    SessionUserMismatch         403 "SESSION_USER_MISMATCH"
    SessionCapReached           429 "SESSION_CAP_REACHED"
    AccessDenied                403 "ACCESS_DENIED"
    IdentityNotFound            404 "IDENTITY_NOT_FOUND"
    VmPermissionNotFound        404 "VM_PERMISSION_NOT_FOUND"
    PermissionNotFound          404 "PERMISSION_NOT_FOUND"
    PermissionAlreadyExists     409 "PERMISSION_ALREADY_EXISTS"
    GitRepositoryNotFound       404 "GIT_REPOSITORY_NOT_FOUND"
    RepositoryNotFound          404 "REPOSITORY_NOT_FOUND"
    RepositoryAccessDenied      403 "REPOSITORY_ACCESS_DENIED"
    LimitExceeded               403 "LIMIT_EXCEEDED"
    InvalidRequest              400 "INVALID_REQUEST"
    InvalidDomain               400 "INVALID_DOMAIN"
    DomainAlreadyExists         400 "DOMAIN_ALREADY_EXISTS"
    DomainOwnershipNotVerified  401 "DOMAIN_OWNERSHIP_NOT_VERIFIED"
    FailedPermissionsCheck      401 "FAILED_PERMISSIONS_CHECK"
    VmAccessDeniedForMapping    401 "VM_ACCESS_DENIED_FOR_MAPPING"
    DeploymentAccessDenied      401 "DEPLOYMENT_ACCESS_DENIED"
    VerificationNotFound        404 "VERIFICATION_NOT_FOUND"
    VerificationFailed          400 "VERIFICATION_FAILED"
    DomainVerificationFailed    403 "DOMAIN_OWNERSHIP_VERIFICATION_FAILED"
    VerificationNotIssued 400 "FAILED_TO_CREATE_VERIFICATION_CODE"
    FailedToDeleteVerification  400 "FAILED_TO_DELETE_VERIFICATION"
    FailedToProvisionCertificate 422 "FAILED_TO_PROVISION_CERTIFICATE"
    FailedToVerifyDomain        500 "FAILED_TO_VERIFY_DOMAIN"
    FailedToListDomains         500 "FAILED_TO_LIST_DOMAINS"
    FailedToListVerifications   500 "FAILED_TO_LIST_VERIFICATIONS"
    FailedInsertDomainMapping   500 "FAILED_INSERT_DOMAIN_MAPPING"
    FailedRemoveDomainMapping   500 "FAILED_REMOVE_DOMAIN_MAPPING"
    DomainOwnershipError        403 "DOMAIN_OWNERSHIP_ERROR"
    RecordOwnershipError        403 "RECORD_OWNERSHIP_ERROR"
    ErrorCreatingRecord         500 "ERROR_CREATING_RECORD"
    ErrorDeletingRecord         500 "ERROR_DELETING_RECORD"
}

/// A failure as it goes to the client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ApiError {
    code: Code,
    status: StatusCode,
    message: String,
    fields: Map<String, Value>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, status: code.status(), message: message.into(), fields: Map::new() }
    }

    /// Adds a field that belongs to the code.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Adds what became of the guest's services, as the SDK reads it (protocol section 3).
    fn with_diagnostics(self, diagnostics: Option<&Diagnostics>) -> Self {
        let Some(diagnostics) = diagnostics else { return self };
        let states = diagnostics.service_states.iter().map(|state| {
            json!({
                "activeState": state.active_state,
                "subState": state.sub_state,
                "services": state.services,
            })
        });
        let logs = diagnostics.failed_service_logs.iter();
        let logs = logs.map(|log| json!({"unitName": log.unit_name, "log": log.log}));
        let (states, logs): (Vec<_>, Vec<_>) = (states.collect(), logs.collect());
        self.with("diagnostics", json!({"serviceStates": states, "failedServiceLogs": logs}))
    }

    /// Replaces the code's own status, which means nothing to the SDK.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The text on the wire.
    pub(crate) fn into_body(self) -> ErrorBody {
        let code = self.code.as_str();
        ErrorBody {
            code: code.to_owned(),
            error: code.to_owned(),
            message: self.message,
            fields: self.fields,
        }
    }

    /// A failure whose cause is not the client's business. The cause goes to the log, next to the
    /// trace id that the client gets.
    pub(crate) fn internal(code: Code, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(code = code.as_str(), %cause, "request failed");
        Self::new(code, "the server failed; its log has the cause under this request's trace id")
    }

    /// What the VM service reports. A malformed request has a code of its own in each family; sizes
    /// have those of a create, and a snapshot is the one that a VM was to be made from.
    pub(crate) fn from_vm(error: VmError, bad_request: Code) -> Self {
        let message = error.to_string();
        match error {
            VmError::NotFound(vm) => Self::new(Code::VmNotFound, message).with("vmId", vm.as_str()),
            VmError::Lost(vm) => Self::new(Code::VmNotFoundInFs, message).with("vmId", vm.as_str()),
            VmError::NotRunning(vm) => {
                Self::new(Code::VmNotRunning, message).with("vmId", vm.as_str())
            }
            VmError::Busy { vm, operation } => Self::new(Code::VmOperationDenied, message)
                .with("vmId", vm.as_str())
                .with("transactionId", operation.as_str()),
            VmError::Interrupted(_) => Self::new(Code::VmDeleted, message),
            VmError::SnapshotNotFound(snapshot) => Self::snapshot_not_found(snapshot.as_str()),
            VmError::SnapshotDeleted(snapshot) => Self::new(Code::SourceSnapshotDeleted, message)
                .with("snapshotId", snapshot.as_str())
                .with("hint", "take another snapshot, or leave snapshotId out"),
            VmError::SnapshotBuilding(snapshot) => Self::new(Code::SourceSnapshotBuilding, message)
                .with("snapshotId", snapshot.as_str()),
            VmError::SnapshotFailed { id, reason } => {
                Self::new(Code::SourceSnapshotCancelled, message)
                    .with("snapshotId", id.as_str())
                    .with("reason", reason)
            }
            VmError::SnapshotLost { id, reason } => Self::new(Code::SourceSnapshotLost, message)
                .with("snapshotId", id.as_str())
                .with("reason", reason),
            // What was saved is of no more use here than if it were gone.
            VmError::MemoryIncompatible { reason, .. } => {
                Self::new(Code::SourceSnapshotLost, message).with("reason", reason)
            }
            VmError::SuspendFailed { vm, .. } => {
                Self::new(Code::SuspendFailedVmResumed, message).with("vmId", vm.as_str())
            }
            VmError::BadRequest(_)
            | VmError::MemorySnapshotsUnavailable(_)
            | VmError::UnknownUser { .. }
            | VmError::OutputTooLarge { .. }
            | VmError::File(_) => Self::new(bad_request, message),
            VmError::ForkInVpc(vm) => {
                Self::new(Code::VpcForkUnsupported, message).with("vmId", vm.as_str())
            }
            VmError::ResizeEmpty => Self::new(Code::ResizeVmEmptyRequest, message),
            VmError::DiskShrink { current, requested } => {
                let (got, min) = (requested.into(), current);
                Self::out_of_range(Code::CreateVmRootfsOutOfRange, message, got, min, MAX_DISK_MIB)
            }
            VmError::VcpuNotPowerOfTwo { got } => {
                Self::new(Code::CreateVmVcpuNotPowerOfTwo, message).with("got", got)
            }
            VmError::VcpuOutOfRange { got, max } => {
                Self::new(Code::CreateVmVcpuOutOfRange, message).with("got", got).with("max", max)
            }
            VmError::MemoryNotPowerOfTwo { got } => {
                Self::new(Code::CreateVmMemNotPowerOfTwo, message).with("got", got)
            }
            VmError::MemoryOutOfRange { got, min, max } => {
                Self::out_of_range(Code::CreateVmMemOutOfRange, message, got.into(), min, max)
            }
            VmError::DiskOutOfRange { got, min, max } => {
                Self::out_of_range(Code::CreateVmRootfsOutOfRange, message, got.into(), min, max)
            }
            VmError::StartTimeout { .. } => Self::new(Code::VmStartTimeout, message),
            VmError::ExitDuringStart { .. } => Self::new(Code::VmExitDuringStart, message),
            VmError::SetupFailed { reason, diagnostics } => Self::new(Code::VmSetupFailed, message)
                .with("failedReason", reason)
                .with_diagnostics(diagnostics.as_deref()),
            VmError::SnapshotSetupFailed { id, reason, diagnostics } => {
                Self::new(Code::SnapshotSetupFailed, message)
                    .with("snapshotId", id.as_str())
                    .with("failedReason", reason)
                    .with_diagnostics(diagnostics.as_deref())
            }
            VmError::NoCapacity(_) => Self::new(Code::NoCapacity, message),
            VmError::ExecTimedOut { timeout, stdout, stderr } => {
                let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                Self::new(Code::ExecTimedOut, message)
                    .with("timeoutMs", timeout_ms)
                    .with("stdout", String::from_utf8_lossy(&stdout))
                    .with("stderr", String::from_utf8_lossy(&stderr))
            }
            VmError::FileNotFound { path } => {
                Self::new(Code::FileNotFound, message).with("path", path)
            }
            VmError::Pty(failure) => Self::new(pty_code(failure), message),
            VmError::GuestUnreachable(_) | VmError::PortClosed { .. } => {
                tracing::warn!(%message, "guest unreachable");
                Self::new(Code::VmNonResponsive, message)
            }
            VmError::Store(cause) => Self::internal(Code::DatabaseError, &cause),
            VmError::Internal(cause) => Self::internal(Code::InternalError, &cause),
        }
    }

    /// What the VM service reports of a terminal session.
    pub(crate) fn from_pty(error: VmError, vm: &VmId, session: Option<&SessionId>) -> Self {
        let VmError::Pty(failure) = error else { return Self::from_vm(error, Code::BadRequest) };
        let refused = Self::from_vm(error, Code::BadRequest).with("vmId", vm.as_str());
        match (failure, session) {
            (PtyFailure::TooManySessions, _) => refused.with("limit", MAX_SESSIONS),
            (PtyFailure::TooManyViewers, _) => refused.with("limit", MAX_VIEWERS),
            (_, Some(session)) => refused.with("sessionId", session.as_str()),
            (_, None) => refused,
        }
    }

    /// Why a caller may not.
    pub(crate) fn from_denied(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::NoSuchVm(vm) => Self::new(Code::VmNotFound, message).with("vmId", vm.as_str()),
            Denied::NoSuchRepository(repository) => Self::repository_not_found(&repository),
            Denied::UserNotAllowed { vm, .. } => {
                let message = format!("{message} (the header {LINUX_USER_HEADER})");
                Self::new(Code::AccessDenied, message).with("vmId", vm.as_str())
            }
            Denied::ReadOnly(_) => Self::new(Code::RepositoryAccessDenied, message),
            Denied::NotForIdentities => Self::new(Code::Forbidden, message),
            Denied::NotInForce => Self::new(Code::Unauthorized, message),
            Denied::Store(cause) => Self::from_store(cause),
        }
    }

    /// What the VPC service reports.
    pub(crate) fn from_vpc(error: VpcError) -> Self {
        let message = error.to_string();
        match error {
            VpcError::NotFound(_) => Self::new(Code::NotFound, message),
            VpcError::Range(_)
            | VpcError::BadRequest(_)
            | VpcError::NoSuchMember { .. }
            | VpcError::NoVpn => Self::new(Code::BadRequest, message),
            VpcError::Store(cause) => Self::internal(Code::DatabaseError, &cause),
            VpcError::Network(cause) => Self::internal(Code::InternalError, &cause),
            VpcError::Endpoint(cause) => Self::internal(Code::InternalError, &cause),
        }
    }

    /// What the store reports of identities and grants, in the words of the identity family.
    pub(crate) fn from_store(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NoSuchIdentity(_) => Self::new(Code::IdentityNotFound, message),
            StoreError::NoSuchToken(_) => Self::new(Code::NotFound, message),
            StoreError::NoSuchVm(vm) => {
                Self::new(Code::VmNotFound, message).with("vmId", vm.as_str())
            }
            StoreError::NoSuchRepository(_) => Self::new(Code::GitRepositoryNotFound, message),
            StoreError::GrantExists => Self::new(Code::PermissionAlreadyExists, message),
            StoreError::LimitReached { limit } => {
                Self::new(Code::LimitExceeded, message).with("limit", limit).with("current", limit)
            }
            cause => Self::internal(Code::DatabaseError, &cause),
        }
    }

    /// What the domain service reports. `failed` is the code of a failure that is the server's own.
    pub(crate) fn from_domain(error: DomainError, failed: Code) -> Self {
        let message = error.to_string();
        let about = |code, domain: String| Self::new(code, message.clone()).with("domain", domain);
        match error {
            DomainError::Invalid { name, .. } => about(Code::InvalidDomain, name),
            DomainError::NotVerified(domain) => about(Code::DomainOwnershipNotVerified, domain),
            DomainError::Taken(domain) => about(Code::DomainAlreadyExists, domain),
            DomainError::NoSuchVerification(domain) => about(Code::VerificationNotFound, domain),
            DomainError::NoSuchMapping(domain) => about(Code::FailedPermissionsCheck, domain),
            DomainError::NotProven { .. } => Self::new(Code::DomainVerificationFailed, message),
            DomainError::LookupFailed { .. } => Self::new(Code::VerificationFailed, message),
            DomainError::InvalidRecord(_)
            | DomainError::RecordConflict { .. }
            | DomainError::NoDns => Self::new(Code::InvalidRequest, message),
            DomainError::NoSuchRecord { record, .. } => {
                Self::new(Code::RecordOwnershipError, message).with("recordId", record)
            }
            DomainError::NotAnsweredHere { domain, .. } => {
                about(Code::FailedToProvisionCertificate, domain)
            }
            DomainError::NoSuchVm(vm) => {
                Self::new(Code::VmAccessDeniedForMapping, message).with("vmId", vm.as_str())
            }
            DomainError::LimitReached { limit } => {
                Self::new(Code::LimitExceeded, message).with("limit", limit).with("current", limit)
            }
            DomainError::Store(cause) => Self::internal(failed, &cause),
        }
    }

    /// What the domain service reports of DNS records, in the words of their family.
    pub(crate) fn from_dns(error: DomainError, account: &AccountId, failed: Code) -> Self {
        let message = error.to_string();
        let refused = match error {
            DomainError::NotVerified(domain) => {
                Self::new(Code::DomainOwnershipError, message).with("domain", domain)
            }
            error => Self::from_domain(error, failed),
        };
        match refused.code {
            Code::DomainOwnershipError | Code::RecordOwnershipError => {
                refused.with("accountId", account.as_str())
            }
            _ => refused,
        }
    }

    /// What cannot be set up. `place` names the field; `other` is the code of what has none of its
    /// own.
    pub(crate) fn from_spec(error: SpecError, place: &str, other: Code) -> Self {
        let code = match &error {
            SpecError::GroupNameEmpty => Code::GroupNameEmpty,
            SpecError::GroupNameTooLong { .. } => Code::GroupNameTooLong,
            SpecError::GroupNameInvalidChars { .. } => Code::GroupNameInvalidChars,
            SpecError::GroupNameReserved { .. } => Code::GroupNameReserved,
            SpecError::DuplicateGroupName { .. } => Code::DuplicateGroupName,
            SpecError::DuplicateUserName { .. } => Code::DuplicateUserName,
            SpecError::UserGroupEmpty { .. } => Code::UserGroupEmpty,
            SpecError::UserSystemFlagMismatch { .. } => Code::UserSystemFlagMismatch,
            SpecError::UserUidOutOfRange { .. } => Code::UserUidOutOfRange,
            SpecError::UserHomeInvalid { .. } => Code::UserHomeInvalid,
            SpecError::UserShellInvalid { .. } => Code::UserShellInvalid,
            SpecError::ServiceNameEmpty => Code::ServiceNameEmpty,
            SpecError::ServiceNameTooLong { .. } => Code::ServiceNameTooLong,
            SpecError::ServiceNameInvalidPrefix { .. } => Code::ServiceNameInvalidPrefix,
            SpecError::ServiceNameInvalidChars { .. } => Code::ServiceNameInvalidChars,
            SpecError::ServiceAlreadyExists { .. } => Code::ServiceAlreadyExists,
            SpecError::ExecEmpty { .. } => Code::ExecEmpty,
            SpecError::EnvKeyEmpty { .. } => Code::EnvKeyEmpty,
            SpecError::EnvKeyContainsEquals { .. } => Code::EnvKeyContainsEquals,
            SpecError::AfterContainsEmpty { .. } => Code::AfterContainsEmpty,
            SpecError::RequiresContainsEmpty { .. } => Code::RequiresContainsEmpty,
            SpecError::OnFailureContainsEmpty { .. } => Code::OnFailureContainsEmpty,
            SpecError::WantedByEmpty { .. } => Code::WantedByEmpty,
            SpecError::UserEmpty { .. } => Code::UserEmpty,
            SpecError::GroupEmpty { .. } => Code::GroupEmpty,
            SpecError::WorkdirEmpty { .. } => Code::WorkdirEmpty,
            SpecError::Invalid(_) => other,
        };
        let refused = Self::new(code, format!("{place}: {error}"));
        match error {
            SpecError::ServiceAlreadyExists { name } => refused.with("serviceName", name),
            _ => refused,
        }
    }

    /// What the VM service reports of a fork.
    pub(crate) fn from_fork(error: VmError) -> Self {
        match &error {
            VmError::NotFound(vm) => {
                Self::new(Code::ForkVmNotFound, error.to_string()).with("forkVmId", vm.as_str())
            }
            _ => Self::from_vm(error, Code::BadRequest),
        }
    }

    /// What the VM service reports of a call on a snapshot itself.
    pub(crate) fn from_snapshot(error: VmError) -> Self {
        match &error {
            VmError::SnapshotDeleted(snapshot) => {
                Self::new(Code::SnapshotAlreadyDeleted, error.to_string())
                    .with("snapshotId", snapshot.as_str())
            }
            _ => Self::from_vm(error, Code::BadRequest),
        }
    }

    /// What the VM service reports of a resize.
    pub(crate) fn from_resize(error: VmError) -> Self {
        let code = match &error {
            VmError::DiskShrink { current, requested } => {
                return Self::new(Code::ResizeVmRootfsShrink, error.to_string())
                    .with("currentMb", *current)
                    .with("requestedMb", *requested);
            }
            VmError::DiskOutOfRange { got, max, .. } if got > max => {
                return Self::new(Code::RootfsSizeTooLarge, error.to_string())
                    .with("gotGb", *got as f64 / 1024.0);
            }
            // Smaller than any disk is.
            VmError::DiskOutOfRange { got, .. } => {
                let message = format!("the root filesystem cannot shrink to {got} MiB");
                return Self::new(Code::ResizeVmRootfsShrink, message).with("requestedMb", *got);
            }
            VmError::VcpuNotPowerOfTwo { .. } => Code::ResizeVmVcpuNotPowerOfTwo,
            VmError::VcpuOutOfRange { .. } => Code::ResizeVmVcpuOutOfRange,
            VmError::MemoryNotPowerOfTwo { .. } => Code::ResizeVmMemNotPowerOfTwo,
            VmError::MemoryOutOfRange { .. } => Code::ResizeVmMemOutOfRange,
            VmError::StartTimeout { .. }
            | VmError::ExitDuringStart { .. }
            | VmError::GuestUnreachable(_)
            | VmError::Internal(_) => Code::ResizeFailed,
            _ => return Self::from_vm(error, Code::BadRequest),
        };
        Self { code, status: code.status(), ..Self::from_vm(error, Code::BadRequest) }
    }

    pub(crate) fn snapshot_not_found(snapshot: &str) -> Self {
        Self::new(Code::SnapshotNotFound, format!("there is no snapshot {snapshot}"))
            .with("snapshotId", snapshot)
    }

    pub(crate) fn repository_not_found(repository: &str) -> Self {
        Self::new(Code::RepositoryNotFound, format!("there is no repository {repository}"))
            .with("repoId", repository)
    }

    /// A size with its bounds, all in MiB.
    pub(crate) fn out_of_range(
        code: Code,
        message: String,
        got: Value,
        min: u64,
        max: u64,
    ) -> Self {
        Self::new(code, message).with("got", got).with("min", min).with("max", max)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.into_body())).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// The beginning of a text that a client sent, for a message that quotes it.
pub(crate) fn excerpt(text: &str) -> String {
    cut(text, 100)
}

/// At most the first `max_chars` characters of a text.
pub(crate) fn cut(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn pty_code(failure: PtyFailure) -> Code {
    match failure {
        PtyFailure::NotFound => Code::SessionNotFound,
        PtyFailure::Expired => Code::SessionExpired,
        PtyFailure::AlreadyExists => Code::SessionAlreadyExists,
        PtyFailure::OtherUser => Code::SessionUserMismatch,
        PtyFailure::TooManySessions | PtyFailure::TooManyViewers => Code::SessionCapReached,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freestyle_vm::setup::{ServiceLog, ServiceStates};

    use super::*;

    fn body(error: VmError) -> Value {
        serde_json::to_value(ApiError::from_vm(error, Code::BadRequest).into_body()).unwrap()
    }

    #[test]
    fn a_failure_has_its_code_twice_and_its_fields_beside_it() {
        let vm: freestyle_store::VmId = "abcdefghij0123456789".parse().unwrap();
        assert_eq!(
            body(VmError::NotFound(vm)),
            serde_json::json!({
                "code": "VM_NOT_FOUND",
                "error": "VM_NOT_FOUND",
                "message": "there is no VM abcdefghij0123456789",
                "vmId": "abcdefghij0123456789",
            }),
        );
    }

    #[test]
    fn a_timeout_carries_what_was_printed() {
        let error = VmError::ExecTimedOut {
            timeout: Duration::from_millis(1500),
            stdout: b"half\xff".to_vec(),
            stderr: Vec::new(),
        };
        let body = body(error);
        assert_eq!(body["timeoutMs"], 1500);
        assert_eq!(body["stdout"], "half\u{fffd}");
        assert_eq!(body["stderr"], "");
    }

    #[test]
    fn a_snapshot_that_cannot_be_used_says_why() {
        let id = || "sc-abcdefghij0123456789".parse::<freestyle_store::SnapshotId>().unwrap();
        let reason = || "torn".to_owned();
        for (error, code) in [
            (VmError::SnapshotNotFound(id()), "SNAPSHOT_NOT_FOUND"),
            (VmError::SnapshotDeleted(id()), "SOURCE_SNAPSHOT_DELETED"),
            (VmError::SnapshotBuilding(id()), "SOURCE_SNAPSHOT_BUILDING"),
            (VmError::SnapshotFailed { id: id(), reason: reason() }, "SOURCE_SNAPSHOT_CANCELLED"),
            (VmError::SnapshotLost { id: id(), reason: reason() }, "SOURCE_SNAPSHOT_LOST"),
        ] {
            let body = body(error);
            assert_eq!(body["code"], code);
            assert_eq!(body["snapshotId"], id().as_str(), "{code}");
        }
        let error = ApiError::from_snapshot(VmError::SnapshotDeleted(id()));
        assert_eq!(error.code(), Code::SnapshotAlreadyDeleted);
        let error = ApiError::from_snapshot(VmError::SnapshotNotFound(id()));
        assert_eq!(error.code(), Code::SnapshotNotFound);
    }

    #[test]
    fn a_setup_that_failed_shows_its_services() {
        let states = ServiceStates {
            active_state: "failed".into(),
            sub_state: "failed".into(),
            services: vec!["web.service".into()],
        };
        let log = ServiceLog { unit_name: "web.service".into(), log: "port taken".into() };
        let diagnostics =
            Diagnostics { service_states: vec![states], failed_service_logs: vec![log] };
        let reason = "web.service ended with status 1".to_owned();
        let diagnostics = Some(Box::new(diagnostics));
        let body = body(VmError::SetupFailed { reason: reason.clone(), diagnostics });
        assert_eq!(
            (&body["code"], &body["failedReason"]),
            (&json!("VM_SETUP_FAILED"), &json!(reason))
        );
        assert_eq!(
            body["diagnostics"],
            json!({
                "serviceStates": [
                    {"activeState": "failed", "subState": "failed", "services": ["web.service"]},
                ],
                "failedServiceLogs": [{"unitName": "web.service", "log": "port taken"}],
            }),
        );
        let body = self::body(VmError::SetupFailed { reason, diagnostics: None });
        assert_eq!(body.get("diagnostics"), None);
    }

    #[test]
    fn a_resize_has_codes_of_its_own() {
        let refused =
            |error| serde_json::to_value(ApiError::from_resize(error).into_body()).unwrap();
        let body = refused(VmError::DiskShrink { current: 20480, requested: 10240 });
        assert_eq!(body["code"], "RESIZE_VM_ROOTFS_SHRINK_NOT_SUPPORTED");
        assert_eq!((&body["currentMb"], &body["requestedMb"]), (&20480.into(), &10240.into()));
        let body = refused(VmError::DiskOutOfRange { got: 614_400, min: 4096, max: 524_288 });
        assert_eq!(
            (&body["code"], &body["gotGb"]),
            (&"ROOTFS_SIZE_TOO_LARGE".into(), &600.0.into())
        );
        let body = refused(VmError::DiskOutOfRange { got: 1024, min: 4096, max: 524_288 });
        assert_eq!(body["code"], "RESIZE_VM_ROOTFS_SHRINK_NOT_SUPPORTED");
        let body = refused(VmError::MemoryOutOfRange { got: 1, min: 512, max: 65_536 });
        assert_eq!(
            (&body["code"], &body["max"]),
            (&"RESIZE_VM_MEM_OUT_OF_RANGE".into(), &65_536.into())
        );
        let body = refused(VmError::ResizeEmpty);
        assert_eq!(body["code"], "RESIZE_VM_EMPTY_REQUEST");
        let body = refused(VmError::Internal("open /srv/secret: denied".into()));
        assert_eq!(body["code"], "RESIZE_FAILED");
        assert!(!body.to_string().contains("secret"));
    }

    #[test]
    fn a_session_that_cannot_be_had_is_named() {
        let vm: freestyle_store::VmId = "abcdefghij0123456789".parse().unwrap();
        let session: SessionId = "mine".parse().unwrap();
        for (failure, code) in [
            (PtyFailure::NotFound, "SESSION_NOT_FOUND"),
            (PtyFailure::Expired, "SESSION_EXPIRED"),
            (PtyFailure::AlreadyExists, "SESSION_ALREADY_EXISTS"),
            (PtyFailure::OtherUser, "SESSION_USER_MISMATCH"),
        ] {
            let error = ApiError::from_pty(failure.into(), &vm, Some(&session));
            let body = serde_json::to_value(error.into_body()).unwrap();
            assert_eq!((&body["code"], &body["vmId"]), (&json!(code), &json!(vm.as_str())));
            assert_eq!(body["sessionId"], "mine");
        }
        let error = ApiError::from_pty(PtyFailure::TooManySessions.into(), &vm, None);
        let body = serde_json::to_value(error.into_body()).unwrap();
        assert_eq!((&body["code"], &body["limit"]), (&json!("SESSION_CAP_REACHED"), &json!(128)));
        // Whatever else goes wrong is what it always is.
        let error = ApiError::from_pty(VmError::NotFound(vm.clone()), &vm, Some(&session));
        assert_eq!(error.code(), Code::VmNotFound);
    }

    #[test]
    fn a_fork_of_nothing_names_its_parent() {
        let vm: freestyle_store::VmId = "abcdefghij0123456789".parse().unwrap();
        let error = ApiError::from_fork(VmError::NotFound(vm.clone()));
        assert_eq!(error.code(), Code::ForkVmNotFound);
        assert_eq!(error.into_body().fields["forkVmId"], vm.as_str());
        let error = ApiError::from_fork(VmError::NotRunning(vm));
        assert_eq!(error.code(), Code::VmNotRunning);
    }

    #[test]
    fn internal_causes_stay_on_the_host() {
        let body = body(VmError::Internal("open /srv/secret: denied".into()));
        assert_eq!(body["code"], "INTERNAL_ERROR");
        assert!(!body.to_string().contains("secret"));
    }

    #[test]
    fn codes_and_statuses_are_those_of_the_contract() {
        let contract: Value = serde_json::from_str(include_str!("../tests/contract.json")).unwrap();
        for code in Code::ALL {
            let documented = &contract["x-error-codes"][code.as_str()]["status"];
            assert_eq!(*documented, code.status().as_u16(), "{}", code.as_str());
        }
    }
}
