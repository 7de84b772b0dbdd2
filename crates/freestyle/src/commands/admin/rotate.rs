//! `freestyle admin git rotate-key`.

use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::config::Config;
use crate::error::CliError;

pub(super) const HELP: &str = "\
The new key is published at once, signs after 15 minutes, and the present one stays published for a
day after that. A server does the same by itself every 90 days; do it when a key may have been seen.";

pub(super) async fn run(config: &Config, json: bool) -> Result<(), CliError> {
    freestyle_webhooks::rotate(&config.webhook_keys_file())
        .await
        .map_err(|error| CliError::new(error.to_string()))?;
    if json {
        return print_json(&json!({"rotated": true}));
    }
    print_line("a new key is published, and signs webhooks in 15 minutes")
}
