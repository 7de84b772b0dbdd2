//! What a spec asks to be set up inside a guest (protocol section 6.1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A Linux group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct LinuxGroup {
    /// Its name.
    pub name: String,
    /// Its number; a free one where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<i64>,
    /// Whether a free number is taken from those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<bool>,
}

/// A Linux user. One that exists is changed in what is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct LinuxUser {
    /// Its name.
    pub name: String,
    /// Its number, 0 to 65535, to 999 for a system user; a free one where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    /// The comment in `/etc/passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gecos: Option<String>,
    /// Groups it is a member of besides its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// `/home/<name>` where absent, `/` for a system user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// `/bin/bash` where absent, `/usr/sbin/nologin` for a system user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Whether it is no person's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<bool>,
}

/// A file. Its path is its key; one that is not absolute is below `workdir`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct AdditionalFile {
    /// What the file will hold.
    pub content: String,
    /// How `content` is to be read.
    #[serde(default)]
    pub encoding: AdditionalFileEncoding,
    /// Whether everyone may run it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

/// How [`AdditionalFile::content`] stands for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum AdditionalFileEncoding {
    /// The text itself.
    #[default]
    #[serde(rename = "utf-8", alias = "utf8")]
    Utf8,
    /// Base64 with padding (RFC 4648 section 4).
    #[serde(rename = "base64")]
    Base64,
}

/// Git's settings and repositories to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitSetup {
    /// Settings for every user.
    #[serde(default)]
    pub config: GitConfig,
    /// Repositories to clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repos: Option<Vec<GitMount>>,
}

/// Git's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitConfig {
    /// Who commits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<GitConfigUser>,
}

/// Who commits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitConfigUser {
    /// `user.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `user.email`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `user.signingkey`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signingkey: Option<String>,
}

/// A repository to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct GitMount {
    /// Its URL.
    pub repo: String,
    /// Where it goes; must be empty or absent.
    pub path: String,
    /// Branch, tag or commit to check out; the default branch where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rev: Option<String>,
}

/// Systemd services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SystemdConfig {
    /// Services to make and start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<SystemdService>>,
    /// Changes to services that are there already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patched_services: Option<Vec<SystemdServicePatch>>,
}

/// Whether a service runs once or stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum ServiceMode {
    /// Runs to its end, which is waited for.
    Oneshot,
    /// Stays, and is started again when it fails.
    Service,
}

/// A systemd service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SystemdService {
    /// Its name, without `.service`.
    pub name: String,
    /// Whether it runs once or stays.
    pub mode: ServiceMode,
    /// Command lines in systemd's syntax, run one after the other.
    pub exec: Vec<String>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The user it runs as; root where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The group it runs in; the user's where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The directory it runs in; the layer's `workdir` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Units that are started before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Units without which it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
    /// Units that are started when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Vec<String>>,
    /// Units that start it at boot; `multi-user.target` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_by: Option<Vec<String>>,
    /// Whether it is started, now and at every boot; `true` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// Seconds it may take to start and to stop; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<u32>,
    /// For a oneshot: whether it is removed once it has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after_success: Option<bool>,
    /// Whether it counts as active once it has exited; where absent, a oneshot does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remain_after_exit: Option<bool>,
    /// Whether it says itself when it is ready (`sd_notify`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_signal: Option<bool>,
    /// Seconds within which it has to say again and again that it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_sec: Option<u32>,
    /// What happens when it ends; where absent, what stays is restarted when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
}

/// Changes to a systemd service. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct SystemdServicePatch {
    /// Its name, without `.service`.
    pub name: String,
    /// See [`SystemdService::mode`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ServiceMode>,
    /// Takes the place of the command lines it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// Environment variables besides those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// See [`SystemdService::user`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// See [`SystemdService::group`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// See [`SystemdService::workdir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Units besides those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Vec<String>>,
    /// Units besides those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<Vec<String>>,
    /// Units besides those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Vec<String>>,
    /// Units besides those it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_by: Option<Vec<String>>,
    /// Starts it now and at every boot, or no longer at boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// See [`SystemdService::timeout_sec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_sec: Option<u32>,
    /// See [`SystemdService::delete_after_success`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after_success: Option<bool>,
    /// See [`SystemdService::ready_signal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_signal: Option<bool>,
    /// See [`SystemdService::watchdog_sec`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog_sec: Option<u32>,
    /// See [`SystemdService::restart_policy`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
}

/// When a service that has ended is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct RestartPolicy {
    /// At which ends.
    pub policy: RestartPolicyKind,
    /// Seconds between end and start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_sec: Option<u32>,
    /// How many starts within the interval are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_limit_burst: Option<u32>,
    /// The interval in seconds; 0 is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_limit_interval_sec: Option<u32>,
}

/// After which ends a service is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum RestartPolicyKind {
    /// None.
    No,
    /// Any failure.
    OnFailure,
    /// All.
    Always,
    /// A signal, a timeout or a missing watchdog.
    OnAbnormal,
}
