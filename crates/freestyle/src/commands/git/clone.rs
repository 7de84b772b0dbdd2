//! `freestyle git clone`: native git, set up so that it finds its credential by itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use crate::commands::{client, client_runtime};
use crate::environment::Environment;
use crate::error::CliError;

pub(super) const HELP: &str = "\
The clone remembers to ask `freestyle git credential` for its credential, which is FREESTYLE_API_KEY
or a token that was given to git before; no secret is stored in it.

Examples:
  freestyle git clone REPO
  freestyle git clone REPO my-dir -- --depth 1 --branch dev";

/// Options of `freestyle git clone`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the repository
    repo: String,
    /// Where to [default: a directory named like the repository]
    directory: Option<PathBuf>,
    /// Options for `git clone` itself
    #[arg(last = true, value_name = "OPTION")]
    git_options: Vec<OsString>,
}

/// Answers git's own exit code.
pub(crate) fn run(args: Args, environment: &Environment) -> Result<ExitCode, CliError> {
    let Args { repo, directory, git_options } = args;
    if !repo.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(CliError::with_hint(
            format!("{repo:?} is not the id of a repository"),
            "`freestyle git list` shows the repositories of your account",
        ));
    }
    let client = client(environment)?;
    let host = client_runtime()?.block_on(client.git_host())?.url;
    let program = std::env::current_exe()?;
    let mut git = Command::new("git");
    git.arg("clone")
        .arg("-c")
        .arg(format!("credential.{host}.helper={}", helper(&program.to_string_lossy())))
        .args(git_options)
        .arg("--")
        .arg(format!("{host}/{repo}"))
        .args(directory);
    // The helper is not told what only a file here says.
    for name in ["FREESTYLE_API_KEY", "FREESTYLE_API_URL"] {
        if let Some(value) = environment.get(name)? {
            git.env(name, value);
        }
    }
    let status = git
        .status()
        .map_err(|error| CliError::with_hint(format!("cannot run git: {error}"), "install git"))?;
    Ok(exit_code(status))
}

/// The setting that has git ask this program. Git gives it to a shell.
fn helper(program: &str) -> String {
    format!("!'{}' git credential", program.replace('\'', "'\\''"))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code() {
        Some(0) => ExitCode::SUCCESS,
        Some(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
        None => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_quoted_for_the_shell() {
        assert_eq!(helper("/opt/it's here/f"), r"!'/opt/it'\''s here/f' git credential");
    }
}
