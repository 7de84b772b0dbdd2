//! Git repositories and what is in them (protocol section 11).

mod commit;
mod compare;
mod contents;
mod github;
mod refs;
mod repository;
mod search;
mod trigger;

pub use commit::{
    CommitOrder, CommitResponse, CommitSelector, CreateCommitObjectRequest, CreateCommitRequest,
    GitAuthor, GitCommit, GitFileChange, GitFileEncoding, GitShaRef, GitSignature,
    GitSignatureInput, ListCommitsQuery, ListCommitsResponse,
};
pub use compare::{CompareQuery, CompareResponse, CompareStatus, ComparedFile, FileStatus};
pub use contents::{
    ArchiveQuery, ContentsQuery, GetTreeResponse, GitBlob, GitBlobEncoding, GitContents,
    GitDirectory, GitDirectoryEntry, GitFile, GitFileEntry, GitTreeEntry,
};
pub use github::{
    EnableGithubSyncRequest, GithubApp, GithubSync, GithubSyncConflict, GithubSyncState,
    SetGithubAppRequest,
};
pub use refs::{
    CreateBranchRequest, DefaultBranch, GitBranch, GitRef, GitTag, ListBranchesResponse,
    ListTagsResponse,
};
pub use repository::{
    ArchiveImport, CreateRepoRequest, CreateRepoResponse, FilesImport, GetRepoResponse, GitImport,
    ListReposQuery, ListReposResponse, RepoImport, RepoListBranch, RepoListItem, RepoListTag,
    RepoSource, RepoVisibility, Visibility,
};
pub use search::{
    CommitSearchMatch, CommitSearchQuery, ContentSearchFile, ContentSearchMatch,
    ContentSearchQuery, DiffSearchCommit, DiffSearchFile, DiffSearchMatch, FileSearchMatch,
    FileSearchQuery, SearchCommitsResponse, SearchContentsResponse, SearchDiffsResponse,
    SearchFilesResponse,
};
pub use trigger::{
    CreateTriggerRequest, CreateTriggerResponse, GitDelivery, GitDeliveryAttempt, GitDeliveryState,
    GitHostResponse, GitTrigger, GitTriggerEvent, GitTriggerItem, ListDeliveriesQuery,
    ListDeliveriesResponse, ListTriggersResponse, RedeliverResponse, WebhookAction,
};
