//! The ready file: written when everything answers, read by scripts that started the server.

use std::io;
use std::path::Path;

use serde::Serialize;

use super::private_file;
use crate::error::CliError;

/// How to reach the server. What this version does not have is `null`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    api_url: String,
    git_url: Option<String>,
    ssh_address: Option<String>,
    edge_http_url: Option<String>,
    edge_https_url: Option<String>,
    wireguard_endpoint: Option<String>,
    api_key: Option<String>,
    ca_certificate: Option<String>,
    preview_domains: Vec<String>,
}

impl Ready {
    pub(super) fn new(
        api_url: String,
        git_url: String,
        ssh_address: Option<String>,
        api_key: Option<&str>,
    ) -> Self {
        Self {
            api_url,
            git_url: Some(git_url),
            ssh_address,
            edge_http_url: None,
            edge_https_url: None,
            wireguard_endpoint: None,
            api_key: api_key.map(str::to_owned),
            ca_certificate: None,
            preview_domains: Vec::new(),
        }
    }

    pub(super) fn api_url(&self) -> &str {
        &self.api_url
    }

    pub(super) fn ssh_address(&self) -> Option<&str> {
        self.ssh_address.as_deref()
    }

    /// Puts the file in place whole, mode 0600: it holds the key, and whoever waits for it reads it
    /// at once.
    pub(super) async fn write(&self, file: &Path) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let written = match text {
            Ok(text) => private_file::replace(file, text + "\n").await,
            Err(error) => Err(error),
        };
        written.map_err(|error| {
            CliError::new(format!("cannot write the ready file {}: {error}", file.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn the_file_has_every_key_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ready.json");
        let url = |port| format!("http://127.0.0.1:{port}");
        let ready = Ready::new(url(1), url(2), Some("127.0.0.1:3".into()), Some("fs_x"));
        ready.write(&file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({
                "apiUrl": "http://127.0.0.1:1",
                "gitUrl": "http://127.0.0.1:2",
                "sshAddress": "127.0.0.1:3",
                "edgeHttpUrl": null,
                "edgeHttpsUrl": null,
                "wireguardEndpoint": null,
                "apiKey": "fs_x",
                "caCertificate": null,
                "previewDomains": [],
            }),
        );
    }
}
