//! `freestyle identity grant`, `grants` and `revoke`.

use std::io::{self, Write};

use freestyle_client::Client;
use freestyle_client::wire::{
    GitAccessLevel, GitPermissionRequest, ListPermissionsQuery, VmPermissionRequest,
};
use serde_json::json;

use super::done;
use crate::commands::{print_json, print_line};
use crate::error::CliError;
use crate::{spinner, table};

pub(super) const GRANT_HELP: &str = "\
What was granted before is replaced.

Examples:
  freestyle identity grant ID --vm VM                          as any Linux user, root too
  freestyle identity grant ID --vm VM --user alice --user build
  freestyle identity grant ID --repo REPO --read
  freestyle identity grant ID --repo REPO --write";
pub(super) const REVOKE_HELP: &str = "\
What the identity has open there is closed.

Examples:
  freestyle identity revoke ID --vm VM
  freestyle identity revoke ID --repo REPO";

/// What is granted, as options: exactly one of them is there.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ThingArgs {
    /// Id of a VM
    #[arg(long)]
    vm: Option<String>,
    /// Id of a repository
    #[arg(long)]
    repo: Option<String>,
}

/// What is granted, by its id.
enum Thing {
    Vm(String),
    Repository(String),
}

impl From<ThingArgs> for Thing {
    fn from(ThingArgs { vm, repo }: ThingArgs) -> Self {
        match vm {
            Some(vm) => Self::Vm(vm),
            None => Self::Repository(repo.expect("clap requires one of them")),
        }
    }
}

/// Options of `freestyle identity grant`.
#[derive(Debug, clap::Args)]
pub(crate) struct GrantArgs {
    /// Id of the identity
    identity: String,
    #[command(flatten)]
    thing: ThingArgs,
    /// A Linux user to act as in the VM; may be given several times [default: any]
    #[arg(long = "user", value_name = "USER", conflicts_with = "repo")]
    users: Vec<String>,
    #[command(flatten)]
    level: Level,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What may be done with a repository.
#[derive(Debug, clap::Args)]
#[group(multiple = false, conflicts_with = "vm")]
pub(crate) struct Level {
    /// Let it clone and read the repository
    #[arg(long)]
    read: bool,
    /// Let it push and commit, too
    #[arg(long)]
    write: bool,
}

/// Options of `freestyle identity grants`, which shows the first thousand of each kind.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Id of the identity
    identity: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle identity revoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Id of the identity
    identity: String,
    #[command(flatten)]
    thing: ThingArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn grant(args: GrantArgs, client: &Client) -> Result<(), CliError> {
    let GrantArgs { identity, thing, users, level, json } = args;
    match Thing::from(thing) {
        Thing::Vm(vm) => {
            let allowed_users = (!users.is_empty()).then_some(users);
            let request = VmPermissionRequest { allowed_users };
            let granted = async {
                match client.grant_vm(&identity, &vm, &request).await {
                    Err(error) if error.code() == Some("PERMISSION_ALREADY_EXISTS") => {
                        client.update_vm_permission(&identity, &vm, &request).await
                    }
                    granted => granted,
                }
            };
            let granted = spinner::during("Granting the VM", granted).await?;
            if json { print_json(&granted) } else { print_line(&format!("granted {vm}")) }
        }
        Thing::Repository(repo) => {
            let permission = match level {
                Level { write: true, .. } => GitAccessLevel::Write,
                Level { read: true, .. } => GitAccessLevel::Read,
                Level { .. } => {
                    return Err(CliError::with_hint(
                        "what may be done with the repository is missing",
                        "--read or --write says it",
                    ));
                }
            };
            let request = GitPermissionRequest { permission };
            let granted = async {
                match client.grant_repository(&identity, &repo, &request).await {
                    Err(error) if error.code() == Some("PERMISSION_ALREADY_EXISTS") => {
                        client.update_repository_permission(&identity, &repo, &request).await
                    }
                    granted => granted,
                }
            };
            spinner::during("Granting the repository", granted).await?;
            if json {
                return print_json(&json!({"repo": repo, "permission": permission}));
            }
            print_line(&format!("granted {repo}"))
        }
    }
}

pub(super) async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let ListArgs { identity, json } = args;
    let query = ListPermissionsQuery::default();
    let vms = client.list_vm_permissions(&identity, &query);
    let vms = spinner::during("Listing VMs", vms).await?.permissions;
    let repositories = client.list_repository_permissions(&identity, &query);
    let repositories = spinner::during("Listing repositories", repositories).await?.repositories;
    if json {
        return print_json(&json!({"vms": vms, "repositories": repositories}));
    }
    if vms.is_empty() && repositories.is_empty() {
        writeln!(io::stderr(), "nothing; `freestyle identity grant` lets it use something")?;
        return Ok(());
    }
    let vms = vms.into_iter().map(|grant| {
        let users = grant.allowed_users.map_or("any user".to_owned(), |users| users.join(", "));
        ["vm".to_owned(), grant.vm_id, users]
    });
    let repositories = repositories.into_iter().map(|repository| {
        let level = repository.permissions.as_str().to_owned();
        ["repo".to_owned(), repository.id, level]
    });
    let rows: Vec<_> = vms.chain(repositories).collect();
    Ok(table::print(["KIND", "ID", "MAY"], &rows)?)
}

pub(super) async fn revoke(args: RevokeArgs, client: &Client) -> Result<(), CliError> {
    let RevokeArgs { identity, thing, json } = args;
    let id = match Thing::from(thing) {
        Thing::Vm(vm) => {
            let revoked = client.revoke_vm(&identity, &vm);
            spinner::during("Revoking the grant", revoked).await?;
            vm
        }
        Thing::Repository(repo) => {
            let revoked = client.revoke_repository(&identity, &repo);
            spinner::during("Revoking the grant", revoked).await?;
            repo
        }
    };
    done(json, "revoked", &id)
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::parse;
    use super::*;

    fn granted(line: &[&str]) -> Result<GrantArgs, clap::Error> {
        match parse(&[&["grant", "idn"], line].concat())? {
            Command::Grant(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_grant_is_of_one_thing_and_has_what_belongs_to_it() {
        let vm = granted(&["--vm", "a", "--user", "alice", "--user", "build"]).unwrap();
        assert_eq!((vm.thing.vm.as_deref(), vm.users.len()), (Some("a"), 2));
        assert!(granted(&["--repo", "r", "--write"]).unwrap().level.write);
        for bad in [
            &[][..],
            &["--vm", "a", "--repo", "r"],
            &["--vm", "a", "--read"],
            &["--repo", "r", "--read", "--write"],
            &["--repo", "r", "--read", "--user", "alice"],
        ] {
            assert!(granted(bad).is_err(), "{bad:?}");
        }
    }
}
