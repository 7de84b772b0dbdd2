//! Linux users of the guest, read from its files: a static binary cannot load the modules of the
//! name service switch, and a user of this platform is made with `useradd`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use freestyle_guest_protocol::message::Failure;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// The user that commands run as where none is named.
pub(crate) const ROOT: &str = "root";

/// A user as a login program sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) credentials: Credentials,
    pub(crate) home: PathBuf,
    /// May be empty.
    pub(crate) shell: PathBuf,
}

impl Login {
    /// Finds a user. Reads files.
    pub(crate) fn look_up(name: &str) -> Result<Self, Failure> {
        let passwd = std::fs::read(PASSWD).unwrap_or_default();
        let group = std::fs::read(GROUP).unwrap_or_default();
        find(&passwd, &group, name).ok_or(Failure::UnknownUser)
    }
}

/// What the kernel knows of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Credentials {
    /// Finds a user. Reads files.
    pub(crate) fn look_up(name: &str) -> Result<Self, Failure> {
        Login::look_up(name).map(|login| login.credentials)
    }

    pub(crate) fn uid(&self) -> Uid {
        self.uid
    }

    /// Makes the calling process, which has one thread, the user's for good. Allocates nothing.
    pub(crate) fn become_user(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)?;
        Ok(())
    }

    /// Gives the calling thread the user's permissions, and no other, until it ends.
    ///
    /// The real and saved user ids stay root's: they decide who may send the thread a signal, and a
    /// signal that ends a thread ends the agent. Permissions and capabilities go by the effective.
    pub(crate) fn limit_this_thread(&self) -> io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(None, self.uid, None)?;
        Ok(())
    }
}

fn find(passwd: &[u8], group: &[u8], name: &str) -> Option<Login> {
    let name = name.as_bytes();
    if name.is_empty() {
        return None;
    }
    // name:password:uid:gid:comment:home:shell
    let user = lines(passwd).find(|fields| fields.first() == Some(&name))?;
    let uid = Uid::from_raw(id(user.get(2)?)?);
    let gid = Gid::from_raw(id(user.get(3)?)?);
    // name:password:gid:member,member
    let is_member = |fields: &Vec<&[u8]>| {
        fields.get(3).is_some_and(|members| members.split(|byte| *byte == b',').any(|m| m == name))
    };
    let mut groups = vec![gid];
    for fields in lines(group).filter(is_member) {
        let Some(extra) = fields.get(2).and_then(|text| id(text)).map(Gid::from_raw) else {
            continue;
        };
        if !groups.contains(&extra) {
            groups.push(extra);
        }
    }
    let path = |field: Option<&&[u8]>| {
        PathBuf::from(OsString::from_vec(field.map(|text| text.to_vec()).unwrap_or_default()))
    };
    let credentials = Credentials { uid, gid, groups };
    Some(Login { credentials, home: path(user.get(5)), shell: path(user.get(6)) })
}

fn lines(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n').map(|line| line.split(|byte| *byte == b':').collect())
}

fn id(text: &[u8]) -> Option<u32> {
    // The highest number means "no change" to the kernel.
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        broken:x:one:2::/:/bin/sh\n\
        none:x:4294967295:4294967295::/:/bin/sh\n\
        short:x\n\
        alice:x:1000:1001:Alice,,,:/home/alice:/bin/bash\n";
    const GROUP: &[u8] = b"root:x:0:\nsudo:x:27:bob,alice\nalice:x:1001:\ndocker:x:999:alice\n\
        malice:x:5:malice\nodd:x:notanumber:alice\nsudo2:x:27:alice\n";

    #[test]
    fn a_user_has_its_own_group_and_those_it_is_a_member_of() {
        let login = find(PASSWD, GROUP, "alice").expect("alice exists");
        assert_eq!(login.home.to_str(), Some("/home/alice"));
        assert_eq!(login.shell.to_str(), Some("/bin/bash"));
        let alice = login.credentials;
        assert_eq!((alice.uid.as_raw(), alice.gid.as_raw()), (1000, 1001));
        let groups: Vec<u32> = alice.groups.iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups, [1001, 27, 999]);
    }

    #[test]
    fn whoever_is_not_described_properly_does_not_exist() {
        for name in ["", "mallory", "alic", "alice:x", "broken", "none", "short", "1000"] {
            assert_eq!(find(PASSWD, GROUP, name), None, "{name:?}");
        }
    }
}
