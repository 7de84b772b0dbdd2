//! Linux groups and users.

use serde::Serialize;

use super::error::{SpecError, shown};
use super::names::{Account, GroupName, GuestPath, UserName};
use super::script::Script;

const MAX_GROUPS: usize = 100;
const MAX_USERS: usize = 100;
const MAX_MEMBERSHIPS: usize = 64;
const MAX_GECOS: usize = 200;
/// Above this an id is an ordinary user's.
const MAX_SYSTEM_ID: u16 = 999;

/// A group that the guest shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Its number; one that is free where absent.
    pub gid: Option<u16>,
    /// Whether a free number is taken from those of the system.
    pub system: bool,
}

/// A user that the guest shall have. One that exists is changed in what is given here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its name.
    pub name: UserName,
    /// Its number; one that is free where absent.
    pub uid: Option<u16>,
    /// The comment of `/etc/passwd`.
    pub gecos: Option<Gecos>,
    /// Groups it is a member of besides its own, which has its name.
    pub groups: Vec<Account>,
    /// `/home/<name>` where absent, `/` for a system user.
    pub home: Option<PasswdPath>,
    /// `/bin/bash` where absent, `/usr/sbin/nologin` for a system user.
    pub shell: Option<PasswdPath>,
    /// Whether it is no person's.
    pub system: bool,
}

/// A user's number, from what was asked for.
pub fn uid(user: &UserName, asked: i64) -> Result<u16, SpecError> {
    let user = user.as_str().to_owned();
    u16::try_from(asked).map_err(|_| SpecError::UserUidOutOfRange { user, uid: asked })
}

/// A group's number, from what was asked for.
pub fn gid(group: &GroupName, asked: i64) -> Result<u16, SpecError> {
    u16::try_from(asked).map_err(|_| {
        let group = group.as_str();
        SpecError::invalid(format!("group {group} has gid {asked}, not one between 0 and 65535"))
    })
}

/// A group that a user is a member of.
pub fn membership(user: &UserName, group: &str) -> Result<Account, SpecError> {
    if group.is_empty() {
        return Err(SpecError::UserGroupEmpty { user: user.as_str().to_owned() });
    }
    Account::parse(group)
}

/// A comment that `/etc/passwd` can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gecos(String);

impl Gecos {
    /// Accepts text without colons and control characters.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.chars().any(|c| c == ':' || c.is_control()) || text.len() > MAX_GECOS {
            return Err(SpecError::invalid(format!(
                "gecos {} has a colon, a control character or more than {MAX_GECOS} bytes",
                shown(text)
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A path that `/etc/passwd` can hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PasswdPath(GuestPath);

impl PasswdPath {
    /// A user's home.
    pub fn home(user: &UserName, text: &str) -> Result<Self, SpecError> {
        Self::parse(text).ok_or_else(|| SpecError::UserHomeInvalid {
            user: user.as_str().to_owned(),
            home: shown(text),
        })
    }

    /// A user's shell.
    pub fn shell(user: &UserName, text: &str) -> Result<Self, SpecError> {
        Self::parse(text).ok_or_else(|| SpecError::UserShellInvalid {
            user: user.as_str().to_owned(),
            shell: shown(text),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        GuestPath::parse(text).ok().filter(|_| !text.contains(':')).map(Self)
    }
}

/// Groups of different names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Groups(Vec<Group>);

impl Groups {
    /// Fails when there are too many, or two of one name.
    pub fn new(groups: Vec<Group>) -> Result<Self, SpecError> {
        if groups.len() > MAX_GROUPS {
            return Err(SpecError::too_many("groups", MAX_GROUPS));
        }
        match repeated(groups.iter().map(|group| group.name.as_str())) {
            Some(name) => Err(SpecError::DuplicateGroupName { name }),
            None => Ok(Self(groups)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Users of different names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Users(Vec<User>);

impl Users {
    /// Fails when there are too many, two of one name, or one whose number is not of its kind.
    pub fn new(users: Vec<User>) -> Result<Self, SpecError> {
        if users.len() > MAX_USERS {
            return Err(SpecError::too_many("users", MAX_USERS));
        }
        for user in &users {
            let name = || user.name.as_str().to_owned();
            if user.groups.len() > MAX_MEMBERSHIPS {
                let what = format!("groups of user {}", user.name.as_str());
                return Err(SpecError::too_many(&what, MAX_MEMBERSHIPS));
            }
            if let Some(uid) = user.uid.filter(|uid| user.system && *uid > MAX_SYSTEM_ID) {
                return Err(SpecError::UserSystemFlagMismatch { user: name(), uid });
            }
        }
        match repeated(users.iter().map(|user| user.name.as_str())) {
            Some(name) => Err(SpecError::DuplicateUserName { name }),
            None => Ok(Self(users)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first name that comes a second time.
fn repeated<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name)).map(str::to_owned)
}

/// Makes groups first: users are members of them.
pub(super) fn script(groups: &Groups, users: &Users) -> Script {
    let mut script = Script::new(&[include_str!("guest/accounts.sh")]);
    for group in &groups.0 {
        let gid = number(group.gid);
        script.call("group", [group.name.as_str(), &gid, flag(group.system)]);
    }
    for user in &users.0 {
        let (uid, groups) = (number(user.uid), memberships(user));
        let path =
            |path: &Option<PasswdPath>| path.as_ref().map_or("", |path| path.0.as_str()).to_owned();
        let gecos = user.gecos.as_ref().map_or("", |gecos| gecos.0.as_str());
        let (home, shell) = (path(&user.home), path(&user.shell));
        let name = user.name.as_str();
        script.call("user", [name, &uid, gecos, &home, &shell, flag(user.system), &groups]);
    }
    script
}

fn number(id: Option<u16>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

fn flag(set: bool) -> &'static str {
    if set { "yes" } else { "" }
}

fn memberships(user: &User) -> String {
    user.groups.iter().map(Account::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User {
            name: UserName::parse(name).unwrap(),
            uid: None,
            gecos: None,
            groups: Vec::new(),
            home: None,
            shell: None,
            system: false,
        }
    }

    #[test]
    fn users_and_groups_of_one_name_are_refused() {
        let group = |name: &str| {
            let name = GroupName::parse(name).unwrap();
            Group { name, gid: None, system: false }
        };
        assert!(Groups::new(vec![group("a"), group("b")]).is_ok());
        let twice = Groups::new(vec![group("a"), group("b"), group("a")]);
        assert_eq!(twice, Err(SpecError::DuplicateGroupName { name: "a".to_owned() }));
        let twice = Users::new(vec![user("a"), user("a")]);
        assert_eq!(twice, Err(SpecError::DuplicateUserName { name: "a".to_owned() }));
    }

    #[test]
    fn numbers_are_of_their_kind() {
        let name = UserName::parse("dev").unwrap();
        assert_eq!(uid(&name, 65_535), Ok(65_535));
        for wrong in [-1, 65_536, i64::MAX] {
            assert!(matches!(uid(&name, wrong), Err(SpecError::UserUidOutOfRange { .. })));
        }
        let system = |uid| Users::new(vec![User { uid: Some(uid), system: true, ..user("dev") }]);
        assert!(system(999).is_ok());
        let refused = system(1000);
        assert!(matches!(refused, Err(SpecError::UserSystemFlagMismatch { uid: 1000, .. })));
    }

    #[test]
    fn what_is_written_to_passwd_has_no_colon_and_no_line_break() {
        let name = UserName::parse("dev").unwrap();
        assert!(PasswdPath::home(&name, "/srv/dev home").is_ok());
        for bad in ["", "home", "/a:b", "/a\nroot::0:0::/:/bin/sh", "/.."] {
            let home = PasswdPath::home(&name, bad);
            assert!(matches!(home, Err(SpecError::UserHomeInvalid { .. })), "{bad:?}");
            let shell = PasswdPath::shell(&name, bad);
            assert!(matches!(shell, Err(SpecError::UserShellInvalid { .. })), "{bad:?}");
        }
        assert!(Gecos::parse("Ada, Countess").is_ok());
        assert!(Gecos::parse("a:b").is_err() && Gecos::parse("a\nb").is_err());
    }

    #[test]
    fn a_membership_names_a_group() {
        let name = UserName::parse("dev").unwrap();
        assert!(membership(&name, "sudo").is_ok());
        let empty = membership(&name, "");
        assert_eq!(empty, Err(SpecError::UserGroupEmpty { user: "dev".to_owned() }));
        assert!(membership(&name, "a,root").is_err());
        let groups = vec![Account::parse("sudo").unwrap(); MAX_MEMBERSHIPS + 1];
        assert!(Users::new(vec![User { groups, ..user("dev") }]).is_err());
    }
}
