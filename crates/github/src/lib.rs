//! Keeping repositories equal to repositories at GitHub.
//!
//! Owns: the GitHub App of an account and the proofs it is good for (`app`, `rest`), what has to
//! happen to each branch and tag (`plan`), doing that (`sync`), and when (`worker`). Does not own:
//! transfers and refs (`git`, by way of `repos`), what is remembered (`store`), HTTP (`api`), or which
//! addresses may be reached (`outbound`).
//!
//! # How it can be trusted
//!
//! A sync looks at where everything is, on both sides and when they were last equal, and decides from
//! that alone (`plan`). What set it off does not matter: a push here, a webhook of GitHub's, a start
//! of the server or the clock. So nothing is lost when a webhook is, a sync that is cut off is simply
//! done again, and what a sync itself changes sets off another that finds nothing to do. No history is
//! rewritten: where that would be needed, the conflict is told and left to someone who can decide.

mod app;
mod plan;
mod rest;
mod sync;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use freestyle_git::{GitError, RemoteError, RepositoryId};
use freestyle_outbound::{Outbound, OutboundError, WebUrl};
use freestyle_repos::{Repos, ReposError};
use freestyle_store::{
    AccountId, GitHubAppRecord, GitHubAppSecrets, GitHubSyncRecord, NewGitHubApp, Store, StoreError,
};
use serde::Deserialize;

pub use rest::GitHubName;

use crate::app::{AppKey, is_signed};
use crate::rest::{Installation, Rest};

/// The API of GitHub itself.
pub const GITHUB_API: &str = "https://api.github.com";
const LONGEST_SECRET: usize = 1000;
const LONGEST_KEY: usize = 16 << 10;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum GitHubError {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// The account has no app.
    #[error("the account has no GitHub App; `freestyle git sync app set` connects one")]
    NoApp,
    /// GitHub does not know the app, or its key.
    #[error("GitHub does not accept the app: its id and private key do not belong together")]
    AppRefused,
    /// The app is not installed on the repository, or may not write to it.
    #[error("the GitHub App is not installed on {0}")]
    NotInstalled(String),
    /// The app may do nothing for now.
    #[error("GitHub refuses the app: it is suspended, or has made too many calls")]
    Refused,
    /// It has another name by now.
    #[error("{0} has been moved or renamed at GitHub; enable the sync with its new name")]
    Moved(String),
    /// Another repository of the account is kept equal to it.
    #[error("{0} is kept in sync with another repository already")]
    Taken(String),
    /// A webhook that GitHub did not send.
    #[error("the signature is not that of a GitHub App of this server")]
    NotSigned,
    /// GitHub says something strange.
    #[error("{what}")]
    BadAnswer {
        /// What.
        what: String,
    },
    /// There is no way to GitHub.
    #[error(transparent)]
    Unreachable(#[from] OutboundError),
    /// Git could not fetch or push.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What the repository says.
    #[error(transparent)]
    Repos(#[from] ReposError),
    /// What the store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server failed.
    #[error("{0}")]
    Internal(String),
}

impl GitHubError {
    /// The same in words for the owner of the repository.
    fn told(&self) -> String {
        match self {
            Self::Internal(_) | Self::Store(_) | Self::Repos(_) => {
                "the server failed; it is tried again".to_owned()
            }
            _ => self.to_string(),
        }
    }
}

impl From<GitError> for GitHubError {
    fn from(error: GitError) -> Self {
        Self::Repos(error.into())
    }
}

/// Connects accounts with GitHub and syncs their repositories. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct GitHub {
    store: Store,
    repos: Repos,
    outbound: Outbound,
}

impl GitHub {
    /// Nothing is synced before [`GitHub::run`].
    pub fn new(store: Store, repos: Repos, outbound: Outbound) -> Self {
        Self { store, repos, outbound }
    }

    /// Connects an account with a GitHub App, in the place of another.
    pub async fn set_app(
        &self,
        account: &AccountId,
        new: NewGitHubApp,
    ) -> Result<GitHubAppRecord, GitHubError> {
        let is_id = (1..=20).contains(&new.app_id.len())
            && new.app_id.bytes().all(|byte| byte.is_ascii_digit());
        if !is_id {
            return Err(GitHubError::Invalid("the id of an app is a number"));
        }
        if new.webhook_secret.is_empty() || new.webhook_secret.len() > LONGEST_SECRET {
            return Err(GitHubError::Invalid("a webhook secret has 1 to 1000 bytes"));
        }
        if new.private_key.len() > LONGEST_KEY {
            return Err(GitHubError::Invalid("the private key is too long"));
        }
        AppKey::parse(&new.private_key)?;
        let url: WebUrl = new.api_url.parse()?;
        if url.credentials().is_some() || url.path_and_query().contains('?') {
            return Err(GitHubError::Invalid("the API's URL has a user name or a query"));
        }
        let api_url = url.to_string().trim_end_matches('/').to_owned();
        let new = NewGitHubApp { api_url, ..new };
        Ok(self.store.account_scope(account).set_github_app(&new).await?)
    }

    /// The app of an account.
    pub async fn app(&self, account: &AccountId) -> Result<Option<GitHubAppRecord>, GitHubError> {
        Ok(self.store.account_scope(account).github_app().await?)
    }

    /// Forgets the app of an account. Its syncs fail from then on.
    pub async fn delete_app(&self, account: &AccountId) -> Result<bool, GitHubError> {
        Ok(self.store.account_scope(account).delete_github_app().await?)
    }

    /// Has a repository of an account kept equal to one at GitHub, on which the account's app must be
    /// installed. The first sync follows soon.
    pub async fn enable(
        &self,
        account: &AccountId,
        repository: &RepositoryId,
        name: &GitHubName,
    ) -> Result<(), GitHubError> {
        self.repos.get(account, repository).await?;
        self.installation(account, name).await?;
        let scope = self.store.account_scope(account);
        let name = name.to_string();
        match scope.enable_github_sync(repository.as_str(), &name).await? {
            true => Ok(()),
            false => Err(GitHubError::Taken(name)),
        }
    }

    /// How a repository of an account is kept equal to one at GitHub.
    pub async fn sync_of(
        &self,
        account: &AccountId,
        repository: &RepositoryId,
    ) -> Result<Option<GitHubSyncRecord>, GitHubError> {
        self.repos.get(account, repository).await?;
        Ok(self.store.account_scope(account).github_sync(repository.as_str()).await?)
    }

    /// Ends that. Nothing changes on either side.
    pub async fn disable(
        &self,
        account: &AccountId,
        repository: &RepositoryId,
    ) -> Result<(), GitHubError> {
        self.repos.get(account, repository).await?;
        Ok(self.store.account_scope(account).disable_github_sync(repository.as_str()).await?)
    }

    /// Whether some account has an app with this number.
    pub async fn knows_app(&self, app_id: &str) -> Result<bool, GitHubError> {
        Ok(!self.store.system().github_apps_with_id(app_id).await?.is_empty())
    }

    /// Hears a webhook: `app_id` and `signature` are its headers `X-GitHub-Hook-Installation-Target-ID`
    /// and `X-Hub-Signature-256`. What it says is only taken as a reason to look.
    pub async fn webhook(
        &self,
        app_id: &str,
        signature: &str,
        body: Bytes,
    ) -> Result<(), GitHubError> {
        let apps = self.store.system().github_apps_with_id(app_id).await?;
        let signature = signature.to_owned();
        // A body may have megabytes.
        let heard = tokio::task::spawn_blocking(move || heard(apps, &body, &signature)).await;
        let (senders, name) =
            heard.map_err(|_| GitHubError::Internal("a webhook panicked".to_owned()))??;
        // Events that are about no repository are none of ours.
        let Some(name) = name else { return Ok(()) };
        for account in &senders {
            self.store.account_scope(account).want_github_sync_with(&name).await?;
        }
        Ok(())
    }

    /// Syncs for as long as it is polled. What is cut off is done again by the next one.
    pub async fn run(&self) {
        worker::run(Arc::new(self.clone())).await;
    }

    async fn installation(
        &self,
        account: &AccountId,
        name: &GitHubName,
    ) -> Result<Installation, GitHubError> {
        let app = self.store.system().github_app_of(account).await?.ok_or(GitHubError::NoApp)?;
        let token = AppKey::parse(&app.private_key)?.token(&app.app_id)?;
        let rest = Rest { outbound: &self.outbound, base: &app.api_url };
        rest.installation(&token, name).await
    }
}

/// The part of a webhook that matters here.
#[derive(Deserialize)]
struct Event {
    repository: Option<EventRepository>,
}

#[derive(Deserialize)]
struct EventRepository {
    full_name: String,
}

/// The accounts with whose secret a webhook was signed, and the repository that it is about.
fn heard(
    apps: Vec<GitHubAppSecrets>,
    body: &[u8],
    signature: &str,
) -> Result<(Vec<AccountId>, Option<String>), GitHubError> {
    // Accounts that use the same app have the same secret.
    let mut checked: HashMap<String, bool> = HashMap::new();
    let mut senders = Vec::new();
    for GitHubAppSecrets { account_id, webhook_secret, .. } in apps {
        let is_signed = *checked
            .entry(webhook_secret)
            .or_insert_with_key(|secret| is_signed(secret, body, signature));
        if is_signed {
            senders.push(account_id);
        }
    }
    if senders.is_empty() {
        return Err(GitHubError::NotSigned);
    }
    let event = serde_json::from_slice::<Event>(body).ok();
    Ok((senders, event.and_then(|event| event.repository).map(|about| about.full_name)))
}
