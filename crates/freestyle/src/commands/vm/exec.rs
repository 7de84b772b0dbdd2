//! `freestyle vm exec`: this process becomes the command, with its streams and its exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use freestyle_client::wire::{ExecRequest, ExecResponse};
use freestyle_client::{Client, ClientError};

use crate::commands::print_json;
use crate::error::CliError;
use crate::spinner;

pub(super) const EXEC_HELP: &str = "\
Prints what the command prints and exits with its exit code.

Examples:
  freestyle vm exec ID 'cd /srv && make test'
  freestyle vm exec ID --user www-data --timeout 30 whoami";

/// Options of `freestyle vm exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArgs {
    /// Id of the VM
    id: String,
    /// The command, given to a shell
    command: String,
    /// Linux user to run it as [default: root]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Kill the command after this many seconds and exit with 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn exec(args: ExecArgs, client: &Client) -> Result<ExitCode, CliError> {
    let ExecArgs { id, command, user, timeout, json } = args;
    let timeout_ms = timeout.map(|seconds| seconds * 1000);
    let request = ExecRequest { timeout_ms, ..ExecRequest::new(command) };
    let output = run_and_print_failure(client, &id, user.as_deref(), &request).await?;
    if json {
        print_json(&output)?
    } else {
        print_output(&output)?
    }
    exit_code(&output)
}

/// Runs a command; of one that ran over its time, prints what it had printed.
pub(super) async fn run_and_print_failure(
    client: &Client,
    vm: &str,
    user: Option<&str>,
    request: &ExecRequest,
) -> Result<ExecResponse, CliError> {
    let ran = spinner::during("Running the command", client.exec(vm, user, request)).await;
    if let Err(ClientError::Api(failure)) = &ran
        && failure.code == "EXEC_TIMED_OUT"
    {
        let field = |name: &str| failure.fields.get(name)?.as_str().map(str::to_owned);
        print_output(&ExecResponse {
            stdout: field("stdout"),
            stderr: field("stderr"),
            status_code: None,
        })?;
    }
    Ok(ran?)
}

pub(super) fn print_output(output: &ExecResponse) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(output.stdout.as_deref().unwrap_or_default().as_bytes())?;
    stdout.flush()?;
    let stderr = output.stderr.as_deref().unwrap_or_default();
    Ok(io::stderr().write_all(stderr.as_bytes())?)
}

/// The command's own, which the guest keeps below 256.
pub(super) fn exit_code(output: &ExecResponse) -> Result<ExitCode, CliError> {
    let status = output.status_code.and_then(|status| u8::try_from(status).ok());
    status.map(ExitCode::from).ok_or_else(|| CliError::new("the command has no exit code"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::parse;

    #[test]
    fn a_timeout_is_bounded() {
        assert!(parse(&["exec", "id", "true", "--timeout", "0"]).is_err());
        assert!(parse(&["exec", "id", "true", "--timeout", "86400"]).is_ok());
        assert!(parse(&["exec", "id", "true", "--timeout", "86401"]).is_err());
    }
}
