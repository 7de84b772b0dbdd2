//! The calls on repositories.

use hyper::Method;

use crate::client::{Client, encode, nothing, query_string};
use crate::error::ClientError;
use crate::http::json;
use crate::wire::git::{
    CommitSearchQuery, ContentSearchQuery, ContentsQuery, CreateRepoRequest, CreateRepoResponse,
    CreateTriggerRequest, CreateTriggerResponse, EnableGithubSyncRequest, FileSearchQuery,
    GitContents, GitHostResponse, GithubApp, GithubSync, ListCommitsQuery, ListCommitsResponse,
    ListDeliveriesQuery, ListDeliveriesResponse, ListReposQuery, ListReposResponse,
    ListTriggersResponse, RedeliverResponse, SearchCommitsResponse, SearchContentsResponse,
    SearchDiffsResponse, SearchFilesResponse, SetGithubAppRequest,
};

const GITHUB_APP: &str = "/git/v1/github/app";

impl Client {
    /// Makes a repository.
    pub async fn create_repo(
        &self,
        request: &CreateRepoRequest,
    ) -> Result<CreateRepoResponse, ClientError> {
        self.http.call(Method::POST, "/git/v1/repo", None, Some(json(request))).await
    }

    /// Lists the account's repositories, newest first.
    pub async fn list_repos(
        &self,
        query: &ListReposQuery,
    ) -> Result<ListReposResponse, ClientError> {
        self.get(&format!("/git/v1/repo{}", query_string(query))).await
    }

    /// Deletes a repository with everything in it.
    pub async fn delete_repo(&self, repo: &str) -> Result<(), ClientError> {
        self.http.call(Method::DELETE, &repo_path(repo, ""), None, None).await.map(nothing)
    }

    /// Where native git finds repositories.
    pub async fn git_host(&self) -> Result<GitHostResponse, ClientError> {
        self.get("/git/v1/host").await
    }

    /// Makes a trigger.
    pub async fn create_trigger(
        &self,
        repo: &str,
        request: &CreateTriggerRequest,
    ) -> Result<CreateTriggerResponse, ClientError> {
        let path = repo_path(repo, "/trigger");
        self.http.call(Method::POST, &path, None, Some(json(request))).await
    }

    /// Lists the triggers of a repository, oldest first.
    pub async fn list_triggers(&self, repo: &str) -> Result<ListTriggersResponse, ClientError> {
        self.get(&repo_path(repo, "/trigger")).await
    }

    /// Deletes a trigger; what was not delivered yet never is.
    pub async fn delete_trigger(&self, repo: &str, trigger: &str) -> Result<(), ClientError> {
        let path = trigger_path(repo, trigger, "");
        self.http.call(Method::DELETE, &path, None, None).await.map(nothing)
    }

    /// Lists what was and is to be delivered to a trigger, newest first.
    pub async fn list_deliveries(
        &self,
        repo: &str,
        trigger: &str,
        query: &ListDeliveriesQuery,
    ) -> Result<ListDeliveriesResponse, ClientError> {
        let rest = format!("/deliveries{}", query_string(query));
        self.get(&trigger_path(repo, trigger, &rest)).await
    }

    /// Delivers something once more.
    pub async fn redeliver(
        &self,
        repo: &str,
        trigger: &str,
        delivery: &str,
    ) -> Result<RedeliverResponse, ClientError> {
        let rest = format!("/deliveries/{}/redeliver", encode(delivery));
        self.http.call(Method::POST, &trigger_path(repo, trigger, &rest), None, None).await
    }

    /// Which repository at GitHub one is kept equal to.
    pub async fn github_sync(&self, repo: &str) -> Result<Option<GithubSync>, ClientError> {
        self.get(&repo_path(repo, "/github-sync")).await
    }

    /// Has a repository kept equal to one at GitHub.
    pub async fn enable_github_sync(
        &self,
        repo: &str,
        request: &EnableGithubSyncRequest,
    ) -> Result<(), ClientError> {
        let (path, body) = (repo_path(repo, "/github-sync"), Some(json(request)));
        self.http.call(Method::POST, &path, None, body).await.map(nothing)
    }

    /// Ends the sync with GitHub.
    pub async fn disable_github_sync(&self, repo: &str) -> Result<(), ClientError> {
        let path = repo_path(repo, "/github-sync");
        self.http.call(Method::DELETE, &path, None, None).await.map(nothing)
    }

    /// The GitHub App of the account.
    pub async fn github_app(&self) -> Result<Option<GithubApp>, ClientError> {
        self.get(GITHUB_APP).await
    }

    /// Connects the account with a GitHub App.
    pub async fn set_github_app(
        &self,
        request: &SetGithubAppRequest,
    ) -> Result<GithubApp, ClientError> {
        self.http.call(Method::PUT, GITHUB_APP, None, Some(json(request))).await
    }

    /// Forgets the GitHub App of the account.
    pub async fn delete_github_app(&self) -> Result<(), ClientError> {
        self.http.call(Method::DELETE, GITHUB_APP, None, None).await.map(nothing)
    }

    /// Reads a file of a repository or lists a directory; the empty path is the root.
    pub async fn repo_contents(
        &self,
        repo: &str,
        path: &str,
        query: &ContentsQuery,
    ) -> Result<GitContents, ClientError> {
        let rest = format!("/contents/{}{}", encode(path), query_string(query));
        self.get(&repo_path(repo, &rest)).await
    }

    /// Lists commits of a branch.
    pub async fn list_commits(
        &self,
        repo: &str,
        query: &ListCommitsQuery,
    ) -> Result<ListCommitsResponse, ClientError> {
        self.get(&repo_path(repo, &format!("/git/commits{}", query_string(query)))).await
    }

    /// Searches the text of files.
    pub async fn search_contents(
        &self,
        repo: &str,
        query: &ContentSearchQuery,
    ) -> Result<SearchContentsResponse, ClientError> {
        self.get(&repo_path(repo, &format!("/search{}", query_string(query)))).await
    }

    /// Searches the lines that commits added or removed.
    pub async fn search_diffs(
        &self,
        repo: &str,
        query: &ContentSearchQuery,
    ) -> Result<SearchDiffsResponse, ClientError> {
        self.get(&repo_path(repo, &format!("/search/diffs{}", query_string(query)))).await
    }

    /// Searches the names of files.
    pub async fn search_files(
        &self,
        repo: &str,
        query: &FileSearchQuery,
    ) -> Result<SearchFilesResponse, ClientError> {
        self.get(&repo_path(repo, &format!("/search/files{}", query_string(query)))).await
    }

    /// Searches the messages of commits.
    pub async fn search_commits(
        &self,
        repo: &str,
        query: &CommitSearchQuery,
    ) -> Result<SearchCommitsResponse, ClientError> {
        self.get(&repo_path(repo, &format!("/search/commits{}", query_string(query)))).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.http.call(Method::GET, path, None, None).await
    }
}

fn trigger_path(repo: &str, trigger: &str, rest: &str) -> String {
    repo_path(repo, &format!("/trigger/{}{rest}", encode(trigger)))
}

fn repo_path(repo: &str, rest: &str) -> String {
    format!("/git/v1/repo/{}{rest}", encode(repo))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_sent_with_what_it_names() {
        let query = ContentSearchQuery {
            query: "a b&c".into(),
            rev: Some("feature/x".into()),
            max_results: Some(5),
            is_regex: Some(true),
            ..ContentSearchQuery::default()
        };
        let expected = "?query=a%20b%26c&rev=feature%2Fx&maxResults=5&isRegex=true";
        assert_eq!(query_string(&query), expected);
    }
}
