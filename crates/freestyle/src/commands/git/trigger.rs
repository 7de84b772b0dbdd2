//! `freestyle git trigger ...`: webhooks, and what was delivered to them.

use std::io::{self, Write};

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::git::{
    CreateTriggerRequest, GitDelivery, GitDeliveryState, GitTrigger, GitTriggerEvent,
    GitTriggerItem, ListDeliveriesQuery, WebhookAction,
};
use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

const CREATE_HELP: &str = "\
Examples:
  freestyle git trigger create REPO https://example.com/hook
  freestyle git trigger create REPO https://example.com/hook --branch main --branch 'release/*' --glob '*.js'";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Have a URL told whenever a branch moves, and print the trigger's id
    #[command(after_help = CREATE_HELP)]
    Create {
        /// Id of the repository
        repo: String,
        /// The URL, at a public address
        endpoint: String,
        /// Only this branch, or those that match a pattern; repeat for more
        #[arg(long, value_name = "PATTERN")]
        branch: Vec<String>,
        /// Only when a file changed that matches this; repeat for more
        #[arg(long, value_name = "GLOB")]
        glob: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the triggers of a repository
    List {
        /// Id of the repository
        repo: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a trigger
    Delete {
        /// Id of the repository
        repo: String,
        /// Id of the trigger
        trigger: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what was and is to be delivered to a trigger, newest first
    Deliveries {
        /// Id of the repository
        repo: String,
        /// Id of the trigger
        trigger: String,
        /// Deliveries shown at most
        #[arg(long, default_value_t = 20)]
        limit: u64,
        /// Deliveries left out at the beginning
        #[arg(long, default_value_t = 0)]
        offset: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Deliver something once more, and print the id of the new delivery
    Redeliver {
        /// Id of the repository
        repo: String,
        /// Id of the trigger
        trigger: String,
        /// Id of the delivery
        delivery: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Create { repo, endpoint, branch, glob, json } => {
            let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
            let event = GitTriggerEvent::Push;
            let trigger = GitTrigger { event, branches: list(branch), globs: list(glob) };
            let action = WebhookAction::Webhook { endpoint };
            let request = CreateTriggerRequest { trigger, action };
            let created = client.create_trigger(&repo, &request);
            let created = spinner::during("Creating the trigger", created).await?;
            if json { print_json(&created) } else { print_line(&created.trigger_id) }
        }
        Command::List { repo, json } => {
            let listed = spinner::during("Listing triggers", client.list_triggers(&repo)).await?;
            if json {
                return print_json(&listed);
            }
            if listed.triggers.is_empty() {
                writeln!(io::stderr(), "no triggers; `freestyle git trigger create` makes one")?;
                return Ok(());
            }
            let rows: Vec<_> = listed.triggers.iter().map(trigger_row).collect();
            Ok(table::print(["ID", "ENDPOINT", "BRANCHES", "FILES"], &rows)?)
        }
        Command::Delete { repo, trigger, json } => {
            let deleted = client.delete_trigger(&repo, &trigger);
            spinner::during("Deleting the trigger", deleted).await?;
            if json {
                return print_json(&json!({"triggerId": trigger}));
            }
            print_line(&format!("deleted {trigger}"))
        }
        Command::Deliveries { repo, trigger, limit, offset, json } => {
            let query = ListDeliveriesQuery { limit: Some(limit), offset: Some(offset) };
            let listed = client.list_deliveries(&repo, &trigger, &query);
            let listed = spinner::during("Listing deliveries", listed).await?;
            if json {
                return print_json(&listed);
            }
            if listed.deliveries.is_empty() {
                writeln!(io::stderr(), "no deliveries")?;
                return Ok(());
            }
            let rows: Vec<_> = listed.deliveries.iter().map(delivery_row).collect();
            Ok(table::print(
                ["ID", "BRANCH", "COMMIT", "STATE", "ATTEMPTS", "LAST", "MOVED"],
                &rows,
            )?)
        }
        Command::Redeliver { repo, trigger, delivery, json } => {
            let again = client.redeliver(&repo, &trigger, &delivery);
            let again = spinner::during("Queueing the delivery", again).await?;
            if json { print_json(&again) } else { print_line(&again.delivery_id) }
        }
    }
}

fn trigger_row(item: &GitTriggerItem) -> [String; 4] {
    let WebhookAction::Webhook { endpoint } = &item.action;
    let list = |list: &Option<Vec<String>>| {
        list.as_ref().map_or_else(|| "all".to_owned(), |list| list.join(", "))
    };
    let GitTrigger { branches, globs, .. } = &item.trigger;
    [item.id.clone(), endpoint.clone(), list(branches), list(globs)]
}

fn delivery_row(delivery: &GitDelivery) -> [String; 7] {
    let state = match delivery.state {
        GitDeliveryState::Pending => "pending",
        GitDeliveryState::Delivered => "delivered",
        GitDeliveryState::Dead => "dead",
    };
    let last = delivery.attempts.last().map(|last| match (&last.error, last.status) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => status.to_string(),
        (None, None) => "-".to_owned(),
    });
    [
        delivery.id.clone(),
        delivery.branch.clone(),
        delivery.commit.chars().take(10).collect(),
        state.to_owned(),
        delivery.attempts.len().to_string(),
        last.or_else(|| delivery.failure.clone()).unwrap_or_else(|| "-".to_owned()),
        delivery.created_at.clone(),
    ]
}
