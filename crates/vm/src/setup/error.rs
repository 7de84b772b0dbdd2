//! What a spec can get wrong, before any guest is asked.

/// Why a spec cannot be set up. Each variant with a code of its own in protocol section 21 stands
/// for that code; the rest are [`SpecError::Invalid`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A group without a name.
    #[error("the name of a group is empty")]
    GroupNameEmpty,
    /// More than Linux takes.
    #[error("the name of group {name} has more than {max} characters")]
    GroupNameTooLong {
        /// As asked for, shortened.
        name: String,
        /// Most characters.
        max: usize,
    },
    /// Not a name that `groupadd` would take.
    #[error("the name of group {name} does not match [a-z_][a-z0-9_-]*")]
    GroupNameInvalidChars {
        /// As asked for, shortened.
        name: String,
    },
    /// A group of the base system.
    #[error("group {name} belongs to the base system; a user can be a member of it as it is")]
    GroupNameReserved {
        /// As asked for.
        name: String,
    },
    /// Two groups of one name.
    #[error("group {name} is described twice")]
    DuplicateGroupName {
        /// Their name.
        name: String,
    },
    /// Two users of one name.
    #[error("user {name} is described twice")]
    DuplicateUserName {
        /// Their name.
        name: String,
    },
    /// A membership in nothing.
    #[error("user {user} is a member of a group without a name")]
    UserGroupEmpty {
        /// The user.
        user: String,
    },
    /// A system user with the id of an ordinary one.
    #[error("user {user} is a system user, but its uid {uid} is above 999")]
    UserSystemFlagMismatch {
        /// The user.
        user: String,
        /// As asked for.
        uid: u16,
    },
    /// Not 0 to 65535.
    #[error("user {user} has uid {uid}, which is not between 0 and 65535")]
    UserUidOutOfRange {
        /// The user.
        user: String,
        /// As asked for.
        uid: i64,
    },
    /// Not an absolute path that `/etc/passwd` can hold.
    #[error("the home {home} of user {user} is not an absolute path without colons")]
    UserHomeInvalid {
        /// The user.
        user: String,
        /// As asked for, shortened.
        home: String,
    },
    /// Not an absolute path that `/etc/passwd` can hold.
    #[error("the shell {shell} of user {user} is not an absolute path without colons")]
    UserShellInvalid {
        /// The user.
        user: String,
        /// As asked for, shortened.
        shell: String,
    },
    /// A service without a name.
    #[error("the name of a service is empty")]
    ServiceNameEmpty,
    /// More than systemd takes.
    #[error("the name of service {name} has more than {max} characters")]
    ServiceNameTooLong {
        /// As asked for, shortened.
        name: String,
        /// Most characters.
        max: usize,
    },
    /// Begins with `.` or `-`.
    #[error("the name of service {name} begins with . or -")]
    ServiceNameInvalidPrefix {
        /// As asked for, shortened.
        name: String,
    },
    /// Not a name that systemd would take.
    #[error("the name of service {name} may hold only letters, digits and : _ . -")]
    ServiceNameInvalidChars {
        /// As asked for, shortened.
        name: String,
    },
    /// Two services of one name, or one that the VM needs itself.
    #[error("there is a service {name} already")]
    ServiceAlreadyExists {
        /// The name.
        name: String,
    },
    /// A service that runs nothing.
    #[error("service {service} has an empty exec")]
    ExecEmpty {
        /// The service.
        service: String,
    },
    /// A variable without a name.
    #[error("service {service} has an environment variable without a name")]
    EnvKeyEmpty {
        /// The service.
        service: String,
    },
    /// A name that would end early.
    #[error("service {service} has an environment variable {key} with = in its name")]
    EnvKeyContainsEquals {
        /// The service.
        service: String,
        /// As asked for, shortened.
        key: String,
    },
    /// An empty text in `after`.
    #[error("after of service {service} holds an empty name")]
    AfterContainsEmpty {
        /// The service.
        service: String,
    },
    /// An empty text in `requires`.
    #[error("requires of service {service} holds an empty name")]
    RequiresContainsEmpty {
        /// The service.
        service: String,
    },
    /// An empty text in `onFailure`.
    #[error("onFailure of service {service} holds an empty name")]
    OnFailureContainsEmpty {
        /// The service.
        service: String,
    },
    /// Nothing, or an empty text, in `wantedBy`.
    #[error("wantedBy of service {service} is empty or holds an empty name")]
    WantedByEmpty {
        /// The service.
        service: String,
    },
    /// A user without a name.
    #[error("user of service {service} is empty")]
    UserEmpty {
        /// The service.
        service: String,
    },
    /// A group without a name.
    #[error("group of service {service} is empty")]
    GroupEmpty {
        /// The service.
        service: String,
    },
    /// A directory without a name.
    #[error("workdir of {of} is empty")]
    WorkdirEmpty {
        /// The service, or what else has one.
        of: String,
    },
    /// Anything else, in the user's words.
    #[error("{0}")]
    Invalid(String),
}

impl SpecError {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(crate) fn too_many(what: &str, max: usize) -> Self {
        Self::Invalid(format!("there are more than {max} {what}"))
    }
}

/// A text that a user sent, quoted and shortened, for a message.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
