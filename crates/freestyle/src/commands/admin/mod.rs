//! `freestyle admin ...`: accounts and API keys, in the metadata of the server on this host, whether
//! or not it runs; and what only the server knows.

mod fsck;
mod rotate;
mod storage;

use std::path::PathBuf;

use clap::Subcommand;
use freestyle_store::{Account, ApiKey, ApiKeyId, Store};
use serde_json::{Value, json};

use super::{print_json, print_line};
use crate::config::{Config, Options};
use crate::environment::Environment;
use crate::error::CliError;
use crate::table;

const MAX_NAME_CHARS: usize = 255;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// Manage API keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// Look after the repositories
    #[command(subcommand)]
    Git(GitCommand),
    /// Show what takes space on the disk, and whose it is
    #[command(after_help = storage::HELP)]
    Storage {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Create an account
    Create {
        /// A label; need not be unique
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List accounts
    List {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum GitCommand {
    /// Check that repositories are whole
    #[command(after_help = fsck::HELP)]
    Fsck {
        /// Id of a repository [default: all]
        repo: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Replace the key that webhooks are signed with
    #[command(after_help = rotate::HELP)]
    RotateKey {
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Create an API key and print it, for the only time
    Create {
        /// A label; need not be unique
        #[arg(long, default_value = "default")]
        name: String,
        /// Id or name of the account [default: the only one]
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// List API keys, without the secrets
    List {
        /// Id or name of the account [default: all]
        #[arg(long)]
        account: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// End an API key at once
    Revoke {
        /// Id of the key, as `list` shows it
        id: ApiKeyId,
        #[command(flatten)]
        common: Common,
    },
}

/// Options of every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Where the server keeps its data [default: /var/lib/freestyle]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of the server [default: freestyle.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, environment: &Environment) -> Result<(), CliError> {
    match command {
        Command::Git(GitCommand::Fsck { repo, common }) => {
            fsck::run(&config(&common, environment)?, repo, common.json).await
        }
        Command::Git(GitCommand::RotateKey { common }) => {
            rotate::run(&existing(&common, environment).await?, common.json).await
        }
        Command::Account(AccountCommand::Create { name, common }) => {
            check_name(&name)?;
            let store = open(&common, environment).await?;
            let account = store.system().create_account(&name).await?;
            if common.json {
                return print_json(&account_json(&account));
            }
            print_line(account.id.as_str())
        }
        Command::Account(AccountCommand::List { common }) => {
            let store = open(&common, environment).await?;
            let accounts = store.system().list_accounts().await?;
            if common.json {
                return print_json(&accounts.iter().map(account_json).collect::<Vec<_>>());
            }
            let rows: Vec<_> =
                accounts.into_iter().map(|account| [account.id.into(), account.name]).collect();
            Ok(table::print(["ID", "NAME"], &rows)?)
        }
        Command::Key(KeyCommand::Create { name, account, common }) => {
            check_name(&name)?;
            let store = open(&common, environment).await?;
            let account = one_account(&store, account.as_deref()).await?;
            let (key, secret) = store.account_scope(&account.id).create_api_key(&name).await?;
            if common.json {
                let mut answer = key_json(&key);
                answer["secret"] = secret.expose().into();
                return print_json(&answer);
            }
            print_line(secret.expose())
        }
        Command::Key(KeyCommand::List { account, common }) => {
            let store = open(&common, environment).await?;
            list_keys(&store, account.as_deref(), common.json).await
        }
        Command::Key(KeyCommand::Revoke { id, common }) => {
            let store = open(&common, environment).await?;
            revoke(&store, &id).await?;
            if common.json {
                return print_json(&json!({"id": id.as_str()}));
            }
            print_line(&format!("revoked {id}"))
        }
        Command::Storage { common } => {
            storage::run(&config(&common, environment)?, common.json).await
        }
    }
}

fn config(common: &Common, environment: &Environment) -> Result<Config, CliError> {
    let flags = Options::with_data_dir(common.data_dir.clone());
    Config::load(flags, environment, common.config.as_deref())
}

/// Opens the metadata of a server that was started at least once: a mistyped folder must not
/// become a new server.
async fn open(common: &Common, environment: &Environment) -> Result<Store, CliError> {
    let config = existing(common, environment).await?;
    Ok(Store::open(&config.metadata_file()).await?)
}

async fn existing(common: &Common, environment: &Environment) -> Result<Config, CliError> {
    let config = config(common, environment)?;
    let file = config.metadata_file();
    match tokio::fs::try_exists(&file).await {
        Ok(true) => Ok(config),
        Ok(false) => Err(CliError::with_hint(
            format!("no server has kept data in {}", config.data_dir.display()),
            "--data-dir says where it does; the first `freestyle serve` makes it",
        )),
        Err(error) => Err(CliError::new(format!("cannot open {}: {error}", file.display()))),
    }
}

fn check_name(name: &str) -> Result<(), CliError> {
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        return Err(CliError::new(format!("a name has 1 to {MAX_NAME_CHARS} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(CliError::new("a name holds no control characters"));
    }
    Ok(())
}

async fn one_account(store: &Store, wanted: Option<&str>) -> Result<Account, CliError> {
    const HINT: &str = "`freestyle admin account list` shows their ids; give one with --account";
    let mut accounts = store.system().list_accounts().await?;
    if let Some(wanted) = wanted {
        accounts.retain(|account| account.id.as_str() == wanted || account.name == wanted);
    }
    match (accounts.pop(), accounts.is_empty(), wanted) {
        (Some(account), true, _) => Ok(account),
        (Some(_), false, None) => Err(CliError::with_hint("there are several accounts", HINT)),
        (Some(_), false, Some(wanted)) => {
            Err(CliError::with_hint(format!("several accounts are called {wanted:?}"), HINT))
        }
        (None, _, Some(wanted)) => {
            Err(CliError::with_hint(format!("there is no account {wanted:?}"), HINT))
        }
        (None, _, None) => Err(CliError::with_hint(
            "there is no account",
            "`freestyle admin account create NAME` makes one",
        )),
    }
}

async fn list_keys(store: &Store, account: Option<&str>, json: bool) -> Result<(), CliError> {
    let accounts = match account {
        Some(_) => vec![one_account(store, account).await?],
        None => store.system().list_accounts().await?,
    };
    let mut keys = Vec::new();
    for account in accounts {
        let of_account = store.account_scope(&account.id).list_api_keys().await?;
        keys.extend(of_account.into_iter().map(|key| (account.name.clone(), key)));
    }
    if json {
        return print_json(&keys.iter().map(|(_, key)| key_json(key)).collect::<Vec<_>>());
    }
    let rows: Vec<_> = keys
        .into_iter()
        .map(|(account, key)| {
            let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
            [key.id.into(), key.name, account, state.to_owned()]
        })
        .collect();
    Ok(table::print(["ID", "NAME", "ACCOUNT", "STATE"], &rows)?)
}

async fn revoke(store: &Store, id: &ApiKeyId) -> Result<(), CliError> {
    for account in store.system().list_accounts().await? {
        if store.account_scope(&account.id).revoke_api_key(id).await? {
            return Ok(());
        }
    }
    Err(CliError::with_hint(
        format!("there is no valid key {id}"),
        "`freestyle admin key list` shows the keys",
    ))
}

fn account_json(account: &Account) -> Value {
    json!({"id": account.id.as_str(), "name": account.name, "createdAtMs": account.created_at})
}

fn key_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id.as_str(),
        "accountId": key.account_id.as_str(),
        "name": key.name,
        "createdAtMs": key.created_at,
        "revokedAtMs": key.revoked_at,
    })
}
