//! Creating a VM (protocol section 6.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    AdditionalFile, GitMount, GitSetup, LinuxGroup, LinuxUser, SystemdConfig, VmNic, nullable,
};

/// The body of `POST /v1/vms`. Sizes come here, in `template` or in the innermost layer of `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateVmRequest {
    /// A label for people; not unique.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Virtual CPUs: a power of two.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u32>))]
    pub vcpu_count: Option<f64>,
    /// Memory in GB; a power of two in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_size_gb: Option<f64>,
    /// Root filesystem in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_size_gb: Option<f64>,
    /// Seconds without network traffic until the VM may be suspended: 300 where absent, `null` for
    /// never.
    #[serde(default, deserialize_with = "nullable::deserialize")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u64>))]
    pub idle_timeout_seconds: Option<Option<u64>>,
    /// Bytes per check interval below which traffic does not count as activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity_threshold_bytes: Option<u64>,
    /// What happens to the VM when it stops or space runs out; persistent where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<VmPersistence>,
    /// The VM's place in a VPC; at most one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(max_items = 1))]
    pub nics: Option<Vec<VmNic>>,
    /// Whether the VM may be made again under the same id after it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recreate: Option<bool>,
    /// Whether to wait until all services have started and all oneshots have succeeded; `true` where
    /// absent. A layer that becomes a snapshot is always waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_ready_signal: Option<bool>,
    /// How long to wait for services, in seconds; 120 for one that signals when it is ready where
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_signal_timeout_seconds: Option<u64>,
    /// Debian packages to install.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apt_deps: Option<Vec<String>>,
    /// The directory that services run in and relative paths start from; `/` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Linux groups to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<LinuxGroup>>,
    /// Linux users to make or change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<LinuxUser>>,
    /// Files to write, by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_files: Option<BTreeMap<String, AdditionalFile>>,
    /// Git's settings and repositories to clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSetup>,
    /// Repositories to clone, if `git` names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_repos: Option<Vec<GitMount>>,
    /// Systemd services to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<SystemdConfig>,
    /// The snapshot to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Where the SDK puts sizes when there is no spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<VmTemplate>,
    /// Layers, outermost first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<VmSpecLayer>,
    /// Domains that are to lead to the VM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domains: Option<Vec<VmDomain>>,
    /// Where a domain leads that names no port, or 443 or 8081: for 443 to 3000 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortMapping>>,
    /// Every field not named above, as sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "utoipa", schema(ignore))]
    pub rest: Map<String, Value>,
}

/// `template` of [`CreateVmRequest`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmTemplate {
    /// See [`CreateVmRequest::vcpu_count`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u32>))]
    pub vcpu_count: Option<f64>,
    /// See [`CreateVmRequest::mem_size_gb`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_size_gb: Option<f64>,
    /// See [`CreateVmRequest::rootfs_size_gb`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_size_gb: Option<f64>,
    /// See [`CreateVmRequest::idle_timeout_seconds`].
    #[serde(default, deserialize_with = "nullable::deserialize")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u64>))]
    pub idle_timeout_seconds: Option<Option<u64>>,
    /// See [`CreateVmRequest::persistence`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence: Option<VmPersistence>,
    /// See [`CreateVmRequest::wait_for_ready_signal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_ready_signal: Option<bool>,
    /// See [`CreateVmRequest::ready_signal_timeout_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_signal_timeout_seconds: Option<u64>,
    /// Debian packages to install.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apt_deps: Option<Vec<String>>,
    /// The directory that services run in and relative paths start from; `/` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Linux groups to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<LinuxGroup>>,
    /// Linux users to make or change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<LinuxUser>>,
    /// Files to write, by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_files: Option<BTreeMap<String, AdditionalFile>>,
    /// Git's settings and repositories to clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSetup>,
    /// Repositories to clone, if `git` names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_repos: Option<Vec<GitMount>>,
    /// Systemd services to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<SystemdConfig>,
    /// Tells kept snapshots of the same content apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<String>,
    /// Whether to build anew even if there is a snapshot of the same content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_cache: Option<bool>,
    /// See [`CreateVmRequest::ports`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortMapping>>,
    /// The snapshot to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Every field not named above, as sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "utoipa", schema(ignore))]
    pub rest: Map<String, Value>,
}

/// One layer of `spec`. The innermost has no `snapshot`; only it may name sizes and a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmSpecLayer {
    /// The VM's name; outermost layer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The layer this one stands on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(no_recursion))]
    pub snapshot: Option<Box<VmSpecLayer>>,
    /// See [`CreateVmRequest::vcpu_count`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u32>))]
    pub vcpu_count: Option<f64>,
    /// See [`CreateVmRequest::mem_size_gb`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_size_gb: Option<f64>,
    /// See [`CreateVmRequest::rootfs_size_gb`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_size_gb: Option<f64>,
    /// See [`CreateVmRequest::idle_timeout_seconds`]; an outer layer wins.
    #[serde(default, deserialize_with = "nullable::deserialize")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "utoipa", schema(value_type = Option<u64>))]
    pub idle_timeout_seconds: Option<Option<u64>>,
    /// See [`CreateVmRequest::wait_for_ready_signal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_for_ready_signal: Option<bool>,
    /// See [`CreateVmRequest::ready_signal_timeout_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_signal_timeout_seconds: Option<u64>,
    /// Debian packages to install; those of inner layers first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apt_deps: Option<Vec<String>>,
    /// The directory that services run in and relative paths start from; `/` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Linux groups to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<LinuxGroup>>,
    /// Linux users to make or change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<Vec<LinuxUser>>,
    /// Files to write, by path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_files: Option<BTreeMap<String, AdditionalFile>>,
    /// Git's settings and repositories to clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSetup>,
    /// Systemd services to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub systemd: Option<SystemdConfig>,
    /// See [`VmTemplate::discriminator`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discriminator: Option<String>,
    /// See [`VmTemplate::skip_cache`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_cache: Option<bool>,
    /// See [`CreateVmRequest::ports`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<PortMapping>>,
    /// The snapshot to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Every field not named above, as sent.
    #[serde(flatten)]
    #[cfg_attr(feature = "utoipa", schema(ignore))]
    pub rest: Map<String, Value>,
}

/// A domain that is to lead to a new VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct VmDomain {
    /// A preview, or a verified domain or what is below one.
    pub domain: String,
    /// The port in the VM; see [`CreateVmRequest::ports`]. 443 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_port: Option<u32>,
}

/// Which port of a VM stands behind a public one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PortMapping {
    /// 443 or 8081.
    pub port: u32,
    /// The port in the VM.
    pub target_port: u32,
    /// `tcp` where absent, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PortProtocol>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum PortProtocol {
    /// What HTTP stands on.
    Tcp,
    /// Refused: domains are for HTTP.
    Udp,
}

/// What happens to a VM when it stops or space runs out (protocol section 6.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum VmPersistence {
    /// Kept until it is deleted.
    Persistent {},
    /// May be evicted when space runs out.
    Sticky {
        /// 0 to 10, 5 where absent; a higher one is evicted later.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "utoipa", schema(maximum = 10))]
        priority: Option<u8>,
    },
    /// Deleted at the event.
    #[serde(rename_all = "camelCase")]
    Ephemeral {
        /// When it goes; `OnStop` where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delete_event: Option<DeleteEvent>,
    },
}

/// When an ephemeral VM is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum DeleteEvent {
    /// When it stops.
    OnStop,
    /// When it is suspended or stops.
    OnSuspend,
}

/// The reply of `POST /v1/vms`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreateVmResponse {
    /// The VM.
    pub id: String,
    /// Domains that lead to it. Never absent: the SDK filters the list.
    pub domains: Vec<String>,
    /// The snapshot it was made from, when the request asked for one.
    pub snapshot_id: Option<String>,
    /// Always `null`.
    pub console_url: Option<String>,
}
