//! One module per command.

pub(crate) mod admin;
pub(crate) mod ca;
pub(crate) mod dns;
pub(crate) mod doctor;
pub(crate) mod domains;
pub(crate) mod git;
pub(crate) mod identity;
pub(crate) mod image;
pub(crate) mod serve;
pub(crate) mod vm;
pub(crate) mod vpc;
pub(crate) mod vpn;
pub(crate) mod whoami;

use std::io::{self, Write};
use std::process::ExitCode;

use freestyle_client::Client;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::cli::Command;
use crate::environment::Environment;
use crate::error::CliError;

const DEFAULT_API_URL: &str = "http://127.0.0.1:8080";

/// Carries a command out. The exit code is that of the command run in a VM, if there was one.
pub(crate) fn run(command: Command, environment: &Environment) -> Result<ExitCode, CliError> {
    match command {
        Command::Serve(args) => serve::run(args, environment).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::run(args, environment),
        Command::Vm(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(vm::run(command, &client, environment))
        }
        Command::Git(command) => git::run(command, environment),
        Command::Domains(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(domains::run(command, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Dns(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(dns::run(command, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Identity(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(identity::run(command, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Vpc(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(vpc::run(command, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Vpn(command) => {
            let client = client(environment)?;
            client_runtime()?.block_on(vpn::run(command, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Whoami(args) => {
            let client = client(environment)?;
            client_runtime()?.block_on(whoami::run(args, &client)).map(|()| ExitCode::SUCCESS)
        }
        Command::Ca(args) => ca::run(args, environment).map(|()| ExitCode::SUCCESS),
        Command::Image(command) => {
            server_runtime()?.block_on(image::run(command, environment)).map(|()| ExitCode::SUCCESS)
        }
        Command::Admin(command) => {
            client_runtime()?.block_on(admin::run(command, environment)).map(|()| ExitCode::SUCCESS)
        }
    }
}

fn server_runtime() -> Result<Runtime, CliError> {
    runtime(Builder::new_multi_thread())
}

fn client_runtime() -> Result<Runtime, CliError> {
    runtime(Builder::new_current_thread())
}

fn runtime(mut builder: Builder) -> Result<Runtime, CliError> {
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| CliError::new(format!("cannot start: {error}")))
}

fn client(environment: &Environment) -> Result<Client, CliError> {
    let Some(api_key) = environment.get("FREESTYLE_API_KEY")? else {
        return Err(CliError::with_hint(
            "FREESTYLE_API_KEY is not set",
            "`freestyle serve` says at its first start which key to use; on its host, \
             `freestyle admin key create` makes another",
        ));
    };
    let url = environment.get("FREESTYLE_API_URL")?;
    Ok(Client::new(url.as_deref().unwrap_or(DEFAULT_API_URL), &api_key)?)
}

/// Writes a line to standard output.
fn print_line(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Writes indented JSON to standard output.
fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value);
    print_line(&text.map_err(|error| CliError::new(format!("cannot encode the output: {error}")))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_key_a_command_says_where_to_get_one() {
        let error = client(&Environment::of(&[])).unwrap_err();
        assert!(error.report().contains("freestyle admin key create"));
    }

    #[test]
    fn a_url_that_is_none_is_refused_before_any_request() {
        let environment = Environment::of(&[
            ("FREESTYLE_API_KEY", "fs_x"),
            ("FREESTYLE_API_URL", "127.0.0.1:8080"),
        ]);
        assert!(client(&environment).unwrap_err().to_string().contains("127.0.0.1:8080"));
    }
}
