//! The three calls of GitHub's REST API that a sync needs.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use freestyle_outbound::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use freestyle_outbound::{Exchange, Method, Outbound, StatusCode, WebUrl};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::GitHubError;

const TIME: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const LONGEST: usize = 1 << 20;

/// A repository at GitHub: `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubName {
    owner: String,
    name: String,
}

impl FromStr for GitHubName {
    type Err = GitHubError;

    fn from_str(text: &str) -> Result<Self, GitHubError> {
        let invalid = GitHubError::Invalid("a GitHub repository is named owner/name");
        let Some((owner, name)) = text.split_once('/') else { return Err(invalid) };
        let is_owner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let is_name = |c: char| is_owner(c) || c == '.';
        let good = (1..=39).contains(&owner.len())
            && owner.chars().all(is_owner)
            && (1..=100).contains(&name.len())
            && name.chars().all(is_name)
            && name != "."
            && name != "..";
        match good {
            true => Ok(Self { owner: owner.to_owned(), name: name.to_owned() }),
            false => Err(invalid),
        }
    }
}

impl fmt::Display for GitHubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// The right of an app to use one repository, for an hour.
pub(crate) struct Installation {
    /// A secret.
    pub(crate) token: String,
    /// Where git finds the repository.
    pub(crate) clone_url: String,
    /// The short name of the branch that it shows.
    pub(crate) default_branch: Option<String>,
}

/// The API of GitHub, or of a GitHub Enterprise Server.
pub(crate) struct Rest<'a> {
    pub(crate) outbound: &'a Outbound,
    /// Without a slash at its end.
    pub(crate) base: &'a str,
}

#[derive(Deserialize)]
struct InstallationAnswer {
    id: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    clone_url: String,
    default_branch: Option<String>,
}

impl Rest<'_> {
    /// Gets the right to use a repository. `NotInstalled` if the app has none.
    pub(crate) async fn installation(
        &self,
        app_token: &str,
        name: &GitHubName,
    ) -> Result<Installation, GitHubError> {
        let path = format!("/repos/{name}/installation");
        let InstallationAnswer { id } =
            self.call(Method::GET, &path, app_token, Value::Null, name).await?;
        let path = format!("/app/installations/{id}/access_tokens");
        let only_this = json!({ "repositories": [name.name] });
        let TokenAnswer { token } =
            self.call(Method::POST, &path, app_token, only_this, name).await?;
        let path = format!("/repos/{name}");
        let RepositoryAnswer { clone_url, default_branch } =
            self.call(Method::GET, &path, &token, Value::Null, name).await?;
        Ok(Installation { token, clone_url, default_branch })
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
        name: &GitHubName,
    ) -> Result<T, GitHubError> {
        let url: WebUrl = format!("{}{path}", self.base).parse()?;
        let internal = |_| GitHubError::Internal("a token cannot be sent".to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").try_into().map_err(internal)?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert("x-github-api-version", HeaderValue::from_static("2022-11-28"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (url, body) = (&url, body.into());
        let exchange = Exchange { method, url, headers, body, time: TIME, most: LONGEST };
        let received = self.outbound.exchange(exchange).await?;
        match received.status {
            status if status.is_success() => {
                serde_json::from_slice(&received.body).map_err(|_| GitHubError::BadAnswer {
                    what: format!("{} answered something else than expected", url.origin()),
                })
            }
            // What the app may not see does not exist for it.
            StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(GitHubError::NotInstalled(name.to_string()))
            }
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Err(GitHubError::Refused),
            StatusCode::UNAUTHORIZED => Err(GitHubError::AppRefused),
            status if status.is_redirection() => Err(GitHubError::Moved(name.to_string())),
            status => {
                Err(GitHubError::BadAnswer { what: format!("{} answered {status}", url.origin()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_owner_and_name() {
        for good in ["a/b", "Owner-1/repo.name_x", "x/.github"] {
            assert_eq!(good.parse::<GitHubName>().unwrap().to_string(), good);
        }
        for bad in ["", "a", "/b", "a/", "a/b/c", "a/..", "a/.", "a b/c", "a/b?x", "../x", "a/b\n"]
        {
            assert!(bad.parse::<GitHubName>().is_err(), "{bad}");
        }
    }
}
