//! The calls on domains: proofs of whose they are, and where they lead.

use hyper::Method;

use crate::client::{Client, encode, nothing, query_string};
use crate::error::ClientError;
use crate::http::json;
use crate::wire::{
    CompleteVerificationRequest, DomainMapping, DomainResponse, DomainVerification,
    ListDomainsQuery, ListMappingsQuery, MapDomainRequest, OwnedDomain, PendingVerification,
    VerifyDomainRequest,
};

const VERIFICATIONS: &str = "/domains/v1/verifications";

impl Client {
    /// Says what the DNS of a domain has to say for it to be the account's.
    pub async fn verify_domain(&self, domain: &str) -> Result<DomainVerification, ClientError> {
        let request = VerifyDomainRequest { domain: domain.to_owned() };
        self.http.call(Method::POST, VERIFICATIONS, None, Some(json(&request))).await
    }

    /// Has the DNS looked at. Answers the domain, which then is the account's.
    pub async fn complete_verification(
        &self,
        which: &CompleteVerificationRequest,
    ) -> Result<DomainResponse, ClientError> {
        self.http.call(Method::PUT, VERIFICATIONS, None, Some(json(which))).await
    }

    /// Lists what is still to be proven, oldest first.
    pub async fn list_verifications(&self) -> Result<Vec<PendingVerification>, ClientError> {
        self.http.call(Method::GET, VERIFICATIONS, None, None).await
    }

    /// Lists the account's domains, oldest first.
    pub async fn list_domains(
        &self,
        query: &ListDomainsQuery,
    ) -> Result<Vec<OwnedDomain>, ClientError> {
        let path = format!("/domains/v1/domains{}", query_string(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// Has a domain lead to a port of a VM.
    pub async fn map_domain(
        &self,
        domain: &str,
        request: &MapDomainRequest,
    ) -> Result<DomainMapping, ClientError> {
        let path = mapping_path(domain);
        self.http.call(Method::POST, &path, None, Some(json(request))).await
    }

    /// Lists the account's mappings, newest first.
    pub async fn list_mappings(
        &self,
        query: &ListMappingsQuery,
    ) -> Result<Vec<DomainMapping>, ClientError> {
        let path = format!("/domains/v1/mappings{}", query_string(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// Has a domain lead nowhere.
    pub async fn unmap_domain(&self, domain: &str) -> Result<(), ClientError> {
        self.http.call(Method::DELETE, &mapping_path(domain), None, None).await.map(nothing)
    }
}

fn mapping_path(domain: &str) -> String {
    format!("/domains/v1/mappings/{}", encode(domain))
}
