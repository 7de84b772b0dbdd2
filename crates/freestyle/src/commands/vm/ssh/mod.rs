//! `freestyle vm ssh` and `freestyle vm scp`: the system's own clients, with access that is made for
//! them and ends with them.

mod client;
mod gateway;
mod temporary;

use std::ffi::OsString;
use std::process::ExitCode;

use freestyle_client::Client;

use self::client::Program;
use self::gateway::Gateway;
use self::temporary::TemporaryAccess;
use crate::environment::Environment;
use crate::error::CliError;
use crate::spinner;

pub(super) const SSH_HELP: &str = "\
Makes an identity with a token for this VM, runs `ssh` with it, and deletes it when that ends. Wakes a
suspended VM and starts a stopped one. Exits with the exit code of `ssh`, which is the command's.
FREESTYLE_SSH_ADDRESS=HOST:PORT says where the SSH gateway is, if not where the API says.

Examples:
  freestyle vm ssh ID
  freestyle vm ssh ID --user alice
  freestyle vm ssh ID -- 'cd /srv && make test'";
pub(super) const SCP_HELP: &str = "\
One side is in a VM: ID:PATH, or ID+USER:PATH to be another Linux user than root there.

Examples:
  freestyle vm scp notes.txt ID:/srv/
  freestyle vm scp -r ID+alice:project .";

/// The user of a VM whom nobody named.
const ROOT: &str = "root";

/// Options of `freestyle vm ssh`.
#[derive(Debug, clap::Args)]
pub(crate) struct SshArgs {
    /// Id of the VM
    id: String,
    /// Linux user to log in as [default: root]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Delete the VM afterwards
    #[arg(long)]
    delete: bool,
    /// A command to run instead of a shell
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Options of `freestyle vm scp`.
#[derive(Debug, clap::Args)]
pub(crate) struct ScpArgs {
    /// What to copy
    source: String,
    /// Where to
    destination: String,
    /// Copy folders with what is in them
    #[arg(long, short)]
    recursive: bool,
}

pub(super) async fn ssh(
    args: SshArgs,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let SshArgs { id, user, delete, command } = args;
    let done = log_in(client, environment, &id, user.as_deref(), command).await;
    if delete {
        super::delete_afterwards(client, &id).await?;
    }
    done
}

/// Runs `ssh` into a VM.
pub(super) async fn log_in(
    client: &Client,
    environment: &Environment,
    vm: &str,
    user: Option<&str>,
    command: Vec<OsString>,
) -> Result<ExitCode, CliError> {
    let arguments = |host: &str| [vec![host.into()], command].concat();
    run(client, environment, vm, user, Program::Ssh, arguments).await
}

pub(super) async fn scp(
    args: ScpArgs,
    client: &Client,
    environment: &Environment,
) -> Result<ExitCode, CliError> {
    let ScpArgs { source, destination, recursive } = args;
    let copy = match (Remote::parse(&source), Remote::parse(&destination)) {
        (Some(from), None) => Copy { remote: from, local: &destination, to_vm: false },
        (None, Some(to)) => Copy { remote: to, local: &source, to_vm: true },
        (Some(_), Some(_)) | (None, None) => {
            let hint = "give one side as ID:PATH or ID+USER:PATH and the other as a local path";
            return Err(CliError::with_hint("exactly one side must be in a VM", hint));
        }
    };
    let Remote { vm, user, .. } = copy.remote;
    let program = Program::Scp { recursive };
    run(client, environment, vm, user, program, |host| copy.arguments(host)).await
}

async fn run(
    client: &Client,
    environment: &Environment,
    vm: &str,
    user: Option<&str>,
    program: Program,
    arguments: impl FnOnce(&str) -> Vec<OsString>,
) -> Result<ExitCode, CliError> {
    // From here on a signal ends what is run and not this process, which has to clean up.
    let mut signals = client::Signals::catch()?;
    let gateway = Gateway::find(client, environment).await?;
    let access = TemporaryAccess::create(client).await?;
    let ran = async {
        let making = access.to_vm(vm, user.unwrap_or(ROOT));
        let token = tokio::select! {
            token = spinner::during("Preparing access", making) => token?,
            () = signals.any() => return Err(CliError::new("interrupted")),
        };
        let config = gateway.config(vm, user, &token)?;
        program.run(&config, arguments(gateway::ALIAS), &mut signals).await
    };
    let ran = ran.await;
    access.end().await?;
    ran
}

/// A place in a VM, as it is given to `scp`.
#[derive(Debug, PartialEq, Eq)]
struct Remote<'a> {
    vm: &'a str,
    user: Option<&'a str>,
    path: &'a str,
}

impl<'a> Remote<'a> {
    /// `None` if it is a local path. A VM's id is as the npm CLI knows it (protocol section 5).
    fn parse(text: &'a str) -> Option<Self> {
        let (place, path) = text.split_once(':')?;
        let (vm, user) = match place.split_once('+') {
            Some((vm, user)) => (vm, Some(user)),
            None => (place, None),
        };
        let is_id = (5..=20).contains(&vm.len())
            && vm.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_user = user.is_none_or(|user| !user.is_empty() && !user.contains('/'));
        (is_id && is_user).then_some(Self { vm, user, path })
    }
}

struct Copy<'a> {
    remote: Remote<'a>,
    local: &'a str,
    to_vm: bool,
}

impl Copy<'_> {
    fn arguments(&self, host: &str) -> Vec<OsString> {
        let remote = format!("{host}:{}", self.remote.path).into();
        // What has a colon in it would be another host, were it not for the slash.
        let local = match self.local.starts_with('/') {
            true => self.local.to_owned(),
            false => format!("./{}", self.local),
        };
        if self.to_vm { vec![local.into(), remote] } else { vec![remote, local.into()] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::parse;
    use super::*;

    const VM: &str = "k3v9x0q2m7a1c5z8e4t6";

    #[test]
    fn a_command_follows_two_dashes_whatever_is_in_it() {
        let parsed = parse(&["ssh", "id", "--user", "alice", "--", "ls", "--delete"]).unwrap();
        let Command::Ssh(args) = parsed else { panic!("{parsed:?}") };
        assert_eq!((args.user.as_deref(), args.delete), (Some("alice"), false));
        assert_eq!(args.command, ["ls", "--delete"]);
    }

    #[test]
    fn a_place_in_a_vm_begins_with_its_id() {
        let remote = |text: &str| {
            let text = text.replace("VM", VM);
            Remote::parse(&text).map(|r| (r.user.map(str::to_owned), r.path.to_owned()))
        };
        assert_eq!(remote("VM:/srv/a:b"), Some((None, "/srv/a:b".to_owned())));
        assert_eq!(remote("VM+alice:a"), Some((Some("alice".to_owned()), "a".to_owned())));
        assert_eq!(remote("VM:"), Some((None, String::new())));
        for local in ["VM", "a.txt", "./VM:a", "C:\\a", "Other:a", "VM+:a", "a/b:c", ""] {
            assert_eq!(remote(local), None, "{local}");
        }
    }

    #[test]
    fn a_local_path_is_not_taken_for_a_host_or_an_option() {
        let remote = || Remote::parse("abcde:x").unwrap();
        let to = Copy { remote: remote(), local: "-a:b", to_vm: true };
        assert_eq!(to.arguments("h"), ["./-a:b", "h:x"]);
        let from = Copy { remote: remote(), local: "/tmp/y", to_vm: false };
        assert_eq!(from.arguments("h"), ["h:x", "/tmp/y"]);
    }
}
