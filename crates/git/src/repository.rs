//! Repositories on disk: made complete or not at all, found, and deleted completely.
//!
//! A repository is `<root>/<first two characters of the id>/<id>.git`. What is being made or
//! deleted is in `<root>/.new` and `<root>/.deleted` under another name, and a rename is the moment
//! at which it exists or no longer does; what a crash leaves there is removed at the next start.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use tokio::sync::Semaphore;

use crate::disk::{create_synced, is_directory, sync_directory};
use crate::limits::{Admission, Limits, Queue};
use crate::objects::Objects;
use crate::process::{GitProgram, ProcessLimits};
use crate::refs::BranchName;
use crate::{GitError, RepositoryId};

/// Repositories whose open files and caches are kept when nobody uses them.
const KEPT_OPEN: usize = 256;
/// How long a new server waits for the last processes of one that was killed. They end when they
/// notice that nobody feeds them.
const TAKEOVER_TIME: Duration = Duration::from_secs(15);
const TAKEOVER_PAUSE: Duration = Duration::from_millis(20);
/// The only file that tells git what the folder is. Everything else is given to each process.
const CONFIG_FILE: &[u8] = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n";

/// Where repositories are and what requests may cost.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of all repositories; created when missing, and locked.
    pub root: PathBuf,
    /// The `git` program; a bare name is looked up in `PATH`.
    pub git: PathBuf,
    /// What requests may cost.
    pub limits: Limits,
}

/// All repositories of this server. Cheap to clone.
#[derive(Clone)]
pub struct Repositories {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    root: PathBuf,
    pub(crate) git: GitProgram,
    pub(crate) limits: Limits,
    pub(crate) admission: Admission,
    pub(crate) importing: Queue,
    /// Blocking work at one time.
    pub(crate) blocking: Arc<Semaphore>,
    /// KiB of large files that answers may hold.
    pub(crate) large_files: Arc<Semaphore>,
    open: Mutex<HashMap<RepositoryId, Opened>>,
}

struct Opened {
    state: Arc<State>,
    used: Instant,
}

/// What is shared by all who use one repository.
pub(crate) struct State {
    pub(crate) id: RepositoryId,
    pub(crate) path: PathBuf,
    pub(crate) objects: Objects,
    pub(crate) admission: Admission,
    /// Commits of the API.
    pub(crate) writing: Queue,
    /// Tells those who write that they must end.
    pub(crate) is_deleted: tokio::sync::watch::Sender<bool>,
    /// Held shared by each push, and alone by who removes what broken pushes left.
    pub(crate) pushing: Arc<tokio::sync::RwLock<()>>,
    /// Held shared by each read in process, and alone while refs are put into one file.
    pub(crate) packing_refs: Arc<tokio::sync::RwLock<()>>,
    /// A push was broken off since that was last done.
    pub(crate) has_leftovers: AtomicBool,
}

/// One repository. Cheap to clone; holding it does not keep the repository from being deleted.
#[derive(Clone)]
pub struct Repository {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Repository").field(&self.state.id).finish()
    }
}

impl Repositories {
    /// Opens the root directory for this server alone, checks `git`, and removes what a crash left
    /// half made or half deleted. Waits for processes that a killed server left.
    pub async fn open(config: Config) -> Result<Self, GitError> {
        let limits = ProcessLimits {
            memory: config.limits.process_memory,
            // A pack that is received, and one that is written by a repack of several.
            file_size: config.limits.repository_bytes,
            cpu: config.limits.request_time,
        };
        let lock = lock_root(&config.root).await?;
        let git = GitProgram::find(config.git, limits, lock).await?;
        let shared = Shared {
            root: config.root,
            git,
            admission: Admission::per_host(&config.limits),
            importing: Queue::of_imports(&config.limits),
            blocking: Arc::new(Semaphore::new(config.limits.blocking_per_host)),
            large_files: Arc::new(Semaphore::new(kib(config.limits.large_files_bytes))),
            limits: config.limits,
            open: Mutex::default(),
        };
        let this = Self { shared: Arc::new(shared) };
        this.blocking(|shared| {
            for name in [".new", ".deleted"] {
                let path = shared.root.join(name);
                match fs::create_dir(&path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    other => other?,
                }
                for entry in fs::read_dir(&path)? {
                    fs::remove_dir_all(entry?.path())?;
                }
            }
            sync_directory(&shared.root)
        })
        .await?
        .map_err(GitError::io("cannot prepare the directory of repositories"))?;
        Ok(this)
    }

    /// Makes an empty repository. Durable when it returns.
    pub async fn create(
        &self,
        id: &RepositoryId,
        default_branch: &BranchName,
    ) -> Result<Repository, GitError> {
        let (repository, branch) = (id.clone(), default_branch.clone());
        let made = self.blocking(move |shared| shared.create(&repository, &branch)).await?;
        if !made.map_err(GitError::io("cannot create the repository"))? {
            return Err(GitError::RepositoryExists(id.clone()));
        }
        self.get(id).await
    }

    /// The repository, or `RepositoryNotFound`.
    pub async fn get(&self, id: &RepositoryId) -> Result<Repository, GitError> {
        let repository = id.clone();
        let state = self.blocking(move |shared| shared.state(&repository)).await?;
        let state = state.map_err(GitError::io("cannot open the repository"))?;
        let state = state.ok_or_else(|| GitError::RepositoryNotFound(id.clone()))?;
        Ok(Repository { shared: self.shared.clone(), state })
    }

    /// Deletes the repository with all its objects. It is gone, durably, when this returns. Pushes
    /// to it are broken off; other requests that still run in it may fail.
    pub async fn delete(&self, id: &RepositoryId) -> Result<(), GitError> {
        let repository = id.clone();
        let unlinked = self.blocking(move |shared| shared.unlink(&repository)).await?;
        let unlinked = unlinked.map_err(GitError::io("cannot delete the repository"))?;
        let (path, state) = unlinked.ok_or_else(|| GitError::RepositoryNotFound(id.clone()))?;
        if let Some(state) = state {
            state.is_deleted.send_replace(true);
            // They write where we remove.
            let pushes = tokio::time::timeout(TAKEOVER_TIME, state.pushing.write()).await;
            drop(pushes);
        }
        // From here on nobody can find it, and what cannot be removed now is at the next start.
        let removed = self.blocking(move |_| remove_all(&path)).await?;
        if let Err(error) = removed {
            tracing::warn!(repository = %id, %error, "a deleted repository still takes space");
        }
        Ok(())
    }

    /// Every repository on disk, in no order: for reconciling with what is remembered of them.
    pub async fn list(&self) -> Result<Vec<RepositoryId>, GitError> {
        let listed = self.blocking(|shared| shared.list()).await?;
        listed.map_err(GitError::io("cannot list repositories"))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, GitError> {
        let shared = self.shared.clone();
        let ended = tokio::task::spawn_blocking(move || work(&shared)).await;
        ended.map_err(|error| GitError::Internal(format!("a task failed: {error}")))
    }
}

/// As many as a semaphore can count.
fn kib(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(1024)).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

impl Shared {
    fn path(&self, id: &RepositoryId) -> PathBuf {
        let (shard, name) = id.folder();
        self.root.join(shard).join(name)
    }

    /// Answers whether it did not exist yet.
    fn create(&self, id: &RepositoryId, default_branch: &BranchName) -> io::Result<bool> {
        let new = self.root.join(".new").join(id.as_str());
        // Two who create the same repository: the second is refused here or at the rename.
        match fs::create_dir(&new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            other => other?,
        }
        let made = write_skeleton(&new, default_branch).and_then(|()| self.publish(&new, id));
        if !matches!(made, Ok(true)) {
            let _ = fs::remove_dir_all(&new);
        }
        made
    }

    fn publish(&self, new: &Path, id: &RepositoryId) -> io::Result<bool> {
        let path = self.path(id);
        let shard = self.root.join(id.folder().0);
        match fs::create_dir(&shard) {
            Ok(()) => sync_directory(&self.root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // Never replaces: a repository is a directory that is not empty.
        match fs::rename(new, &path) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        sync_directory(&shard)?;
        Ok(true)
    }

    /// Takes the repository out of sight, durably, and answers where it is now and who uses it.
    fn unlink(&self, id: &RepositoryId) -> io::Result<Option<(PathBuf, Option<Arc<State>>)>> {
        let path = self.path(id);
        // Another name each time: an earlier deletion of the same id may still be going on.
        let deleted = self.root.join(".deleted").join(RepositoryId::random().as_str());
        match fs::rename(&path, &deleted) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        }
        let state = self.open_repositories().remove(id).map(|opened| opened.state);
        if let Some(shard) = path.parent() {
            sync_directory(shard)?;
        }
        sync_directory(&self.root.join(".deleted"))?;
        Ok(Some((deleted, state)))
    }

    fn list(&self) -> io::Result<Vec<RepositoryId>> {
        let mut found = Vec::new();
        for shard in fs::read_dir(&self.root)? {
            let shard = shard?;
            if shard.file_name().len() != 2 || !shard.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(shard.path())? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(|name| name.strip_suffix(".git"));
                found.extend(id.and_then(|id| id.parse::<RepositoryId>().ok()));
            }
        }
        Ok(found)
    }

    /// What is shared by those who use a repository; none if there is no such repository.
    fn state(&self, id: &RepositoryId) -> io::Result<Option<Arc<State>>> {
        let path = self.path(id);
        if !is_directory(&path)? {
            return Ok(None);
        }
        let mut open = self.open_repositories();
        if let Some(opened) = open.get_mut(id) {
            opened.used = Instant::now();
            return Ok(Some(opened.state.clone()));
        }
        // Under the lock, so that no process of ours works in the repository meanwhile.
        remove_leftovers(&path)?;
        if open.len() >= KEPT_OPEN {
            forget_least_used(&mut open);
        }
        let state = Arc::new(State {
            id: id.clone(),
            objects: Objects::new(path.clone()),
            path,
            admission: Admission::per_repository(&self.limits),
            writing: Queue::of_writers(&self.limits),
            is_deleted: tokio::sync::watch::Sender::new(false),
            pushing: Arc::default(),
            packing_refs: Arc::default(),
            has_leftovers: AtomicBool::new(false),
        });
        open.insert(id.clone(), Opened { state: state.clone(), used: Instant::now() });
        Ok(Some(state))
    }

    fn open_repositories(&self) -> MutexGuard<'_, HashMap<RepositoryId, Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what nobody uses, oldest first, until a quarter of the places are free.
fn forget_least_used(open: &mut HashMap<RepositoryId, Opened>) {
    let mut idle: Vec<_> = open
        .iter()
        .filter(|(_, opened)| Arc::strong_count(&opened.state) == 1)
        .map(|(id, opened)| (opened.used, id.clone()))
        .collect();
    idle.sort_unstable();
    for (_, id) in idle.into_iter().take(KEPT_OPEN / 4) {
        open.remove(&id);
    }
}

/// The files of an empty bare repository, durable but for the name of the folder itself.
fn write_skeleton(path: &Path, default_branch: &BranchName) -> io::Result<()> {
    for folder in ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"] {
        fs::create_dir(path.join(folder))?;
    }
    create_synced(&path.join("config"), CONFIG_FILE)?;
    let head = format!("ref: {}\n", default_branch.full_name());
    create_synced(&path.join("HEAD"), head.as_bytes())?;
    for folder in ["objects", "refs", ""] {
        sync_directory(&path.join(folder))?;
    }
    Ok(())
}

/// Locks the root for this server and the processes it starts.
async fn lock_root(root: &Path) -> Result<fs::File, GitError> {
    let open = |root: PathBuf| {
        move || {
            fs::create_dir_all(&root)?;
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(root.join(".lock"))
        }
    };
    let file = tokio::task::spawn_blocking(open(root.to_owned())).await;
    let file = file.unwrap_or_else(|error| Err(io::Error::other(error)));
    let file = file.map_err(GitError::io("cannot open the directory of repositories"))?;
    let started = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if started.elapsed() < TAKEOVER_TIME => {
                tokio::time::sleep(TAKEOVER_PAUSE).await;
            }
            Err(error) => {
                return Err(GitError::Internal(format!(
                    "cannot lock {}, which another server may use: {error}",
                    root.display()
                )));
            }
        }
    }
}

/// Removes locks and temporary objects of processes that were killed. Only before the first use:
/// the lock of the root says that none of an earlier server is left.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    let is_lock = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().ends_with(b".lock");
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_lock(&entry) {
            fs::remove_file(entry.path())?;
        }
    }
    let mut folders = vec![path.join("refs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if is_lock(&entry) {
                fs::remove_file(entry.path())?;
            }
        }
    }
    remove_incoming(path)?;
    for folder in ["objects", "objects/pack"] {
        for entry in fs::read_dir(path.join(folder))? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b"tmp_") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Removes the objects of pushes that were broken off, which git does itself unless it is killed.
/// Only while no push is going on.
pub(crate) fn remove_incoming(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path.join("objects"))? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b"tmp_objdir-") {
            remove_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory even while a process that is about to end still writes to it. Symbolic
/// links are removed, not followed.
fn remove_all(path: &Path) -> io::Result<()> {
    const ATTEMPTS: usize = 16;
    for _ in 1..ATTEMPTS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    fs::remove_dir_all(path)
}

impl Repository {
    /// Its identifier.
    pub fn id(&self) -> &RepositoryId {
        &self.state.id
    }

    /// Runs blocking work, of which the host does only so much at a time.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let wait = self.shared.blocking.clone().acquire_owned();
        let permit = tokio::time::timeout(self.shared.limits.queue_time, wait).await;
        let permit = permit.map_err(|_| GitError::Busy)?;
        self.finish_blocking(move |this| {
            let result = work(this);
            drop(permit);
            result
        })
        .await
    }

    /// Runs blocking work that must not be refused: what it completes has already happened.
    pub(crate) async fn finish_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let this = self.clone();
        let ended = tokio::task::spawn_blocking(move || work(&this)).await;
        ended.unwrap_or_else(|error| Err(GitError::Internal(format!("a task failed: {error}"))))
    }
}
