//! Other repositories, reached over HTTP, and what is brought here from them or pushed there.
//!
//! `git fetch` and `git push` do the work. They may leave this host only through the proxy of whoever
//! calls, speak nothing but HTTP, ask nobody for a password, and every object that is received is
//! checked as that of a push is.

mod files;

pub use files::RemoteFiles;

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::process::ExitStatus;

use gix_hash::ObjectId;

use crate::disk::sync_names;
use crate::process::Finished;
use crate::refs::{HEADS, Swap, TAGS};
use crate::revision::full_id;
use crate::{BranchName, GitError, RefUpdate, Repository};

/// The name that the remote has on the command line, where its URL would be seen by others.
const NAME: &str = "source";
/// Refs of one push; each is an argument.
const PUSHED_AT_ONCE: usize = 200;
/// Bytes of a message of git's that are passed on.
const LONGEST_MESSAGE: usize = 300;

/// A repository somewhere else.
#[derive(Clone)]
pub struct Remote {
    /// An `http` or `https` URL without credentials.
    pub url: String,
    /// The value of a header `Authorization`. A secret.
    pub authorization: Option<String>,
    /// URL of the proxy that is the only way there.
    pub proxy: String,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What of a remote becomes a repository here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// A branch, a tag or a whole commit id; the remote's default branch where there is none.
    pub revision: Option<String>,
    /// What the branch of that revision is called here. Where there is none it keeps its name; what
    /// is not a branch becomes `main`.
    pub branch: Option<BranchName>,
    /// Commits from each tip on; all of them where there is none.
    pub depth: Option<NonZeroU32>,
    /// All branches and tags, and not only that of the revision with the tags on its history.
    pub all_branches: bool,
}

/// Why nothing could be brought from a remote.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// There is no repository under this URL.
    #[error("there is no repository at {0}")]
    NotFound(String),
    /// It wants a credential, or another one.
    #[error("{0} needs a credential, or refuses the one that it was given")]
    Unauthorized(String),
    /// The repository has no such branch, tag or commit.
    #[error("{url} has no revision {revision:?}")]
    NoSuchRevision {
        /// The remote.
        url: String,
        /// As requested.
        revision: String,
    },
    /// The commit has no such directory.
    #[error("there is no directory {dir:?} in {url}")]
    NoSuchDirectory {
        /// The remote.
        url: String,
        /// As requested.
        dir: String,
    },
    /// Anything else that the remote did or that git found wrong with what it sent.
    #[error("{url} could not be imported: {reason}")]
    Failed {
        /// The remote.
        url: String,
        /// In git's words.
        reason: String,
    },
    /// It is not the remote's fault.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What came of pushing a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedRef {
    /// What was wanted.
    pub update: RefUpdate,
    /// Why it was not done.
    pub refusal: Option<String>,
    /// It was not done because the remote is not where it was.
    pub is_stale: bool,
}

/// What a revision is at the remote.
enum Found {
    /// A branch, by its short name.
    Branch(String),
    /// A tag, by its short name.
    Tag(String),
    /// A commit, by its id.
    Commit(String),
}

impl Repository {
    /// Fills this repository, which must be empty, from a remote. Durable when it returns, with the
    /// revision's branch as the default branch. On failure something may have arrived.
    pub async fn import(&self, remote: &Remote, wanted: &Selection) -> Result<(), RemoteError> {
        let _place = self.shared.importing.enter().await?;
        let Some(found) = self.find_revision(remote, wanted.revision.as_deref()).await? else {
            // An empty repository of an empty one.
            return match &wanted.branch {
                Some(branch) => Ok(self.set_default_branch(branch).await?),
                None => Ok(()),
            };
        };
        let name = match (&wanted.branch, &found) {
            (Some(branch), _) => branch.clone(),
            (None, Found::Branch(branch)) => BranchName::parse(branch)?,
            (None, _) => BranchName::parse("main")?,
        };
        let place = name.full_name();
        let (specs, tip) = match &found {
            Found::Branch(branch) if !wanted.all_branches => {
                (vec![format!("{HEADS}{branch}:{place}")], None)
            }
            Found::Commit(id) if !wanted.all_branches => (vec![format!("{id}:{place}")], None),
            // A branch is at a commit, and a tag may be an object of its own.
            Found::Tag(tag) if !wanted.all_branches => {
                (vec![format!("{TAGS}{tag}:{TAGS}{tag}")], Some(format!("{TAGS}{tag}")))
            }
            Found::Branch(name) => (everything(), Some(format!("{HEADS}{name}"))),
            Found::Tag(name) => (everything(), Some(format!("{TAGS}{name}"))),
            Found::Commit(id) => (everything(), Some(id.clone())),
        };
        self.fetch(remote, &specs, wanted.depth).await?;
        if let Some(tip) = tip {
            self.place_branch(&name, tip).await?;
        }
        self.set_default_branch(&name).await?;
        let synced = self.finish_blocking(|this| {
            sync_names(&this.state.path).map_err(GitError::io("cannot flush an import to disk"))
        });
        Ok(synced.await?)
    }

    /// Makes a branch where something that was imported is, unless it is there already.
    async fn place_branch(&self, name: &BranchName, tip: String) -> Result<(), GitError> {
        let name = name.clone();
        self.with_ref_lock(move |reader| {
            let commit = reader.resolve_commit(&tip)?;
            if reader.refs.branch(&name)? == Some(commit) {
                return Ok(Some(()));
            }
            match reader.refs.swap(&name, None, commit)? {
                Swap::Done => Ok(Some(())),
                Swap::Locked => Ok(None),
                Swap::Moved(_) => Err(GitError::InvalidRequest(format!(
                    "the source has another branch called {name}; give the default branch another \
                     name"
                ))),
            }
        })
        .await
    }

    /// Finds what the remote's revision is. `None`: there is nothing at all, and nothing was asked
    /// for.
    async fn find_revision(
        &self,
        remote: &Remote,
        revision: Option<&str>,
    ) -> Result<Option<Found>, RemoteError> {
        let Some(revision) = revision else {
            let listed = self.remote_git(remote, &["ls-remote", "--symref", NAME, "HEAD"]).await?;
            let mut lines = listed.lines().filter_map(|line| line.strip_suffix("\tHEAD"));
            let (mut branch, mut commit) = (None, None);
            for line in &mut lines {
                match line.strip_prefix("ref: ") {
                    Some(name) => branch = name.strip_prefix(HEADS).map(str::to_owned),
                    None => commit = Some(line.to_owned()),
                }
            }
            return Ok(branch.map(Found::Branch).or(commit.map(Found::Commit)));
        };
        if full_id(revision).is_some() {
            return Ok(Some(Found::Commit(revision.to_owned())));
        }
        let no_such = || RemoteError::NoSuchRevision {
            url: remote.url.clone(),
            revision: revision.to_owned(),
        };
        let short = revision.strip_prefix(HEADS).or(revision.strip_prefix(TAGS));
        // What is no name for a branch is none for a tag.
        let name = BranchName::parse(short.unwrap_or(revision)).map_err(|_| no_such())?;
        let (head, tag) = (format!("{HEADS}{name}"), format!("{TAGS}{name}"));
        let listed = self.remote_git(remote, &["ls-remote", NAME, &head, &tag]).await?;
        let has = |full: &str| {
            let mut names = listed.lines().filter_map(|line| Some(line.split_once('\t')?.1));
            // One that was asked for by its full name is no other kind.
            full.ends_with(revision) && names.any(|name| name == full)
        };
        if has(&head) {
            return Ok(Some(Found::Branch(name.as_str().to_owned())));
        }
        if has(&tag) {
            return Ok(Some(Found::Tag(name.as_str().to_owned())));
        }
        Err(no_such())
    }

    async fn fetch(
        &self,
        remote: &Remote,
        specs: &[String],
        depth: Option<NonZeroU32>,
    ) -> Result<(), RemoteError> {
        let depth = depth.map(|depth| format!("--depth={depth}"));
        let arguments = ["fetch", "--quiet", "--no-write-fetch-head", "--no-auto-maintenance"]
            .into_iter()
            .chain(depth.as_deref())
            .chain([NAME])
            .chain(specs.iter().map(String::as_str));
        self.remote_git(remote, &arguments.collect::<Vec<_>>()).await.map(drop)
    }

    /// Brings everything that the remote has here, out of sight of everybody, and answers its
    /// branches and tags by their full names. What is in no branch of this repository is kept until
    /// the next time.
    pub async fn mirror(&self, remote: &Remote) -> Result<Vec<(String, ObjectId)>, RemoteError> {
        let _place = self.shared.importing.enter().await?;
        let specs = [HEADS, TAGS].map(|kind| format!("+{kind}*:{}*", mirrored(kind)));
        let arguments = ["fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head"]
            .into_iter()
            .chain(["--no-auto-maintenance", NAME])
            .chain(specs.iter().map(String::as_str));
        self.remote_git(remote, &arguments.collect::<Vec<_>>()).await?;
        let refs = self.read(|reader| {
            let mut refs = Vec::new();
            for kind in [HEADS, TAGS] {
                let below = reader.refs.below(&mirrored(kind))?.into_iter();
                refs.extend(below.map(|tip| (format!("{kind}{}", tip.name), tip.target)));
            }
            Ok(refs)
        });
        Ok(refs.await?)
    }

    /// Moves refs at the remote from one value to another, never back: a branch of which the remote
    /// has commits that are not here is refused, as is what is not there any more where it was.
    pub async fn push(
        &self,
        remote: &Remote,
        updates: Vec<RefUpdate>,
    ) -> Result<Vec<PushedRef>, RemoteError> {
        let mut pushed = Vec::with_capacity(updates.len());
        for updates in updates.chunks(PUSHED_AT_ONCE) {
            let mut arguments = vec!["push".to_owned(), "--porcelain".to_owned()];
            let leases = updates.iter().filter(|update| update.new.is_none());
            arguments.extend(leases.filter_map(|update| {
                Some(format!("--force-with-lease={}:{}", update.name, update.old?))
            }));
            arguments.push(NAME.to_owned());
            arguments.extend(updates.iter().map(|RefUpdate { name, new, .. }| match new {
                Some(new) => format!("{new}:{name}"),
                None => format!(":{name}"),
            }));
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let finished = self.run_with(remote, &arguments).await?;
            let said = String::from_utf8_lossy(&finished.stdout).into_owned();
            // It fails when a single ref was refused, too, and then says which.
            if !finished.status.success() && !said.lines().any(|line| line.starts_with("!\t")) {
                return Err(told(remote, &finished));
            }
            pushed.extend(updates.iter().map(|update| {
                let refusal = refusal(&said, &update.name);
                // Git itself refuses only what would overwrite something that was not known.
                let is_stale = refusal.as_ref().is_some_and(|why| why.starts_with("[rejected]"));
                PushedRef { update: update.clone(), refusal, is_stale }
            }));
        }
        Ok(pushed)
    }

    /// Runs a command that talks to the remote and answers what it wrote.
    async fn remote_git(&self, remote: &Remote, arguments: &[&str]) -> Result<String, RemoteError> {
        let finished = self.run_with(remote, arguments).await?;
        match finished.status.success() {
            true => Ok(String::from_utf8_lossy(&finished.stdout).into_owned()),
            false => Err(told(remote, &finished)),
        }
    }

    async fn run_with(&self, remote: &Remote, arguments: &[&str]) -> Result<Finished, GitError> {
        let header = remote.authorization.as_deref();
        let header = header.map(|value| format!("Authorization: {value}"));
        let mut settings = vec![
            ("remote.source.url", remote.url.as_str()),
            ("protocol.http.allow", "always"),
            ("protocol.https.allow", "always"),
            ("http.proxy", remote.proxy.as_str()),
            ("http.followRedirects", "initial"),
            // A source that sends next to nothing for so long (seconds) is given up.
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("fetch.fsck.badTimezone", "ignore"),
            ("fetch.fsck.missingSpaceBeforeDate", "ignore"),
            ("fetch.fsck.zeroPaddedFilemode", "ignore"),
        ];
        settings.extend(header.as_deref().map(|header| ("http.extraHeader", header)));
        let path = &self.state.path;
        let arguments = arguments.iter().map(OsStr::new);
        let process = self.shared.git.start(path, &settings, None, arguments)?;
        process.finish(self.shared.limits.request_time).await
    }
}

/// Where refs of a remote are kept. Clients neither see nor change what is below `refs/internal`.
fn mirrored(kind: &str) -> String {
    format!("refs/internal/remote/{}", kind.trim_start_matches("refs/"))
}

/// Why a ref was refused, by what `git push --porcelain` wrote: a flag, the refs and a summary.
fn refusal(said: &str, name: &str) -> Option<String> {
    let mut lines = said.lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (flag, refs, summary) = (fields.next()?, fields.next()?, fields.next()?);
        (refs.rsplit_once(':')?.1 == name).then_some((flag, summary))
    });
    match lines.next() {
        Some(("!", summary)) => Some(shortened(summary)),
        Some(_) => None,
        None => Some("git did not say what became of it".to_owned()),
    }
}

/// All branches and tags, as they are called.
fn everything() -> Vec<String> {
    vec![format!("{HEADS}*:{HEADS}*"), format!("{TAGS}*:{TAGS}*")]
}

/// What git's last words mean. They are the same in every version that is known; what is not
/// understood is passed on.
fn told(remote: &Remote, finished: &Finished) -> RemoteError {
    let Finished { status, stderr, .. } = finished;
    let url = remote.url.clone();
    let says = |text: &str| stderr.contains(text);
    if says("Authentication failed")
        || says("could not read Username")
        || says("returned error: 403")
    {
        return RemoteError::Unauthorized(url);
    }
    if says("' not found") || says("not valid: is this a git repository") {
        return RemoteError::NotFound(url);
    }
    if let Some((_, rest)) = stderr.split_once("couldn't find remote ref ") {
        let revision = rest.lines().next().unwrap_or_default();
        return RemoteError::NoSuchRevision { url, revision: shortened(revision) };
    }
    if says("not our ref") || says("unadvertised object") {
        let revision = "the commit asked for".to_owned();
        return RemoteError::NoSuchRevision { url, revision };
    }
    RemoteError::Failed { url, reason: reason(*status, stderr) }
}

fn reason(status: ExitStatus, stderr: &str) -> String {
    // What the remote itself says is marked so, and is not passed on.
    let fatal = stderr.lines().find_map(|line| line.strip_prefix("fatal: "));
    fatal.map_or_else(|| format!("git ended with {status}"), shortened)
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_ref_of_a_push_is_read() {
        let said = "To http://h/x\n*\ta1:refs/heads/new\t[new branch]\n\
                    !\ta2:refs/heads/main\t[rejected] (fetch first)\n\
                    -\t:refs/heads/old\t[deleted]\nDone\n";
        assert_eq!(refusal(said, "refs/heads/new"), None);
        assert_eq!(refusal(said, "refs/heads/old"), None);
        let main = refusal(said, "refs/heads/main");
        assert_eq!(main.as_deref(), Some("[rejected] (fetch first)"));
        assert!(refusal(said, "refs/heads/other").is_some());
    }
}
