//! Where the SSH gateway is and by which key it is known, in the words of `ssh_config`.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use freestyle_client::Client;
use freestyle_client::wire::SshResponse;
use tempfile::TempDir;

use crate::environment::Environment;
use crate::error::CliError;

/// What the programs are given as the name of the host.
pub(super) const ALIAS: &str = "freestyle-vm";

const DEFAULT_PORT: u16 = 22;

/// The gateway, as the API describes it.
#[derive(Debug)]
pub(super) struct Gateway {
    host: String,
    port: u16,
    host_key: String,
}

/// A configuration of `ssh`, in a folder that nobody else can look into and that goes with this.
/// The token is in it, because what stands on a command line everybody on this host can read.
#[derive(Debug)]
pub(super) struct SshConfig {
    folder: TempDir,
}

impl SshConfig {
    pub(super) fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("config")
    }
}

impl Gateway {
    /// Asks the API, whose word is as good for the gateway's key as for everything else.
    pub(super) async fn find(client: &Client, environment: &Environment) -> Result<Self, CliError> {
        let SshResponse { host, port, host_key } = client.ssh().await?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || " +/=.-_".contains(c);
        if !host_key.chars().all(is_plain) {
            return Err(CliError::new("the server's SSH host key is not one"));
        }
        let (host, port) = match environment.get("FREESTYLE_SSH_ADDRESS")? {
            Some(address) => parse_address(&address)?,
            None => (host.unwrap_or_else(|| client.host().to_owned()), port),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_host) {
            return Err(CliError::new(format!("{host:?} is not the name of a host")));
        }
        Ok(Self { host, port, host_key })
    }

    /// Writes what `ssh -F` needs to log in. The user's own settings hold where these say nothing.
    pub(super) fn config(
        &self,
        vm: &str,
        user: Option<&str>,
        token: &str,
    ) -> Result<SshConfig, CliError> {
        let private = Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix("freestyle-ssh-").permissions(private).tempdir()?;
        let known_hosts = folder.path().join("known_hosts");
        std::fs::write(&known_hosts, format!("{ALIAS} {}\n", self.host_key))?;
        // A percent sign would begin an expansion.
        let known_hosts = known_hosts.display().to_string().replace('%', "%%");
        let user = user.map(|user| format!("+{user}")).unwrap_or_default();
        let Self { host, port, .. } = self;
        let mut config = std::fs::File::create(folder.path().join("config"))?;
        write!(
            config,
            "Host {ALIAS}\n\
             HostName {host}\n\
             Port {port}\n\
             User {vm}{user}:{token}\n\
             HostKeyAlias {ALIAS}\n\
             HostKeyAlgorithms ssh-ed25519\n\
             StrictHostKeyChecking yes\n\
             UserKnownHostsFile \"{known_hosts}\"\n\
             GlobalKnownHostsFile /dev/null\n\
             UpdateHostKeys no\n\
             CheckHostIP no\n\
             ControlPath none\n\
             Host *\n\
             Include ~/.ssh/config\n"
        )?;
        Ok(SshConfig { folder })
    }
}

/// `HOST`, `HOST:PORT` or `[ADDRESS]:PORT`.
fn parse_address(text: &str) -> Result<(String, u16), CliError> {
    let bad =
        || CliError::new(format!("FREESTYLE_SSH_ADDRESS={text}: it is not HOST or HOST:PORT"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(bad)?,
        None => match text.split_once(':') {
            Some((host, _)) => text.split_at(host.len()),
            None => (text, ""),
        },
    };
    match port.strip_prefix(':') {
        Some(port) => Ok((host.to_owned(), port.parse().map_err(|_| bad())?)),
        None if port.is_empty() => Ok((host.to_owned(), DEFAULT_PORT)),
        None => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_port() {
        let parsed = |text: &str| parse_address(text).ok();
        let address = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(parsed("vm.example"), address("vm.example", 22));
        assert_eq!(parsed("vm.example:2222"), address("vm.example", 2222));
        assert_eq!(parsed("[2001:db8::1]:2222"), address("2001:db8::1", 2222));
        assert_eq!(parsed("[2001:db8::1]"), address("2001:db8::1", 22));
        for bad in ["vm:", "vm:x", "vm:70000", "[::1", "[::1]x", "2001:db8::1"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_token_is_in_a_private_folder_that_goes() {
        let gateway = Gateway { host: "vm.example".into(), port: 22, host_key: "k".into() };
        let config = gateway.config("abcde", Some("alice"), "fsi_x").unwrap();
        let (file, folder) = (config.file(), config.folder.path().to_owned());
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(std::fs::read_to_string(file).unwrap().contains("User abcde+alice:fsi_x\n"));
        drop(config);
        assert!(!folder.exists());
    }
}
