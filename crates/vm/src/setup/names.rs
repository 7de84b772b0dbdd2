//! Names and paths of a guest that can be written into a shell script, `/etc/passwd` or a unit file
//! and mean there what they say.

use serde::Serialize;

use super::error::{SpecError, shown};

/// Longest name of a user or group that Linux tools agree on.
const MAX_ACCOUNT_NAME: usize = 32;
/// Longest name of a service, so that `<name>.service.d` is a file name.
const MAX_SERVICE_NAME: usize = 200;
/// Longest path that Linux takes.
const MAX_PATH: usize = 4095;

/// Groups that Debian's `base-passwd` makes: they exist in every guest, with fixed ids.
const BASE_GROUPS: &[&str] = &[
    "adm", "audio", "backup", "bin", "cdrom", "daemon", "dialout", "dip", "disk", "fax", "floppy",
    "games", "irc", "kmem", "list", "lp", "mail", "man", "news", "nogroup", "operator", "plugdev",
    "proxy", "root", "sasl", "shadow", "src", "staff", "sudo", "sys", "tape", "tty", "users",
    "utmp", "uucp", "video", "voice", "www-data",
];

/// Units without which a VM is lost to its owner.
const OWN_SERVICES: &[&str] = &["freestyle-agent", "freestyle-network"];

/// Suffixes by which systemd tells kinds of units apart.
const UNIT_KINDS: &[&str] = &[
    "automount",
    "device",
    "mount",
    "path",
    "scope",
    "service",
    "slice",
    "socket",
    "swap",
    "target",
    "timer",
];

/// `[a-z_][a-z0-9_-]*`.
fn is_account_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && text.chars().all(allowed)
}

/// The name of a group to make.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct GroupName(String);

impl GroupName {
    /// Accepts names that `groupadd` takes, of groups that are not the base system's.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.is_empty() {
            return Err(SpecError::GroupNameEmpty);
        }
        if text.len() > MAX_ACCOUNT_NAME {
            let name = shown(text);
            return Err(SpecError::GroupNameTooLong { name, max: MAX_ACCOUNT_NAME });
        }
        if !is_account_name(text) {
            return Err(SpecError::GroupNameInvalidChars { name: shown(text) });
        }
        if BASE_GROUPS.contains(&text) {
            return Err(SpecError::GroupNameReserved { name: text.to_owned() });
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a user to make or change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UserName(String);

impl UserName {
    /// Accepts names that `useradd` takes.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.len() <= MAX_ACCOUNT_NAME && is_account_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SpecError::invalid(format!(
                "the name of user {} does not match [a-z_][a-z0-9_-]* with at most \
                 {MAX_ACCOUNT_NAME} characters",
                shown(text)
            )))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name or number of a user or group that the guest is expected to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Account(String);

impl Account {
    /// Accepts what systemd takes in `User=`, apart from specifiers.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if starts_well && text.len() <= MAX_ACCOUNT_NAME && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SpecError::invalid(format!("{} is not a user or group", shown(text))))
        }
    }

    /// As asked for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a service, without `.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceName(String);

impl ServiceName {
    /// Accepts names that systemd takes, with or without `.service`, but none of the units that
    /// keep the VM reachable.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let name = text.strip_suffix(".service").unwrap_or(text);
        if name.is_empty() {
            return Err(SpecError::ServiceNameEmpty);
        }
        if name.len() > MAX_SERVICE_NAME {
            let name = shown(name);
            return Err(SpecError::ServiceNameTooLong { name, max: MAX_SERVICE_NAME });
        }
        if name.starts_with(['.', '-']) {
            return Err(SpecError::ServiceNameInvalidPrefix { name: shown(name) });
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || ":_.-".contains(c)) {
            return Err(SpecError::ServiceNameInvalidChars { name: shown(name) });
        }
        if OWN_SERVICES.contains(&name) {
            return Err(SpecError::ServiceAlreadyExists { name: name.to_owned() });
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The unit, `<name>.service`.
    pub fn unit(&self) -> UnitName {
        UnitName(format!("{}.service", self.0))
    }
}

/// The full name of a unit, such as `ssh.socket`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UnitName(String);

impl UnitName {
    /// Accepts names that systemd takes. One without a kind is a service.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":_.-@\\".contains(c);
        if text.is_empty()
            || text.len() > MAX_SERVICE_NAME
            || text.starts_with(['.', '-', '@', '\\'])
            || text.ends_with('\\')
            || !text.chars().all(allowed)
        {
            return Err(SpecError::invalid(format!("{} is not the name of a unit", shown(text))));
        }
        let has_kind =
            text.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && is_kind(kind));
        Ok(Self(if has_kind { text.to_owned() } else { format!("{text}.service") }))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_kind(suffix: &str) -> bool {
    UNIT_KINDS.contains(&suffix)
}

/// An absolute path in a guest, without control characters, empty parts, `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct GuestPath(String);

impl Default for GuestPath {
    fn default() -> Self {
        Self::root()
    }
}

impl GuestPath {
    /// `/`.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Accepts absolute paths.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if !text.starts_with('/') {
            return Err(SpecError::invalid(format!("{} is not an absolute path", shown(text))));
        }
        Self::root().join(text)
    }

    /// Accepts absolute paths, and others as below this one.
    pub fn join(&self, text: &str) -> Result<Self, SpecError> {
        let invalid = |why: &str| Err(SpecError::invalid(format!("path {} {why}", shown(text))));
        if text.is_empty() {
            return invalid("is empty");
        }
        if text.chars().any(char::is_control) {
            return invalid("holds control characters");
        }
        // It would take the next line of a unit file along.
        if text.ends_with('\\') {
            return invalid("ends with a backslash");
        }
        let start = if text.starts_with('/') { "" } else { self.0.as_str() };
        let mut path = String::with_capacity(start.len() + text.len() + 1);
        for part in start.split('/').chain(text.split('/')) {
            match part {
                "" | "." => {}
                ".." => return invalid("holds .."),
                part => {
                    path.push('/');
                    path.push_str(part);
                }
            }
        }
        if path.len() > MAX_PATH {
            return invalid(&format!("has more than {MAX_PATH} bytes"));
        }
        Ok(if path.is_empty() { Self::root() } else { Self(path) })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_groupadd_allows_and_not_as_the_base_system_does() {
        for good in ["dev", "_x", "a-1_b", "docker"] {
            assert_eq!(GroupName::parse(good).unwrap().as_str(), good);
        }
        let longest = "x".repeat(MAX_ACCOUNT_NAME);
        assert!(GroupName::parse(&longest).is_ok());
        assert_eq!(GroupName::parse(""), Err(SpecError::GroupNameEmpty));
        let too_long = GroupName::parse(&format!("{longest}x"));
        assert!(matches!(too_long, Err(SpecError::GroupNameTooLong { max: 32, .. })));
        for bad in ["Dev", "1a", "-a", "a b", "a:b", "a\n", "$(id)", "é"] {
            let refused = GroupName::parse(bad);
            assert!(matches!(refused, Err(SpecError::GroupNameInvalidChars { .. })), "{bad:?}");
        }
        for taken in BASE_GROUPS {
            let refused = GroupName::parse(taken);
            assert!(matches!(refused, Err(SpecError::GroupNameReserved { .. })), "{taken:?}");
        }
    }

    #[test]
    fn services_are_named_with_or_without_their_kind() {
        for (text, unit) in [("app", "app.service"), ("app.service", "app.service")] {
            assert_eq!(ServiceName::parse(text).unwrap().unit().as_str(), unit);
        }
        assert_eq!(ServiceName::parse(".service"), Err(SpecError::ServiceNameEmpty));
        for bad in [".app", "-app"] {
            let refused = ServiceName::parse(bad);
            assert!(matches!(refused, Err(SpecError::ServiceNameInvalidPrefix { .. })));
        }
        for bad in ["a/b", "a b", "a\0", "a@b", "a\\x2db", "é", "a\nb", "a%n"] {
            let refused = ServiceName::parse(bad);
            assert!(matches!(refused, Err(SpecError::ServiceNameInvalidChars { .. })), "{bad:?}");
        }
        assert!(ServiceName::parse(&"x".repeat(MAX_SERVICE_NAME)).is_ok());
        let refused = ServiceName::parse(&"x".repeat(MAX_SERVICE_NAME + 1));
        assert!(matches!(refused, Err(SpecError::ServiceNameTooLong { max: 200, .. })));
        for own in ["freestyle-agent", "freestyle-agent.service", "freestyle-network"] {
            let refused = ServiceName::parse(own);
            assert!(matches!(refused, Err(SpecError::ServiceAlreadyExists { .. })));
        }
    }

    #[test]
    fn a_unit_without_a_kind_is_a_service() {
        for (text, unit) in [
            ("app", "app.service"),
            ("my.app", "my.app.service"),
            ("network-online.target", "network-online.target"),
            ("dev-disk-by\\x2dlabel-a.device", "dev-disk-by\\x2dlabel-a.device"),
            ("getty@tty1.service", "getty@tty1.service"),
            ("service", "service.service"),
        ] {
            assert_eq!(UnitName::parse(text).unwrap().as_str(), unit);
        }
        for bad in ["", " ", "a b", "a\nb", "-a", "a\\", "a%i.service", "a/b", "\"a\""] {
            assert!(UnitName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn paths_are_absolute_and_mean_one_place() {
        for (text, path) in
            [("/", "/"), ("//srv/./a//b/", "/srv/a/b"), ("/srv/ü b'$(id)", "/srv/ü b'$(id)")]
        {
            assert_eq!(GuestPath::parse(text).unwrap().as_str(), path);
        }
        let below = GuestPath::parse("/srv").unwrap();
        assert_eq!(below.join("a/b").unwrap().as_str(), "/srv/a/b");
        assert_eq!(below.join("/a").unwrap().as_str(), "/a");
        for bad in ["", "a", "../a", "~/a"] {
            assert!(GuestPath::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "/a/../b", "/a\nb", "/a\0", "/a\\", "/\u{7f}", &"/x".repeat(3000)] {
            assert!(below.join(bad).is_err(), "{bad:?}");
        }
    }
}
