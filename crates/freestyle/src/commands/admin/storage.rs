//! `freestyle admin storage`: what uses what.

use crate::byte_size::ByteSize;
use crate::commands::{print_json, print_line};
use crate::config::Config;
use crate::error::CliError;
use crate::operator::{Answer, Question, Storage, StorageItem, StorageKind, ask};
use crate::{spinner, table};

pub(super) const HELP: &str = "\
Asks the server that runs on this host. A piece that nothing stands on goes with its VM or snapshot;
a shared layer goes with the last of what stands on it.

Examples:
  freestyle admin storage
  freestyle admin storage --json";

pub(super) async fn run(config: &Config, json: bool) -> Result<(), CliError> {
    let asked = ask(&config.data_dir, Question::Storage);
    let answer = spinner::during("Looking at the files", asked).await?;
    let Answer::Storage(storage) = answer else {
        return Err(CliError::new("the server answered another question"));
    };
    if json {
        return print_json(&storage);
    }
    let Storage { data_bytes, free_bytes, cache_bytes, items } = storage;
    print_line(&format!("data   {}", ByteSize(data_bytes)))?;
    print_line(&format!("free   {}", ByteSize(free_bytes)))?;
    print_line(&format!("cache  {}", ByteSize(cache_bytes)))?;
    if items.is_empty() {
        return Ok(());
    }
    print_line("")?;
    let rows: Vec<_> = items.iter().map(row).collect();
    Ok(table::print(["WHAT", "ID", "NAME", "ACCOUNT", "MEMORY", "DISK", "USED BY"], &rows)?)
}

fn row(item: &StorageItem) -> [String; 7] {
    let kind = match item.kind {
        StorageKind::Vm => "VM",
        StorageKind::Snapshot => "snapshot",
        StorageKind::SuspendedMemory => "suspended memory",
        StorageKind::SharedLayer => "shared layer",
        StorageKind::BaseImage => "base image",
    };
    let size = |bytes| if bytes == 0 { "-".to_owned() } else { ByteSize(bytes).to_string() };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let users = if item.users == 0 { "-".to_owned() } else { item.users.to_string() };
    [
        kind.to_owned(),
        item.id.clone(),
        text(&item.name),
        item.account_name.clone().unwrap_or_else(|| text(&item.account_id)),
        size(item.memory_bytes),
        size(item.disk_bytes),
        users,
    ]
}
