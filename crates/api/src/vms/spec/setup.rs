//! What a layer sets up, apart from services.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freestyle_client::wire::{
    AdditionalFile, AdditionalFileEncoding, GitConfigUser, GitMount, GitSetup, LinuxGroup,
    LinuxUser, SystemdConfig,
};
use freestyle_vm::AptPackage;
use freestyle_vm::setup::{
    self, File, Files, Gecos, Git, GitIdentity, GitRepo, GitRevision, GitUrl, GitValue, Group,
    GroupName, Groups, GuestPath, Packages, PasswdPath, Setup, SpecError, User, UserName, Users,
};

use super::{services, settings};
use crate::error::{ApiError, Code, excerpt};

const MAX_DISCRIMINATOR_CHARS: usize = 255;

/// What one place wishes to be set up, as it was sent.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) wait_for_ready_signal: Option<bool>,
    pub(super) ready_signal_timeout_seconds: Option<u64>,
    pub(super) apt_deps: Vec<String>,
    pub(super) workdir: Option<String>,
    pub(super) groups: Vec<LinuxGroup>,
    pub(super) users: Vec<LinuxUser>,
    pub(super) files: BTreeMap<String, AdditionalFile>,
    pub(super) git: GitSetup,
    pub(super) git_repos: Vec<GitMount>,
    pub(super) systemd: SystemdConfig,
}

impl Wishes {
    /// These and then others, which win where there can be only one.
    pub(super) fn with(mut self, others: Self) -> Self {
        fn append<T>(list: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
            list.get_or_insert_default().extend(more.unwrap_or_default());
        }
        self.wait_for_ready_signal = others.wait_for_ready_signal.or(self.wait_for_ready_signal);
        self.ready_signal_timeout_seconds =
            others.ready_signal_timeout_seconds.or(self.ready_signal_timeout_seconds);
        self.apt_deps.extend(others.apt_deps);
        self.workdir = others.workdir.or(self.workdir);
        self.groups.extend(others.groups);
        self.users.extend(others.users);
        self.files.extend(others.files);
        self.git.config.user = match (self.git.config.user, others.git.config.user) {
            (Some(user), Some(other)) => Some(GitConfigUser {
                name: other.name.or(user.name),
                email: other.email.or(user.email),
                signingkey: other.signingkey.or(user.signingkey),
            }),
            (user, other) => other.or(user),
        };
        append(&mut self.git.repos, others.git.repos);
        self.git_repos.extend(others.git_repos);
        append(&mut self.systemd.services, others.systemd.services);
        append(&mut self.systemd.patched_services, others.systemd.patched_services);
        self
    }
}

/// What a layer sets up. `prefix` names the place to the user; `bad` is the code for a wish that
/// has none of its own.
pub(super) fn decode(wishes: Wishes, prefix: &str, bad: Code) -> Result<Setup, ApiError> {
    let refuse = |field: &'static str, other: Code| {
        let place = format!("{prefix}{field}");
        move |error: SpecError| ApiError::from_spec(error, &place, other)
    };
    let at = |field| refuse(field, bad);
    // Most of what these can get wrong has codes of its own, and this is for the rest.
    let invalid = |field| refuse(field, Code::ValidationError);
    let workdir = workdir(wishes.workdir.as_deref()).map_err(at("workdir"))?;
    let repos = repos(wishes.git.repos.unwrap_or_default(), wishes.git_repos)?;
    let user = wishes.git.config.user.unwrap_or_default();
    Ok(Setup {
        groups: groups(wishes.groups).map_err(invalid("groups"))?,
        users: users(wishes.users).map_err(invalid("users"))?,
        packages: packages(&wishes.apt_deps).map_err(at("aptDeps"))?,
        files: files(wishes.files, &workdir).map_err(at("additionalFiles"))?,
        git: git(user, repos, &workdir).map_err(at("git"))?,
        services: services::decode(wishes.systemd, &workdir).map_err(invalid("systemd"))?,
        ready: settings::ready(
            wishes.wait_for_ready_signal,
            wishes.ready_signal_timeout_seconds,
            bad,
        )?,
        workdir,
    })
}

/// What tells a layer apart from others of the same content.
pub(super) fn discriminator(
    asked: Option<String>,
    prefix: &str,
    bad: Code,
) -> Result<Option<String>, ApiError> {
    if asked.as_ref().is_some_and(|text| text.chars().count() > MAX_DISCRIMINATOR_CHARS) {
        let message =
            format!("{prefix}discriminator has more than {MAX_DISCRIMINATOR_CHARS} characters");
        return Err(ApiError::new(bad, message));
    }
    Ok(asked)
}

fn workdir(asked: Option<&str>) -> Result<GuestPath, SpecError> {
    match asked {
        None => Ok(GuestPath::root()),
        Some("") => Err(SpecError::WorkdirEmpty { of: "the layer".to_owned() }),
        Some(path) => GuestPath::parse(path),
    }
}

fn groups(asked: Vec<LinuxGroup>) -> Result<Groups, SpecError> {
    let group = |asked: LinuxGroup| {
        let LinuxGroup { name, gid, system } = asked;
        let name = GroupName::parse(&name)?;
        let gid = gid.map(|gid| setup::gid(&name, gid)).transpose()?;
        Ok(Group { name, gid, system: system.unwrap_or(false) })
    };
    Groups::new(asked.into_iter().map(group).collect::<Result<_, SpecError>>()?)
}

fn users(asked: Vec<LinuxUser>) -> Result<Users, SpecError> {
    let user = |asked: LinuxUser| {
        let LinuxUser { name, uid, gecos, groups, home, shell, system } = asked;
        let name = UserName::parse(&name)?;
        let groups = groups.unwrap_or_default();
        let member = |group: &String| setup::membership(&name, group);
        Ok(User {
            uid: uid.map(|uid| setup::uid(&name, uid)).transpose()?,
            gecos: gecos.map(|gecos| Gecos::parse(&gecos)).transpose()?,
            groups: groups.iter().map(member).collect::<Result<_, SpecError>>()?,
            home: home.map(|home| PasswdPath::home(&name, &home)).transpose()?,
            shell: shell.map(|shell| PasswdPath::shell(&name, &shell)).transpose()?,
            system: system.unwrap_or(false),
            name,
        })
    };
    Users::new(asked.into_iter().map(user).collect::<Result<_, SpecError>>()?)
}

fn packages(asked: &[String]) -> Result<Packages, SpecError> {
    let package = |text: &String| {
        AptPackage::parse(text).map_err(|_| {
            SpecError::Invalid(format!("{:?} is not the name of a Debian package", excerpt(text)))
        })
    };
    Packages::new(asked.iter().map(package).collect::<Result<_, SpecError>>()?)
}

fn files(asked: BTreeMap<String, AdditionalFile>, workdir: &GuestPath) -> Result<Files, SpecError> {
    let file = |(path, asked): (String, AdditionalFile)| {
        let AdditionalFile { content, encoding, executable } = asked;
        // The path names the file, so a slash at its end is a mistake.
        if path.ends_with('/') {
            let path = excerpt(&path);
            return Err(SpecError::Invalid(format!("{path:?} ends with a slash")));
        }
        let content = match encoding {
            AdditionalFileEncoding::Utf8 => content.into_bytes(),
            AdditionalFileEncoding::Base64 => STANDARD.decode(content).map_err(|error| {
                let path = excerpt(&path);
                SpecError::Invalid(format!("the content of {path:?} is not base64: {error}"))
            })?,
        };
        let file = File { content, executable: executable.unwrap_or(false) };
        Ok((workdir.join(&path)?, file))
    };
    Files::new(asked.into_iter().map(file).collect::<Result<_, SpecError>>()?)
}

/// The repositories of `git`, or else those named beside it.
fn repos(of_git: Vec<GitMount>, beside: Vec<GitMount>) -> Result<Vec<GitMount>, ApiError> {
    match (of_git.is_empty(), beside.is_empty()) {
        (false, false) => {
            let message = "gitRepos and git.repos are both given; git.repos alone will do";
            Err(ApiError::new(Code::InvalidGitRepoSpec, message))
        }
        (true, _) => Ok(beside),
        (_, true) => Ok(of_git),
    }
}

fn git(user: GitConfigUser, repos: Vec<GitMount>, workdir: &GuestPath) -> Result<Git, SpecError> {
    let value = |text: Option<String>| text.map(|text| GitValue::parse(&text)).transpose();
    let identity = GitIdentity {
        name: value(user.name)?,
        email: value(user.email)?,
        signing_key: value(user.signingkey)?,
    };
    let repo = |asked: GitMount| {
        let GitMount { repo, path, rev } = asked;
        Ok(GitRepo {
            url: GitUrl::parse(&repo)?,
            path: workdir.join(&path)?,
            revision: rev.map(|rev| GitRevision::parse(&rev)).transpose()?,
        })
    };
    Git::new(identity, repos.into_iter().map(repo).collect::<Result<_, SpecError>>()?)
}
