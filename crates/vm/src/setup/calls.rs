//! Calls of a guest: files and scripts.
//!
//! In software emulation each command takes 50 ms. A phase writes its files, several at a time, and
//! then runs one script.

use std::future::Future;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::apply::{Guest, LOCAL_LIMIT, Phase, SetupError};
use super::script::Script;
use crate::error::VmError;
use crate::model::ExecOutput;

/// Where scripts are in the guest while they run, and where they may keep files.
pub(super) const SCRATCH: &str = "/run/freestyle";
/// How much later than it should a guest may answer before it is given up.
const GRACE: Duration = Duration::from_secs(30);
/// Files that are written at the same time.
const WRITERS: usize = 8;
/// Of what a failed script printed, so much is told.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 4000;

/// A guest, in one phase of its setup.
#[derive(Debug)]
pub(super) struct Calls<'a, G> {
    pub(super) guest: &'a G,
    pub(super) phase: Phase,
}

/// How a script ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Its exit status; `None` if it did not come to its end.
    pub(super) status: Option<i32>,
    pub(super) stdout: Vec<u8>,
    /// How it ended and the last it printed, for people.
    pub(super) report: String,
}

impl Ended {
    pub(super) fn is_success(&self) -> bool {
        self.status == Some(0)
    }
}

impl<G: Guest> Calls<'_, G> {
    /// Writes files.
    pub(super) async fn write(
        &self,
        files: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Result<(), SetupError> {
        let write = async |(path, content): (String, Vec<u8>)| {
            let written = answered(LOCAL_LIMIT, self.guest.write_file(&path, content)).await;
            written.map_err(|error| match error {
                VmError::File(_) | VmError::FileNotFound { .. } => {
                    self.failure(format!("writing {path}: {error}"))
                }
                error => error.into(),
            })
        };
        stream::iter(files).map(Ok).try_for_each_concurrent(WRITERS, write).await
    }

    /// Runs a script that has to succeed.
    pub(super) async fn run(&self, script: Script, limit: Duration) -> Result<(), SetupError> {
        let ended = self.run_to_its_end(script, limit).await?;
        if ended.is_success() { Ok(()) } else { Err(self.failure(ended.report)) }
    }

    /// Runs a script, however it ends. It is killed after `limit`.
    pub(super) async fn run_to_its_end(
        &self,
        script: Script,
        limit: Duration,
    ) -> Result<Ended, SetupError> {
        let path = self.place(script).await?;
        let command = format!("sh {path}; status=$?; rm -f {path}; exit $status");
        self.command(command, limit).await
    }

    /// Starts a script and does not wait for it.
    pub(super) async fn run_in_background(&self, script: Script) -> Result<(), SetupError> {
        let path = self.place(script).await?;
        let command = format!(
            "systemd-run --quiet --no-block --collect --unit=freestyle-setup \
             sh -c 'sh {path}; rm -f {path}'"
        );
        let ended = self.command(command, LOCAL_LIMIT).await?;
        if ended.is_success() { Ok(()) } else { Err(self.failure(ended.report)) }
    }

    pub(super) fn failure(&self, reason: String) -> SetupError {
        SetupError::Failed { phase: self.phase, reason, diagnostics: None }
    }

    async fn place(&self, script: Script) -> Result<String, SetupError> {
        let path = format!("{SCRATCH}/{}.sh", self.phase.as_str());
        self.write([(path.clone(), script.into_bytes())]).await?;
        Ok(path)
    }

    async fn command(&self, command: String, limit: Duration) -> Result<Ended, SetupError> {
        let (status, how, stdout, stderr) =
            match answered(limit, self.guest.exec(command, limit)).await {
                Ok(ExecOutput { stdout, stderr, status }) => {
                    (Some(status), format!("ended with status {status}"), stdout, stderr)
                }
                Err(VmError::ExecTimedOut { stdout, stderr, .. }) => {
                    (None, format!("did not end within {} s", limit.as_secs()), stdout, stderr)
                }
                Err(error @ VmError::OutputTooLarge { .. }) => {
                    (None, error.to_string(), Vec::new(), Vec::new())
                }
                Err(error) => return Err(error.into()),
            };
        let tail = tail(&stdout, &stderr);
        let report = if tail.is_empty() { how } else { format!("{how}:\n{tail}") };
        Ok(Ended { status, stdout, report })
    }
}

/// The end of what a script printed, errors last.
fn tail(stdout: &[u8], stderr: &[u8]) -> String {
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// A guest whose agent is gone never answers.
async fn answered<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, VmError>>,
) -> Result<T, VmError> {
    let limit = limit + GRACE;
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(VmError::GuestUnreachable(format!("no answer within {} s", limit.as_secs())))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A guest that answers every command alike and remembers what it was told.
    struct Stub {
        answer: fn() -> Result<ExecOutput, VmError>,
        files: Mutex<Vec<(String, Vec<u8>)>>,
    }

    impl Stub {
        fn answering(answer: fn() -> Result<ExecOutput, VmError>) -> Self {
            Self { answer, files: Mutex::default() }
        }
    }

    impl Guest for Stub {
        async fn exec(&self, _: String, _: Duration) -> Result<ExecOutput, VmError> {
            (self.answer)()
        }

        async fn write_file(&self, path: &str, content: Vec<u8>) -> Result<(), VmError> {
            if path == "/never" {
                std::future::pending::<()>().await;
            }
            if path == "/full" {
                return Err(VmError::File("no space left on device".to_owned()));
            }
            self.files.lock().unwrap().push((path.to_owned(), content));
            Ok(())
        }
    }

    async fn run(answer: fn() -> Result<ExecOutput, VmError>) -> Result<(), SetupError> {
        let guest = Stub::answering(answer);
        let calls = Calls { guest: &guest, phase: Phase::Packages };
        calls.run(Script::new(&["true\n"]), Duration::from_secs(7)).await
    }

    #[tokio::test]
    async fn a_script_that_fails_is_reported_with_the_last_it_printed() {
        let lines: fn() -> _ = || {
            let stdout = (0..100).map(|line| format!("line {line}\n")).collect::<String>();
            let (stdout, stderr) = (stdout.into_bytes(), b"E: no\xff\n".to_vec());
            Ok(ExecOutput { stdout, stderr, status: 100 })
        };
        let error = run(lines).await.unwrap_err().to_string();
        assert!(error.starts_with("packages: ended with status 100:\nline 89\n"), "{error}");
        assert!(error.ends_with("line 99\nE: no\u{fffd}"), "{error}");

        let late: fn() -> _ = || {
            let timeout = Duration::from_secs(7);
            Err(VmError::ExecTimedOut { timeout, stdout: vec![], stderr: vec![] })
        };
        let error = run(late).await.unwrap_err().to_string();
        assert_eq!(error, "packages: did not end within 7 s");
    }

    #[tokio::test]
    async fn a_guest_that_is_gone_is_no_failure_of_its_spec() {
        let gone: fn() -> _ = || Err(VmError::GuestUnreachable("ended".to_owned()));
        let error = run(gone).await.unwrap_err();
        assert!(matches!(error, SetupError::Guest(VmError::GuestUnreachable(_))), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_does_not_answer_is_given_up() {
        let guest = Stub::answering(|| unreachable!());
        let calls = Calls { guest: &guest, phase: Phase::Files };
        let written = calls.write([("/never".to_owned(), vec![])]).await;
        assert!(matches!(written, Err(SetupError::Guest(VmError::GuestUnreachable(_)))));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let guest = Stub::answering(|| unreachable!());
        let calls = Calls { guest: &guest, phase: Phase::Files };
        let files = [("/a".to_owned(), vec![1]), ("/full".to_owned(), vec![2])];
        let error = calls.write(files).await.unwrap_err().to_string();
        assert_eq!(error, "files: writing /full: no space left on device");
        assert_eq!(*guest.files.lock().unwrap(), [("/a".to_owned(), vec![1])]);
    }
}
