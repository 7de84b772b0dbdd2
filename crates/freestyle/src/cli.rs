//! The command line.

use clap::{Parser, Subcommand};

use crate::commands::{
    admin, ca, dns, doctor, domains, git, identity, image, serve, vm, vpc, vpn, whoami,
};

const AFTER_HELP: &str = "\
Environment (also read from .env in the working directory; what is set already wins):
  FREESTYLE_API_KEY  API key to use
  FREESTYLE_API_URL  server to talk to [default: http://127.0.0.1:8080]
  FREESTYLE_LOG      what `serve` logs, e.g. debug or freestyle_vm=trace [default: info]

Examples:
  freestyle serve                                run the platform on this host
  freestyle doctor                               check that this host can
  freestyle vm create --exec 'uname -a' --delete run one command in a new VM
  freestyle vm fork ID --count 4                 four VMs that go on from where one is
  freestyle vm create --domain app.style.localhost --port 3000
                                                 a VM that is a web site
  freestyle vm list                              see what is there
  freestyle git create --name my-repo            a repository for code and its history";

/// Linux microVMs and Git repositories for code you did not write, on your own machines.
#[derive(Debug, Parser)]
#[command(name = "freestyle", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform on this host
    Serve(serve::Args),
    /// Create VMs and work in them
    #[command(subcommand)]
    Vm(vm::Command),
    /// Create repositories and look into them
    #[command(subcommand)]
    Git(git::Command),
    /// Verify domains and have them lead to VMs
    #[command(subcommand)]
    Domains(domains::Command),
    /// Have the DNS of your domains say something
    #[command(subcommand)]
    Dns(dns::Command),
    /// Let end users use some of your VMs and repositories, with tokens of their own
    #[command(subcommand)]
    Identity(identity::Command),
    /// Create private networks of VMs
    #[command(subcommand)]
    Vpc(vpc::Command),
    /// Let this computer into a VPC
    #[command(subcommand)]
    Vpn(vpn::Command),
    /// Show whose API key is in use
    Whoami(whoami::Args),
    /// Check what this host has and lacks for `freestyle serve`
    Doctor(doctor::Args),
    /// Print the root certificate of the server on this host
    #[command(after_help = ca::HELP)]
    Ca(ca::Args),
    /// Build the base image of VMs
    #[command(subcommand)]
    Image(image::Command),
    /// Manage accounts and API keys of the server on this host
    #[command(subcommand)]
    Admin(admin::Command),
}

impl Command {
    /// Whether a `.env` there may say which server to talk to. Native git runs a credential helper in
    /// the repositories of others, who must not be sent the key.
    pub(crate) fn trusts_working_directory(&self) -> bool {
        !matches!(self, Self::Git(git::Command::Credential(_)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {argument}", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
