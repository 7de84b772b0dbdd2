//! Git repositories to clone, and git's settings.

use serde::Serialize;

use super::error::{SpecError, shown};
use super::names::GuestPath;
use super::script::Script;

const MAX_REPOS: usize = 50;
const MAX_URL: usize = 2048;
const MAX_REVISION: usize = 255;
const MAX_VALUE: usize = 1024;
/// What git reaches without running a program of the URL's choice.
const SCHEMES: &[&str] = &["https", "http", "ssh", "git", "file"];

/// Who commits, for every user of the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GitIdentity {
    /// `user.name`.
    pub name: Option<GitValue>,
    /// `user.email`.
    pub email: Option<GitValue>,
    /// `user.signingkey`.
    pub signing_key: Option<GitValue>,
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitValue(String);

impl GitValue {
    /// Accepts text without control characters.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.len() > MAX_VALUE || text.chars().any(char::is_control) {
            return Err(SpecError::invalid(format!(
                "the git setting {} has control characters or more than {MAX_VALUE} bytes",
                shown(text)
            )));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A repository to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitRepo {
    /// Where it comes from.
    pub url: GitUrl,
    /// Where it goes; must be empty or absent.
    pub path: GuestPath,
    /// What to check out; the default branch where absent.
    pub revision: Option<GitRevision>,
}

/// What `git clone` takes from another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitUrl(String);

impl GitUrl {
    /// Accepts URLs and `user@host:path`. The id of a repository of this platform is none.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let is_url = text.split_once("://").is_some_and(|(scheme, rest)| {
            SCHEMES.contains(&scheme) && !rest.is_empty() && !rest.starts_with('-')
        });
        let graphic = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if (is_url || is_scp_like(text)) && graphic && text.len() <= MAX_URL {
            return Ok(Self(text.to_owned()));
        }
        Err(SpecError::invalid(format!(
            "{} is not the URL of a git repository; repositories of this platform are not \
             available in this version of the server, so give https://, ssh:// or user@host:path",
            shown(text)
        )))
    }
}

/// `user@host:path`, which ssh is given.
fn is_scp_like(text: &str) -> bool {
    let part = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    text.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?))).is_some_and(
        |(user, (host, path))| {
            part(user) && part(host) && !path.is_empty() && !path.starts_with('-')
        },
    )
}

/// A branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GitRevision(String);

impl GitRevision {
    /// Accepts what can be the name of a branch, or a commit's.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        if text.is_empty()
            || text.starts_with('-')
            || text.len() > MAX_REVISION
            || text.chars().any(forbidden)
        {
            let text = shown(text);
            return Err(SpecError::invalid(format!("{text} is not a branch, tag or commit")));
        }
        Ok(Self(text.to_owned()))
    }
}

/// All of a layer's git.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Git {
    identity: GitIdentity,
    repos: Vec<GitRepo>,
}

impl Git {
    /// Fails when there are too many repositories, or two for one place.
    pub fn new(identity: GitIdentity, repos: Vec<GitRepo>) -> Result<Self, SpecError> {
        if repos.len() > MAX_REPOS {
            return Err(SpecError::too_many("git repositories", MAX_REPOS));
        }
        for (index, repo) in repos.iter().enumerate() {
            if repos[..index].iter().any(|other| other.path == repo.path) {
                let path = repo.path.as_str();
                return Err(SpecError::invalid(format!("two git repositories go to {path:?}")));
            }
        }
        Ok(Self { identity, repos })
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is set, by git's name for it.
    fn settings(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let GitIdentity { name, email, signing_key } = &self.identity;
        [("user.name", name), ("user.email", email), ("user.signingkey", signing_key)]
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?.0.as_str())))
    }
}

/// Settings first: they may decide how to clone.
pub(super) fn script(git: &Git) -> Script {
    let functions = [include_str!("guest/packages.sh"), include_str!("guest/git.sh")];
    let mut script = Script::new(&functions);
    script.call("require_git", []);
    for (key, value) in git.settings() {
        script.call("git_config", [key, value]);
    }
    for repo in &git.repos {
        let revision = repo.revision.as_ref().map_or("", |revision| revision.0.as_str());
        script.call("git_clone", [repo.url.0.as_str(), repo.path.as_str(), revision]);
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_reached_by_url() {
        for good in [
            "https://example.com/a/b.git",
            "https://user:token@example.com/a",
            "http://10.0.0.1:8080/a",
            "ssh://git@example.com/a",
            "git@example.com:a/b.git",
            "file:///srv/a",
        ] {
            assert!(GitUrl::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "3f0d1b4e-8b54-4a6a-9a5b-0c7a1a2f7d10",
            "/srv/a",
            "../a",
            "ext::sh -c id",
            "--upload-pack=id",
            "ssh://-oProxyCommand=id/a",
            "-u@host:a",
            "u@-host:a",
            "u@host:-a",
            "https://",
            "https://a b",
            "https://a\nb",
        ] {
            assert!(GitUrl::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn revisions_are_never_options_or_expressions() {
        for good in ["main", "feature/a", "v1.0", "0123456789abcdef"] {
            assert!(GitRevision::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-b", "a b", "a\n", "HEAD~1", "a:b", "HEAD^", &"x".repeat(256)] {
            assert!(GitRevision::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_place_holds_one_repository() {
        let repo = |path: &str| GitRepo {
            url: GitUrl::parse("https://example.com/a").unwrap(),
            path: GuestPath::parse(path).unwrap(),
            revision: None,
        };
        let identity = GitIdentity::default;
        assert!(Git::new(identity(), vec![repo("/a"), repo("/b")]).is_ok());
        assert!(Git::new(identity(), vec![repo("/a"), repo("/a/")]).is_err());
        let many = (0..=MAX_REPOS).map(|n| repo(&format!("/r{n}"))).collect();
        assert!(Git::new(identity(), many).is_err());
    }
}
