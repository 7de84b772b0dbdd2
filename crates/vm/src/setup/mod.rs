//! Setting up a guest as its spec asks: users, packages, files, repositories, services.
//!
//! Owns: what a spec may say, as types whose every value can be set up safely (`names`, `accounts`,
//! `files`, `git`, `services`); how it is written down for the guest's shell (`script`) and for
//! systemd (`unit`); carrying it out (`calls`, `systemd`, [`apply()`]) and saying what went wrong
//! ([`Diagnostics`]); and what makes two layers the same ([`Spec::keys`]). Does not own: the JSON of a spec (`api`), how a
//! guest is reached ([`Guest`] is the service's), or when a layer is a snapshot.
//!
//! All text of a spec is of ill will until proven otherwise. It reaches the guest as the content of
//! a file, as a quoted word of a script, or as a value of a unit file that cannot leave its line.

mod accounts;
mod apply;
mod calls;
mod diagnostics;
mod error;
mod files;
mod git;
mod names;
mod packages;
mod script;
mod services;
mod spec;
mod systemd;
mod unit;

use std::time::Duration;

use serde::Serialize;

pub use accounts::{Gecos, Group, Groups, PasswdPath, User, Users, gid, membership, uid};
pub use apply::{Guest, Phase, Progress, SetupError, apply};
pub use diagnostics::{Diagnostics, ServiceLog, ServiceStates};
pub use error::SpecError;
pub use files::{File, Files, MAX_FILES_BYTES};
pub use git::{Git, GitIdentity, GitRepo, GitRevision, GitUrl, GitValue};
pub use names::{Account, GroupName, GuestPath, ServiceName, UnitName, UserName};
pub use packages::Packages;
pub use services::{
    Environment, Exec, Mode, Patch, Restart, RestartPolicy, Service, Services, Settings,
    StartTimeout, Units,
};
pub use spec::{EnsureSnapshot, Layer, Source, Spec};

/// What one layer of a spec sets up in a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Groups to make.
    pub groups: Groups,
    /// Users to make or change.
    pub users: Users,
    /// Debian packages to install.
    pub packages: Packages,
    /// Files to write.
    pub files: Files,
    /// Git's settings and repositories to clone.
    pub git: Git,
    /// The directory that services run in and relative paths start from. Made if it is missing.
    pub workdir: GuestPath,
    /// Services to run.
    pub services: Services,
    /// Whether and how long to wait for the services. Not part of what is set up.
    #[serde(skip)]
    pub ready: Ready,
}

impl Setup {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.phases().is_empty()
    }
}

/// How the services of a layer are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Whether to wait until all have started and all oneshots have succeeded. If not, their
    /// failures go unnoticed.
    pub wait: bool,
    /// How long to wait. Where absent, a service has 120 seconds to say that it is ready, and
    /// everything else as long as its own timeout or that of setting up allows.
    pub timeout: Option<Duration>,
}

impl Default for Ready {
    fn default() -> Self {
        Self { wait: true, timeout: None }
    }
}
