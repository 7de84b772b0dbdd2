//! `freestyle git sync ...`: keeping repositories equal to repositories at GitHub.

use std::path::PathBuf;

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::git::{
    EnableGithubSyncRequest, GithubSync, GithubSyncState, SetGithubAppRequest,
};
use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const SET_HELP: &str = "\
The app needs the repository permission Contents: read and write (and Workflows, if there are any),
and the events Push, Create and Delete; its webhook is <the API's URL>/git/v1/github/webhook.

Example:
  freestyle git sync app set --id 123456 --private-key app.pem --webhook-secret secret.txt";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep a repository equal to one at GitHub, in both directions
    Enable {
        /// Id of the repository
        repo: String,
        /// The repository at GitHub
        #[arg(value_name = "OWNER/NAME")]
        github_name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how a sync is, and what it leaves to you
    Get {
        /// Id of the repository
        repo: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a sync; nothing changes on either side
    Disable {
        /// Id of the repository
        repo: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Connect your account with a GitHub App
    #[command(subcommand)]
    App(AppCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Connect the account with an app, in the place of another
    #[command(after_help = SET_HELP)]
    Set {
        /// The number that GitHub gave the app
        #[arg(long)]
        id: String,
        /// File with its private key, as GitHub gives it out
        #[arg(long, value_name = "FILE")]
        private_key: PathBuf,
        /// File with the secret of its webhook
        #[arg(long, value_name = "FILE")]
        webhook_secret: PathBuf,
        /// Where GitHub's API is [default: https://api.github.com]
        #[arg(long, value_name = "URL")]
        api_url: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the app
    Get {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Forget the app; syncs fail from then on
    Delete {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Enable { repo, github_name, json } => {
            let request = EnableGithubSyncRequest { github_repo_name: github_name };
            let enabled = client.enable_github_sync(&repo, &request);
            spinner::during("Asking GitHub", enabled).await?;
            if json {
                return print_json(&json!({"repoId": repo}));
            }
            print_line(&format!("{repo} is synced with {}", request.github_repo_name))
        }
        Command::Get { repo, json } => {
            let sync = spinner::during("Looking", client.github_sync(&repo)).await?;
            match sync {
                sync if json => print_json(&sync),
                Some(sync) => print_sync(&sync),
                None => print_line("not synced with GitHub"),
            }
        }
        Command::Disable { repo, json } => {
            client.disable_github_sync(&repo).await?;
            if json {
                return print_json(&json!({"repoId": repo}));
            }
            print_line(&format!("{repo} is not synced any more"))
        }
        Command::App(command) => app(command, client).await,
    }
}

async fn app(command: AppCommand, client: &Client) -> Result<(), CliError> {
    match command {
        AppCommand::Set { id, private_key, webhook_secret, api_url, json } => {
            let request = SetGithubAppRequest {
                app_id: id,
                private_key: read(&private_key)?,
                webhook_secret: read(&webhook_secret)?.trim().to_owned(),
                api_url,
            };
            let app = client.set_github_app(&request).await?;
            if json {
                print_json(&app)
            } else {
                print_line(&format!("connected app {}", app.app_id))
            }
        }
        AppCommand::Get { json } => match client.github_app().await? {
            app if json => print_json(&app),
            Some(app) => print_line(&format!("{} at {}", app.app_id, app.api_url)),
            None => print_line("no app; `freestyle git sync app set` connects one"),
        },
        AppCommand::Delete { json } => {
            client.delete_github_app().await?;
            if json { print_json(&json!({})) } else { print_line("forgotten") }
        }
    }
}

fn print_sync(sync: &GithubSync) -> Result<(), CliError> {
    let state = match sync.state {
        GithubSyncState::Pending => "pending",
        GithubSyncState::Synced => "synced",
        GithubSyncState::Conflict => "synced but for these conflicts",
        GithubSyncState::Failed => "failed",
    };
    print_line(&format!("{}: {state}", sync.github_repo_name))?;
    if let Some(error) = &sync.error {
        print_line(&super::printable(error))?;
    }
    if sync.conflicts.is_empty() {
        return Ok(());
    }
    let id = |id: &Option<String>| {
        id.as_ref().map_or_else(|| "-".to_owned(), |id| id.chars().take(10).collect())
    };
    let rows = sync.conflicts.iter().map(|conflict| {
        [conflict.name.clone(), id(&conflict.here), id(&conflict.github), conflict.reason.clone()]
    });
    let rows: Vec<_> = rows.collect();
    Ok(table::print(["REF", "HERE", "GITHUB", "REASON"], &rows)?)
}

fn read(file: &PathBuf) -> Result<String, CliError> {
    std::fs::read_to_string(file)
        .map_err(|error| CliError::new(format!("cannot read {}: {error}", file.display())))
}
