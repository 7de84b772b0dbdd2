//! The calls on DNS records.

use hyper::Method;

use crate::client::{Client, query_string};
use crate::error::ClientError;
use crate::http::json;
use crate::wire::{
    CreateDnsRecordRequest, CreateDnsRecordResponse, DeleteDnsRecordQuery, DeleteDnsRecordResponse,
    ListDnsRecordsQuery, ListDnsRecordsResponse,
};

const RECORDS: &str = "/dns/v1/records";

impl Client {
    /// Has the DNS of a domain say something more.
    pub async fn create_dns_record(
        &self,
        request: &CreateDnsRecordRequest,
    ) -> Result<CreateDnsRecordResponse, ClientError> {
        self.http.call(Method::POST, RECORDS, None, Some(json(request))).await
    }

    /// Lists what the DNS of a domain says.
    pub async fn list_dns_records(
        &self,
        query: &ListDnsRecordsQuery,
    ) -> Result<ListDnsRecordsResponse, ClientError> {
        let path = format!("{RECORDS}{}", query_string(query));
        self.http.call(Method::GET, &path, None, None).await
    }

    /// Has the DNS of a domain say something no more.
    pub async fn delete_dns_record(
        &self,
        query: &DeleteDnsRecordQuery,
    ) -> Result<DeleteDnsRecordResponse, ClientError> {
        let path = format!("{RECORDS}{}", query_string(query));
        self.http.call(Method::DELETE, &path, None, None).await
    }
}
