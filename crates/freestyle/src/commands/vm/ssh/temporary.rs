//! Access that ends with the command it was made for.

use std::io::{self, Write};
use std::time::Duration;

use freestyle_client::Client;
use freestyle_client::wire::VmPermissionRequest;
use tokio::time::timeout;

use crate::error::CliError;

/// How long the server may take to end it.
const END_LIMIT: Duration = Duration::from_secs(10);

/// An identity of the account with nothing but what one command needs.
pub(super) struct TemporaryAccess<'a> {
    client: &'a Client,
    identity: String,
}

impl<'a> TemporaryAccess<'a> {
    /// Whoever makes one ends it.
    pub(super) async fn create(client: &'a Client) -> Result<Self, CliError> {
        let identity = client.create_identity().await?.id;
        Ok(Self { client, identity })
    }

    /// Lets it into a VM as one Linux user. Answers the token.
    pub(super) async fn to_vm(&self, vm: &str, user: &str) -> Result<String, CliError> {
        let request = VmPermissionRequest { allowed_users: Some(vec![user.to_owned()]) };
        self.client.grant_vm(&self.identity, vm, &request).await?;
        Ok(self.client.create_token(&self.identity).await?.token)
    }

    /// Deletes the identity, and with it its grant and token.
    pub(super) async fn end(self) -> Result<(), CliError> {
        let deleted = timeout(END_LIMIT, self.client.delete_identity(&self.identity)).await;
        let why = match deleted {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server does not answer".to_owned(),
        };
        let identity = &self.identity;
        let how = format!("`freestyle identity delete {identity}` ends it");
        Ok(writeln!(io::stderr(), "temporary access was not ended: {why}; {how}")?)
    }
}
