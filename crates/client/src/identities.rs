//! The calls on identities: their tokens, and what they may use.

use hyper::Method;
use hyper::body::Bytes;

use crate::client::{Client, encode, nothing, query_string};
use crate::error::ClientError;
use crate::http::json;
use crate::wire::{
    CreateTokenResponse, GitPermission, GitPermissionRequest, Identity, ListGitPermissionsResponse,
    ListIdentitiesQuery, ListIdentitiesResponse, ListPermissionsQuery, ListTokensResponse,
    ListVmPermissionsResponse, VmPermission, VmPermissionRequest,
};

impl Client {
    /// Makes an identity, who can do nothing until it has a token and a grant.
    pub async fn create_identity(&self) -> Result<Identity, ClientError> {
        self.http.call(Method::POST, "/identity/v1/identities", None, None).await
    }

    /// Lists the account's identities, oldest first.
    pub async fn list_identities(
        &self,
        query: &ListIdentitiesQuery,
    ) -> Result<ListIdentitiesResponse, ClientError> {
        let path = format!("/identity/v1/identities{}", query_string(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// Deletes an identity, its tokens and all that it was granted.
    pub async fn delete_identity(&self, identity: &str) -> Result<(), ClientError> {
        self.identity(Method::DELETE, identity, "", None).await.map(nothing)
    }

    /// Makes a token. It is in the answer and never shown again.
    pub async fn create_token(&self, identity: &str) -> Result<CreateTokenResponse, ClientError> {
        self.identity(Method::POST, identity, "/tokens", None).await
    }

    /// Lists an identity's tokens, oldest first.
    pub async fn list_tokens(&self, identity: &str) -> Result<ListTokensResponse, ClientError> {
        self.identity(Method::GET, identity, "/tokens", None).await
    }

    /// Ends a token at once.
    pub async fn revoke_token(&self, identity: &str, token: &str) -> Result<(), ClientError> {
        let path = format!("/tokens/{}", encode(token));
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    /// Lets an identity use a VM.
    pub async fn grant_vm(
        &self,
        identity: &str,
        vm: &str,
        request: &VmPermissionRequest,
    ) -> Result<VmPermission, ClientError> {
        let body = Some(json(request));
        self.identity(Method::POST, identity, &permission_path("vm", vm), body).await
    }

    /// Replaces as which Linux users an identity may use a VM.
    pub async fn update_vm_permission(
        &self,
        identity: &str,
        vm: &str,
        request: &VmPermissionRequest,
    ) -> Result<VmPermission, ClientError> {
        let body = Some(json(request));
        self.identity(Method::PUT, identity, &permission_path("vm", vm), body).await
    }

    /// As whom an identity may use a VM.
    pub async fn get_vm_permission(
        &self,
        identity: &str,
        vm: &str,
    ) -> Result<VmPermission, ClientError> {
        self.identity(Method::GET, identity, &permission_path("vm", vm), None).await
    }

    /// Lists the VMs that an identity may use, in the order in which they were granted.
    pub async fn list_vm_permissions(
        &self,
        identity: &str,
        query: &ListPermissionsQuery,
    ) -> Result<ListVmPermissionsResponse, ClientError> {
        let path = format!("/permissions/vm{}", query_string(query));
        self.identity(Method::GET, identity, &path, None).await
    }

    /// Ends an identity's right to use a VM at once.
    pub async fn revoke_vm(&self, identity: &str, vm: &str) -> Result<(), ClientError> {
        let path = permission_path("vm", vm);
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    /// Lets an identity read or write a repository.
    pub async fn grant_repository(
        &self,
        identity: &str,
        repository: &str,
        request: &GitPermissionRequest,
    ) -> Result<(), ClientError> {
        let (path, body) = (permission_path("git", repository), Some(json(request)));
        self.identity(Method::POST, identity, &path, body).await.map(nothing)
    }

    /// Replaces what an identity may do with a repository.
    pub async fn update_repository_permission(
        &self,
        identity: &str,
        repository: &str,
        request: &GitPermissionRequest,
    ) -> Result<(), ClientError> {
        let (path, body) = (permission_path("git", repository), Some(json(request)));
        self.identity(Method::PUT, identity, &path, body).await.map(nothing)
    }

    /// What an identity may do with a repository.
    pub async fn get_repository_permission(
        &self,
        identity: &str,
        repository: &str,
    ) -> Result<GitPermission, ClientError> {
        self.identity(Method::GET, identity, &permission_path("git", repository), None).await
    }

    /// Lists the repositories that an identity may use, in the order in which they were granted.
    pub async fn list_repository_permissions(
        &self,
        identity: &str,
        query: &ListPermissionsQuery,
    ) -> Result<ListGitPermissionsResponse, ClientError> {
        let path = format!("/permissions/git{}", query_string(query));
        self.identity(Method::GET, identity, &path, None).await
    }

    /// Ends an identity's right to use a repository at once.
    pub async fn revoke_repository(
        &self,
        identity: &str,
        repository: &str,
    ) -> Result<(), ClientError> {
        let path = permission_path("git", repository);
        self.identity(Method::DELETE, identity, &path, None).await.map(nothing)
    }

    async fn identity<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        identity: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        let path = format!("/identity/v1/identities/{}{path}", encode(identity));
        self.http.call(method, &path, None, body).await
    }
}

fn permission_path(kind: &str, id: &str) -> String {
    format!("/permissions/{kind}/{}", encode(id))
}
