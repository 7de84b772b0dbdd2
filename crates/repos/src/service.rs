//! Creating, finding, listing and deleting.

use std::path::PathBuf;
use std::sync::Arc;

use freestyle_git::{BranchName, GitError, Limits, Repositories, Repository, RepositoryId};
use freestyle_outbound::Outbound;
use freestyle_store::{AccountId, RepositoryRecord, RepositoryState, Store};

use crate::ReposError;
use crate::import::Content;
use crate::repo::Repo;
use crate::upkeep::Upkeep;
use crate::watch::Watch;

/// Where repositories are and what may be done with them.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of all repositories; created when missing, and locked.
    pub root: PathBuf,
    /// The `git` program; a bare name is looked up in `PATH`.
    pub git: PathBuf,
    /// What requests may cost.
    pub limits: Limits,
    /// Repositories that one account may have.
    pub repositories_per_account: u64,
    /// The way to sources of imports, and the judge of endpoints of triggers.
    pub outbound: Outbound,
}

/// A repository to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRepo {
    /// A label for people; not unique.
    pub name: Option<String>,
    /// Whether everybody may read it.
    pub public: bool,
    /// The branch that a clone checks out; it need not exist. Where none is named it is the one of
    /// the source, or `main`.
    pub default_branch: Option<BranchName>,
    /// What it begins with.
    pub content: Content,
}

/// Some of an account's repositories.
#[derive(Clone)]
pub struct RepoPage {
    /// Newest first.
    pub repos: Vec<Repo>,
    /// How many there are on all pages.
    pub total: u64,
}

/// The repositories of all accounts. Cheap to clone; all clones are one service.
#[derive(Clone)]
pub struct Repos {
    pub(crate) shared: Arc<Shared>,
}

/// What the service and its repositories share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) git: Repositories,
    pub(crate) upkeep: Upkeep,
    pub(crate) watch: Watch,
    pub(crate) outbound: Outbound,
    repositories_per_account: u64,
}

impl Repos {
    /// Opens the repositories for this server alone and finishes what an earlier one left half
    /// done.
    pub async fn open(config: Config, store: Store) -> Result<Self, ReposError> {
        let Config { root, git, limits, repositories_per_account, outbound } = config;
        let git = Repositories::open(freestyle_git::Config { root, git, limits }).await?;
        let (upkeep, watch) = (Upkeep::default(), Watch::default());
        let shared = Shared { store, git, upkeep, watch, outbound, repositories_per_account };
        let this = Self { shared: Arc::new(shared) };
        this.take_over().await?;
        Ok(this)
    }

    /// Removes what was half made or half deleted, and says what does not belong together.
    async fn take_over(&self) -> Result<(), ReposError> {
        let system = self.shared.store.system();
        for record in system.unfinished_repositories().await? {
            tracing::info!(repository = record.id, state = ?record.state, "removing what is left");
            self.shared.remove(&parse(&record)?).await?;
        }
        for record in system.watched_repositories().await? {
            let id = parse(&record)?;
            let caught_up = match self.shared.found(Some(record), &id).await {
                Ok(repo) => repo.catch_up().await,
                Err(error) => Err(error),
            };
            // One that cannot be read must not keep the others from being served.
            if let Err(error) = caught_up {
                tracing::error!(repository = %id, %error, "cannot see what moved in it meanwhile");
            }
        }
        Ok(())
    }

    /// Makes a repository: all of it, or nothing is left of it. Durable when it returns; goes on
    /// to its end whatever becomes of the caller.
    pub async fn create(&self, account: &AccountId, new: NewRepo) -> Result<Repo, ReposError> {
        let (shared, account) = (self.shared.clone(), account.clone());
        to_the_end(async move {
            let id = RepositoryId::random();
            let most = shared.repositories_per_account;
            let scope = shared.store.account_scope(&account);
            let name = new.name.as_deref();
            let record = scope.insert_repository(id.as_str(), name, new.public, most).await?;
            let mut record = record.ok_or(ReposError::TooMany { limit: most })?;
            match shared.fill(&id, new.default_branch, new.content).await {
                Ok(git) => {
                    record.state = RepositoryState::Ready;
                    Ok(Repo { record, git, shared })
                }
                Err(error) => {
                    // What cannot be removed now is at the next start.
                    if let Err(error) = shared.remove(&id).await {
                        tracing::warn!(repository = %id, %error, "half a repository is left");
                    }
                    Err(error)
                }
            }
        })
        .await
    }

    /// A repository of an account.
    pub async fn get(&self, account: &AccountId, id: &RepositoryId) -> Result<Repo, ReposError> {
        let scope = self.shared.store.account_scope(account);
        self.shared.found(scope.repository(id.as_str()).await?, id).await
    }

    /// An account's repositories, newest first: those whose name contains `search` or whose id it
    /// is, or all of them.
    pub async fn list(
        &self,
        account: &AccountId,
        search: Option<&str>,
        limit: u64,
        offset: u64,
    ) -> Result<RepoPage, ReposError> {
        let scope = self.shared.store.account_scope(account);
        let page = scope.repositories(search, limit, offset).await?;
        let mut repos = Vec::with_capacity(page.repositories.len());
        for record in page.repositories {
            let id = parse(&record)?;
            match self.shared.found(Some(record), &id).await {
                Ok(repo) => repos.push(repo),
                // Deleted meanwhile.
                Err(ReposError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(RepoPage { repos, total: page.total })
    }

    /// Changes who may read a repository.
    pub async fn set_public(
        &self,
        account: &AccountId,
        id: &RepositoryId,
        public: bool,
    ) -> Result<RepositoryRecord, ReposError> {
        let scope = self.shared.store.account_scope(account);
        let changed = scope.set_repository_public(id.as_str(), public).await?;
        changed.ok_or_else(|| ReposError::NotFound(id.clone()))
    }

    /// Deletes a repository with everything in it. It exists for nobody from the first moment, and
    /// is gone, durably, when this returns; goes on to its end whatever becomes of the caller.
    pub async fn delete(&self, account: &AccountId, id: &RepositoryId) -> Result<(), ReposError> {
        let (shared, account, id) = (self.shared.clone(), account.clone(), id.clone());
        to_the_end(async move {
            let scope = shared.store.account_scope(&account);
            if !scope.begin_repository_delete(id.as_str()).await? {
                return Err(ReposError::NotFound(id));
            }
            shared.remove(&id).await
        })
        .await
    }
}

impl Shared {
    /// Makes the files of a repository that has a record, and then lets it exist.
    async fn fill(
        &self,
        id: &RepositoryId,
        default_branch: Option<BranchName>,
        content: Content,
    ) -> Result<Repository, ReposError> {
        let first = match &default_branch {
            Some(branch) => branch.clone(),
            None => BranchName::parse("main")?,
        };
        let git = self.git.create(id, &first).await?;
        content.fill(&git, default_branch, &self.outbound).await?;
        if !self.store.system().finish_repository(id.as_str()).await? {
            return Err(ReposError::NotFound(id.clone()));
        }
        Ok(git)
    }

    /// Removes the files, if there are any, and then the record of a repository that does not
    /// exist for anybody.
    async fn remove(&self, id: &RepositoryId) -> Result<(), ReposError> {
        match self.git.delete(id).await {
            Ok(()) | Err(GitError::RepositoryNotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.store.system().remove_repository(id.as_str()).await?)
    }

    async fn found(
        self: &Arc<Self>,
        record: Option<RepositoryRecord>,
        id: &RepositoryId,
    ) -> Result<Repo, ReposError> {
        let record = record.ok_or_else(|| ReposError::NotFound(id.clone()))?;
        let git = self.git.get(id).await?;
        Ok(Repo { record, git, shared: self.clone() })
    }
}

/// The identifier in a record.
pub(crate) fn parse(record: &RepositoryRecord) -> Result<RepositoryId, ReposError> {
    let parsed = record.id.parse();
    parsed.map_err(|error| ReposError::Internal(format!("repository {:?}: {error}", record.id)))
}

/// Runs what must not stop halfway in a task of its own: the caller may go away at any moment.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ReposError>> + Send + 'static,
) -> Result<T, ReposError> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| Err(ReposError::Internal(format!("a task failed: {error}"))))
}
