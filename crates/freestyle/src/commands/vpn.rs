//! `freestyle vpn ...`: lets this computer into a VPC.
//!
//! The tunnel is WireGuard's own: `wg-quick` brings it up and takes it down. What is done here is to
//! make the session that it needs and to see that nothing of it stays behind.

use std::io::{self, Write};
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use clap::Subcommand;
use freestyle_client::Client;
use freestyle_client::wire::CreateWireguardEphemeralResponse as Session;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command as Process;
use tokio::signal::unix::{SignalKind, signal};

use super::{print_json, print_line};
use crate::error::CliError;
use crate::spinner;

const CONNECT_HELP: &str = "\
Needs WireGuard's wg-quick (Debian, Ubuntu, Fedora: package wireguard-tools; macOS: brew install
wireguard-tools) and root, which `sudo` is asked for. Only what is for the VPC goes through the tunnel.

Examples:
  freestyle vpn connect VPC      until Ctrl-C
  ping 192.168.10.10             meanwhile, in another terminal";
const CONFIG_HELP: &str = "\
It holds a private key: treat it like a password. The session it belongs to lasts until it is closed or
not used for a day.

Examples:
  freestyle vpn config VPC > freestyle-vpc.conf && sudo wg-quick up ./freestyle-vpc.conf
  freestyle vpn close VPC SESSION";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Join a VPC until Ctrl-C
    #[command(after_help = CONNECT_HELP)]
    Connect(OneArgs),
    /// Print a configuration with which any WireGuard client joins a VPC
    #[command(after_help = CONFIG_HELP)]
    Config(OneArgs),
    /// Close a session, at once
    Close(CloseArgs),
}

/// Options of the commands that take a VPC and nothing else.
#[derive(Debug, clap::Args)]
pub(crate) struct OneArgs {
    /// Id of the VPC
    vpc: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Options of `freestyle vpn close`.
#[derive(Debug, clap::Args)]
pub(crate) struct CloseArgs {
    /// Id of the VPC
    vpc: String,
    /// Id of the session
    session: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, client: &Client) -> Result<(), CliError> {
    match command {
        Command::Connect(args) => connect(args, client).await,
        Command::Config(args) => {
            let session = begin(&args.vpc, client).await?;
            if args.json {
                return print_json(&session);
            }
            writeln!(io::stderr(), "session {}", session.session_id)?;
            print_line(session.client_config.trim_end())
        }
        Command::Close(CloseArgs { vpc, session, json }) => {
            let closed = client.delete_wireguard_ephemeral(&vpc, &session);
            spinner::during("Closing the session", closed).await?;
            if json {
                print_json(&json!({ "sessionId": session }))
            } else {
                print_line(&format!("closed {session}"))
            }
        }
    }
}

async fn begin(vpc: &str, client: &Client) -> Result<Session, CliError> {
    let session = client.create_wireguard_ephemeral(vpc);
    Ok(spinner::during("Making a session", session).await?)
}

async fn connect(args: OneArgs, client: &Client) -> Result<(), CliError> {
    // From here on, so that whatever ends this command finds everything taken down again.
    let ended = until_ended()?;
    let session = begin(&args.vpc, client).await?;
    let connected = be_connected(&args, &session, ended).await;
    let closed = client.delete_wireguard_ephemeral(&session.vpc_id, &session.session_id).await;
    connected?;
    Ok(closed?)
}

/// Brings the tunnel up, waits, and takes it down.
async fn be_connected(
    args: &OneArgs,
    session: &Session,
    ended: impl Future<Output = ()>,
) -> Result<(), CliError> {
    let folder = TempDir::with_prefix("freestyle-vpn-").map_err(no_file)?;
    // The name of the file is that of the device.
    let interface = interface_name(&session.session_id);
    let file = folder.path().join(format!("{interface}.conf"));
    write_private(&file, &session.client_config).map_err(no_file)?;
    wg_quick("up", &file).await?;
    let said = say(args, session, &interface);
    if said.is_ok() {
        ended.await;
    }
    wg_quick("down", &file).await?;
    said
}

fn say(args: &OneArgs, session: &Session, interface: &str) -> Result<(), CliError> {
    if args.json {
        return print_json(&json!({
            "vpcId": session.vpc_id,
            "sessionId": session.session_id,
            "interface": interface,
            "clientTunnelIp": session.client_tunnel_ip,
            "vpcCidr": session.vpc_cidr,
        }));
    }
    let Session { vpc_cidr, client_tunnel_ip, .. } = session;
    print_line(&format!(
        "{vpc_cidr} is reached by way of {interface}; VMs know this computer as {client_tunnel_ip}"
    ))?;
    Ok(writeln!(io::stderr(), "Ctrl-C disconnects.")?)
}

/// Short enough for a network device, and no other session's.
fn interface_name(session: &str) -> String {
    let random: String = session.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("fs-{}", &random[random.len().saturating_sub(10)..])
}

fn write_private(file: &Path, content: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(file)?.write_all(content.as_bytes())
}

/// Runs `wg-quick`, as root. What it prints is shown if it fails.
///
/// It is in a process group of its own, and so is the program that stays where the kernel has no
/// WireGuard: Ctrl-C is for this command, which takes the tunnel down in order. So `sudo`, which then
/// cannot ask for a password, is made to ask before.
async fn wg_quick(action: &str, file: &Path) -> Result<(), CliError> {
    const HINT: &str = "install WireGuard's tools, e.g. `apt-get install wireguard-tools`, or \
                        use `freestyle vpn config` with another client";
    let is_root = rustix::process::geteuid().is_root();
    let failed = |why: String| CliError::with_hint(format!("wg-quick {action}: {why}"), HINT);
    let mut command = Process::new(if is_root { "wg-quick" } else { "sudo" });
    if !is_root {
        let asked = Process::new("sudo").arg("--validate").status().await;
        if !asked.map_err(|error| failed(error.to_string()))?.success() {
            return Err(failed("needs root".to_owned()));
        }
        command.args(["--non-interactive", "wg-quick"]);
    }
    command.arg(action).arg(file).stdin(Stdio::null()).process_group(0);
    // In a file: where the kernel has no WireGuard, a program that stays inherits it.
    let log = tempfile::tempfile().map_err(no_file)?;
    command.stdout(log.try_clone().map_err(no_file)?).stderr(log.try_clone().map_err(no_file)?);
    let status: ExitStatus = command.status().await.map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(read_from_start(log).unwrap_or_else(|error| error.to_string())))
}

fn no_file(error: io::Error) -> CliError {
    CliError::new(format!("cannot make a file for wg-quick: {error}"))
}

fn read_from_start(mut log: std::fs::File) -> io::Result<String> {
    use std::io::{Read, Seek};
    let mut text = String::new();
    log.rewind()?;
    log.take(4096).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Resolves when the command is asked to end.
fn until_ended() -> Result<impl Future<Output = ()>, CliError> {
    let catch = |kind| {
        signal(kind).map_err(|error| CliError::new(format!("cannot wait for signals: {error}")))
    };
    let mut signals = [
        catch(SignalKind::interrupt())?,
        catch(SignalKind::terminate())?,
        catch(SignalKind::hangup())?,
    ];
    Ok(async move {
        let [interrupt, terminate, hangup] = &mut signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_after_its_session() {
        assert_eq!(interface_name("wgs-abcdefghij0123456789"), "fs-0123456789");
        assert!(interface_name("wgs-abcdefghij0123456789").len() <= 15);
        assert_eq!(interface_name(""), "fs-");
    }
}
