//! Push: `git receive-pack`, and exactly which refs it moved.
//!
//! The list of updates is read from the push itself: its commands say what is wanted, and git's
//! report says which of them were done. Comparing all refs before and after would need a lock for
//! as long as the slowest client sends, and a hook would cost a process per push and be one more
//! thing that can be missing from a repository. When there is no report (git was killed, or an old
//! client did not ask for it) each command is compared with where its ref is now.
//!
//! The client sees the report only when the updates are durable and whoever must know of them has
//! said so with [`FinishedPush::acknowledge`]. A push whose client went away after sending
//! everything is carried out all the same.

use std::ffi::OsStr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use gix_hash::ObjectId;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use super::pkt_line::{Packet, Parser};
use super::request::{BodyError, BodyReader};
use super::{Output, Sender, TransferPlace, channel, read_chunk};
use crate::disk::sync_directory;
use crate::process::GitProcess;
use crate::refs::{Refs, sync_ref_folders};
use crate::repository::remove_incoming;
use crate::{GitError, Repository, TransferRequest};

/// Refs that one push may change.
const MOST_COMMANDS: usize = 10_000;
/// Bytes of the list of commands.
const LONGEST_COMMANDS: usize = 4 << 20;
/// Bytes of the report, which has a line for each command.
const LONGEST_REPORT: usize = 16 << 20;
/// What a push may be larger than its pack.
const BESIDES_PACK: u64 = 8 << 20;
/// First byte of a packet for the user to read; the report has 1.
const BAND_PROGRESS: u8 = 2;

/// One ref that was made, moved or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Full name, as `refs/heads/main`. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Where it was; none: it is new.
    pub old: Option<ObjectId>,
    /// Where it is; none: it was deleted.
    pub new: Option<ObjectId>,
}

/// A push that has begun.
#[derive(Debug)]
pub struct Push {
    /// The body of the answer.
    pub output: Output,
    /// How it ends. It must be waited for, or the client gets no answer.
    pub end: PushEnd,
}

/// The end of a push, to come.
#[derive(Debug)]
pub struct PushEnd(oneshot::Receiver<FinishedPush>);

/// A push that git has carried out.
#[derive(Debug)]
pub struct FinishedPush {
    /// What it changed, in the order of the push; durable. Empty when git refused everything.
    pub updates: Vec<RefUpdate>,
    acknowledged: oneshot::Sender<()>,
}

impl PushEnd {
    /// Waits until git has ended. None when the push broke off and changed nothing.
    pub async fn wait(self) -> Option<FinishedPush> {
        self.0.await.ok()
    }
}

impl FinishedPush {
    /// Lets the client know. Dropping it instead cuts the connection without a report.
    pub fn acknowledge(self) {
        let _ = self.acknowledged.send(());
    }
}

impl Repository {
    /// The answer to `POST <repository>/git-receive-pack`. `TooLarge` when the repository is full;
    /// a push that is too large itself is refused in git's own words.
    pub async fn receive_pack(&self, request: TransferRequest) -> Result<Push, GitError> {
        let transfer = self.transfer_place().await?;
        let limits = &self.shared.limits;
        let used = self.disk_bytes().await?;
        let Some(room) = limits.repository_bytes.checked_sub(used).filter(|room| *room > 0) else {
            let what = "the repository".to_owned();
            return Err(GitError::TooLarge { what, limit: limits.repository_bytes });
        };
        let largest = limits.push_bytes.min(room);
        let pushing = self.state.pushing.clone().read_owned().await;
        let setting = largest.to_string();
        let settings = [("receive.maxInputSize", setting.as_str())];
        let arguments = ["receive-pack", "--stateless-rpc", "."].map(OsStr::new);
        let process =
            self.shared.git.start(&self.state.path, &settings, request.protocol(), arguments)?;
        let body = request.into_reader(largest + BESIDES_PACK, limits.stall_time);
        let (sender, output) = channel(limits.stall_time);
        let (end, receiver) = oneshot::channel();
        let run = Run { repository: self.clone(), sender, _transfer: transfer };
        let (repository, time) = (self.clone(), limits.request_time);
        tokio::spawn(async move {
            run.carry_out(process, body, end, time).await;
            drop(pushing);
            repository.clean_up_after_pushes().await;
        });
        Ok(Push { output, end: PushEnd(receiver) })
    }

    /// Removes what pushes left that were broken off. When others are going on, the last of them
    /// does it.
    async fn clean_up_after_pushes(&self) {
        if !self.state.has_leftovers.load(Ordering::Acquire) {
            return;
        }
        let Ok(alone) = self.state.pushing.clone().try_write_owned() else { return };
        self.state.has_leftovers.store(false, Ordering::Release);
        let removed = self.finish_blocking(move |this| {
            let removed = remove_incoming(&this.state.path);
            drop(alone);
            removed.map_err(GitError::io("cannot remove the objects of a broken push"))
        });
        if let Err(error) = removed.await {
            tracing::warn!(repository = %self.id(), %error, "a push left files behind");
        }
    }

    /// Bytes of the packs of this repository.
    pub async fn disk_bytes(&self) -> Result<u64, GitError> {
        self.blocking(|this| {
            let size = || -> std::io::Result<u64> {
                let mut sum = 0;
                for entry in std::fs::read_dir(this.state.path.join("objects/pack"))? {
                    // A pack that went away meanwhile has no size.
                    sum += entry?.metadata().map_or(0, |metadata| metadata.len());
                }
                Ok(sum)
            };
            size().map_err(GitError::io("cannot measure the repository"))
        })
        .await
    }
}

/// A push at work.
struct Run {
    repository: Repository,
    sender: Sender,
    _transfer: TransferPlace,
}

impl Run {
    async fn carry_out(
        self,
        mut process: GitProcess,
        body: BodyReader,
        end: oneshot::Sender<FinishedPush>,
        time: Duration,
    ) {
        let mut commands = Commands::default();
        let mut answer = Answer::default();
        let mut is_deleted = self.repository.state.is_deleted.subscribe();
        let broken = tokio::select! {
            ended = self.transfer(&mut process, body, &mut commands, &mut answer) => ended.err(),
            _ = is_deleted.wait_for(|is_deleted| *is_deleted) => {
                Some("the repository was deleted".to_owned())
            }
            () = tokio::time::sleep(time) => Some("the push took too long".to_owned()),
        };
        match &broken {
            Some(reason) => {
                tracing::debug!(reason, "a push was ended");
                process.terminate().await;
                self.repository.state.has_leftovers.store(true, Ordering::Release);
            }
            None => match process.wait().await {
                Ok((status, message)) if !status.success() => {
                    tracing::debug!(%status, message, "a push failed");
                    // It may have been killed, by a limit or from outside.
                    self.repository.state.has_leftovers.store(true, Ordering::Release);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a push cannot be waited for"),
            },
        }
        let updates = match self.updates(commands, &answer).await {
            Ok(updates) => updates,
            Err(error) => {
                tracing::error!(%error, "what a push changed cannot be made durable");
                return self.sender.fail("the push failed").await;
            }
        };
        if broken.is_some() && updates.is_empty() {
            return self.sender.fail("the push failed").await;
        }
        let (acknowledged, acknowledgement) = oneshot::channel();
        let told = end.send(FinishedPush { updates, acknowledged }).is_ok();
        if !told || acknowledgement.await.is_err() || broken.is_some() {
            return self.sender.fail("the push was not acknowledged").await;
        }
        let _ = self.sender.send(answer.held).await;
    }

    /// Feeds the push in, its progress out, and keeps the report.
    async fn transfer(
        &self,
        process: &mut GitProcess,
        mut body: BodyReader,
        commands: &mut Commands,
        answer: &mut Answer,
    ) -> Result<(), String> {
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else { return Ok(()) };
        let feed = async {
            let mut is_git_listening = true;
            while let Some(part) =
                body.next().await.map_err(|error: BodyError| error.to_string())?
            {
                commands.read(&part).map_err(str::to_owned)?;
                // Git refused and said why; the client must be heard out before it listens.
                is_git_listening = is_git_listening && stdin.write_all(&part).await.is_ok();
            }
            drop(stdin);
            Ok::<_, String>(())
        };
        let forward = async {
            let mut is_client_listening = true;
            while let Some(chunk) =
                read_chunk(&mut stdout).await.map_err(|error| error.to_string())?
            {
                for progress in answer.take(&chunk).map_err(str::to_owned)? {
                    is_client_listening =
                        is_client_listening && self.sender.send(progress).await.is_ok();
                }
            }
            answer.finish();
            Ok(())
        };
        tokio::try_join!(feed, forward).map(|((), ())| ())
    }

    /// What was changed, made durable.
    async fn updates(
        &self,
        commands: Commands,
        answer: &Answer,
    ) -> Result<Vec<RefUpdate>, GitError> {
        let done = answer.report();
        let apply = move |repository: &Repository| {
            let path = &repository.state.path;
            let refs = Refs::new(path);
            let mut updates = Vec::new();
            for command in commands.list {
                let is_done = match &done {
                    Some(done) => done.contains(&command.name),
                    None => refs.get_named(&command.text())? == command.new,
                };
                if is_done && command.old != command.new {
                    updates.push(command.into_update());
                }
            }
            let sync = || -> std::io::Result<()> {
                if updates.is_empty() {
                    return Ok(());
                }
                sync_directory(&path.join("objects/pack"))?;
                for update in &updates {
                    sync_ref_folders(path, &update.name)?;
                }
                // Deleting a ref rewrites the file of packed refs.
                sync_directory(path)
            };
            sync().map_err(GitError::io("cannot flush a push to disk"))?;
            Ok(updates)
        };
        self.repository.finish_blocking(apply).await
    }
}

/// One line of a push: what it wants of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    name: Vec<u8>,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
}

impl Command {
    /// `<old> <new> <name>`, with zeros for a ref that is not there.
    fn parse(line: &[u8]) -> Option<Self> {
        let (ids, name) = line.split_at_checked(82)?;
        let id = |hex: &[u8]| {
            let id = ObjectId::from_hex(hex).ok()?;
            Some((!id.is_null()).then_some(id))
        };
        let (old, new) = (id(&ids[..40])?, id(&ids[41..81])?);
        (ids[40] == b' ' && ids[81] == b' ').then(|| Self { name: name.to_vec(), old, new })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    fn into_update(self) -> RefUpdate {
        RefUpdate { name: self.text(), old: self.old, new: self.new }
    }
}

/// The commands at the beginning of a push, read as they pass by.
#[derive(Default)]
struct Commands {
    list: Vec<Command>,
    parser: Parser,
    bytes: usize,
    is_complete: bool,
}

impl Commands {
    fn read(&mut self, part: &[u8]) -> Result<(), &'static str> {
        if self.is_complete {
            return Ok(());
        }
        self.parser.push(part);
        while let Some((packet, raw)) = self.parser.next().map_err(|_| "not a push")? {
            self.bytes += raw.len();
            if self.bytes > LONGEST_COMMANDS || self.list.len() >= MOST_COMMANDS {
                return Err("the push changes too many refs");
            }
            match packet {
                Packet::Flush => {
                    self.is_complete = true;
                    self.parser = Parser::default();
                    return Ok(());
                }
                // `shallow <id>` and what git may add later is no command.
                Packet::Data(line) => {
                    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    self.list.extend(Command::parse(line));
                }
                Packet::Other => {}
            }
        }
        Ok(())
    }
}

/// What git answers: progress that is passed on, and the report that is held back.
#[derive(Default)]
struct Answer {
    parser: Parser,
    held: Vec<u8>,
    /// The report without the framing of the side band.
    report: Vec<u8>,
    uses_side_band: bool,
}

impl Answer {
    /// Takes bytes in and returns those that the client may have at once.
    fn take(&mut self, chunk: &[u8]) -> Result<Vec<Bytes>, &'static str> {
        self.parser.push(chunk);
        let mut progress = Vec::new();
        while let Some((packet, raw)) = self.parser.next().map_err(|_| "git answers nonsense")? {
            match &packet {
                Packet::Data(line) if line.first() == Some(&BAND_PROGRESS) => {
                    self.uses_side_band = true;
                    progress.push(raw.into());
                    continue;
                }
                Packet::Data(line) if line.first() == Some(&1) => {
                    self.uses_side_band = true;
                    self.report.extend_from_slice(&line[1..]);
                }
                _ if !self.uses_side_band => self.report.extend_from_slice(&raw),
                _ => {}
            }
            self.held.extend_from_slice(&raw);
            if self.held.len() > LONGEST_REPORT {
                return Err("git's report is too long");
            }
        }
        Ok(progress)
    }

    fn finish(&mut self) {
        let rest = std::mem::take(&mut self.parser).rest();
        self.held.extend_from_slice(&rest);
    }

    /// The refs that were changed as wanted. None when git did not get to say.
    fn report(&self) -> Option<std::collections::HashSet<Vec<u8>>> {
        let mut parser = Parser::default();
        parser.push(&self.report);
        let (mut done, mut has_begun) = (std::collections::HashSet::new(), false);
        while let Ok(Some((packet, _))) = parser.next() {
            match packet {
                Packet::Data(line) => {
                    let line = line.strip_suffix(b"\n").unwrap_or(&line);
                    has_begun |= line.starts_with(b"unpack ");
                    done.extend(line.strip_prefix(b"ok ").map(<[u8]>::to_vec));
                }
                // Complete.
                Packet::Flush if has_begun => return Some(done),
                Packet::Flush | Packet::Other => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::pkt_line::line;
    use super::*;

    const A: &str = "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3";
    const ZERO: &str = "0000000000000000000000000000000000000000";

    #[test]
    fn commands_are_read_from_the_head_of_a_push() {
        let push = [
            line(format!("{ZERO} {A} refs/heads/new\0 report-status atomic\n").as_bytes()),
            line(format!("{A} {ZERO} refs/heads/old").as_bytes()),
            b"0000".to_vec(),
            b"PACKwhatever".to_vec(),
        ]
        .concat();
        for cut in 0..push.len() {
            let mut commands = Commands::default();
            commands.read(&push[..cut]).unwrap();
            commands.read(&push[cut..]).unwrap();
            let names: Vec<_> = commands.list.iter().map(Command::text).collect();
            assert_eq!(names, ["refs/heads/new", "refs/heads/old"]);
            assert_eq!((commands.list[0].old, commands.list[1].new), (None, None));
        }
    }

    #[test]
    fn a_push_of_too_many_refs_is_refused() {
        let command = line(format!("{ZERO} {A} refs/heads/{}", "x".repeat(200)).as_bytes());
        let mut commands = Commands::default();
        let refused = (0..=MOST_COMMANDS).find_map(|_| commands.read(&command).err());
        assert_eq!(refused, Some("the push changes too many refs"));
    }

    #[test]
    fn a_report_counts_only_when_it_is_complete() {
        let report = [
            line(b"unpack ok\n"),
            line(b"ok refs/heads/a\n"),
            line(b"ng refs/heads/b non-fast-forward\n"),
            b"0000".to_vec(),
        ]
        .concat();
        let band = |report: &[u8]| line(&[b"\x01", report].concat());
        let progress = line(b"\x02Resolving deltas\n");
        for stream in [report.clone(), [progress.clone(), band(&report), b"0000".to_vec()].concat()]
        {
            let mut answer = Answer::default();
            let forwarded = answer.take(&stream).unwrap().concat();
            assert!(forwarded.is_empty() || forwarded == progress);
            let done = answer.report().unwrap();
            assert_eq!(done.into_iter().collect::<Vec<_>>(), [b"refs/heads/a"]);
        }
        let mut cut = Answer::default();
        cut.take(&report[..report.len() - 4]).unwrap();
        assert_eq!(cut.report(), None);
    }
}
