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
    pub(super) api_url: String,
    pub(super) git_url: Option<String>,
    pub(super) ssh_address: Option<String>,
    pub(super) edge_http_url: Option<String>,
    pub(super) edge_https_url: Option<String>,
    pub(super) dns_address: Option<String>,
    pub(super) wireguard_endpoint: Option<String>,
    pub(super) api_key: Option<String>,
    pub(super) ca_certificate: Option<String>,
    pub(super) preview_domains: Vec<String>,
}

impl Ready {
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
        let ready = Ready {
            api_url: url(1),
            git_url: Some(url(2)),
            ssh_address: Some("127.0.0.1:3".into()),
            edge_http_url: Some(url(4)),
            edge_https_url: None,
            dns_address: Some("127.0.0.1:5".into()),
            wireguard_endpoint: Some("127.0.0.1:4".into()),
            api_key: Some("fs_x".into()),
            ca_certificate: None,
            preview_domains: vec!["style.localhost".into()],
        };
        ready.write(&file).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({
                "apiUrl": "http://127.0.0.1:1",
                "gitUrl": "http://127.0.0.1:2",
                "sshAddress": "127.0.0.1:3",
                "edgeHttpUrl": "http://127.0.0.1:4",
                "edgeHttpsUrl": null,
                "dnsAddress": "127.0.0.1:5",
                "wireguardEndpoint": "127.0.0.1:4",
                "apiKey": "fs_x",
                "caCertificate": null,
                "previewDomains": ["style.localhost"],
            }),
        );
    }
}
