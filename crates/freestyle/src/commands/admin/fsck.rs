//! `freestyle admin git fsck`: whether repositories are whole.

use serde_json::json;

use crate::commands::{print_json, print_line};
use crate::config::Config;
use crate::error::CliError;
use crate::operator::{Answer, Question, ask};
use crate::spinner;

pub(super) const HELP: &str = "\
Has the server that runs on this host read every object of the repositories. Ends with status 1 if
one of them is damaged.

Examples:
  freestyle admin git fsck
  freestyle admin git fsck ID --json";

pub(super) async fn run(
    config: &Config,
    repository: Option<String>,
    as_json: bool,
) -> Result<(), CliError> {
    let repositories = match repository {
        Some(repository) => vec![repository],
        None => match ask(&config.data_dir, Question::Repositories).await? {
            Answer::Repositories(repositories) => repositories,
            _ => return Err(other_answer()),
        },
    };
    let (mut damaged, mut report) = (0, Vec::new());
    for repository in &repositories {
        let question = Question::GitFsck { repository: repository.clone() };
        let asked = ask(&config.data_dir, question);
        let answer = spinner::during(&format!("Checking {repository}"), asked).await?;
        let Answer::GitFsck(problems) = answer else { return Err(other_answer()) };
        damaged += usize::from(!problems.is_empty());
        if as_json {
            report.push(json!({"repoId": repository, "problems": problems}));
            continue;
        }
        for problem in problems {
            print_line(&format!("{repository}: {}", problem.replace(char::is_control, " ")))?;
        }
    }
    if as_json {
        print_json(&report)?;
    }
    let all = repositories.len();
    match damaged {
        0 if as_json => Ok(()),
        0 => print_line(&format!("{all} checked, all whole")),
        _ => Err(CliError::new(format!("{damaged} of {all} repositories are damaged"))),
    }
}

fn other_answer() -> CliError {
    CliError::new("the server answered another question")
}
