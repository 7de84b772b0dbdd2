//! The object database of one repository: kept open between requests, and what it holds as values.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gix_hash::{ObjectId, oid};
use gix_object::bstr::{BStr, ByteSlice};
use gix_object::{Find, Kind};
use gix_odb::HandleArc;
use gix_pack::cache::lru::StaticLinkedList;

use crate::file_content::FileContent;
use crate::limits::Limits;
use crate::refs::Refs;
use crate::{GitError, Repository};

pub(crate) const SHA1: gix_hash::Kind = gix_hash::Kind::Sha1;
/// Bytes of bases of deltas that one request keeps.
const DELTA_CACHE: usize = 16 << 20;
/// Counts of commits that are remembered for one repository.
const MOST_COUNTS: usize = 64;
/// From the folder of objects.
const SHALLOW: &str = "../shallow";
/// Tags that point to tags are followed this far.
const LONGEST_TAG_CHAIN: usize = 16;
/// Directories within directories that are followed. Git itself takes some thousand.
pub(crate) const DEEPEST: usize = 256;
/// Bytes of a commit or tag. Nobody writes larger ones, but to exhaust whoever reads many of them.
const LARGEST_COMMIT: usize = 1 << 20;

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Bytes that are not UTF-8 are replaced, here and in `email`.
    pub name: String,
    /// Without angle brackets.
    pub email: String,
    /// When.
    pub date: Date,
}

/// A moment with the offset at which it was noted. Shown as in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    /// Seconds since 1970 in UTC.
    pub seconds: i64,
    /// Seconds east of UTC.
    pub offset: i32,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id.
    pub sha: ObjectId,
    /// Who wrote the change.
    pub author: Signature,
    /// Who made the commit.
    pub committer: Signature,
    /// The whole message. Bytes that are not UTF-8 are replaced.
    pub message: String,
    /// Its root tree.
    pub tree: ObjectId,
    /// Its parents.
    pub parents: Vec<ObjectId>,
}

/// A tag; one without an object of its own has neither tagger nor message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Without `refs/tags/`.
    pub name: String,
    /// The tag object, or what a tag without object points to.
    pub sha: ObjectId,
    /// What it points to.
    pub target: ObjectId,
    /// Who made it.
    pub tagger: Option<Signature>,
    /// Its message.
    pub message: Option<String>,
}

/// A blob with its content.
#[derive(Debug)]
pub struct Blob {
    /// Its id.
    pub sha: ObjectId,
    /// Its bytes.
    pub content: FileContent,
}

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file or symbolic link, with its size in bytes.
    Blob(u64),
    /// A directory.
    Tree,
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Its name. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Its id.
    pub sha: ObjectId,
    /// What it is.
    pub kind: EntryKind,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawEntry {
    pub(crate) name: Vec<u8>,
    pub(crate) mode: gix_object::tree::EntryMode,
    pub(crate) id: ObjectId,
}

/// The objects of one repository.
pub(crate) struct Objects {
    directory: PathBuf,
    open: Mutex<Option<Open>>,
    /// How many commits a commit and its ancestors are. That never changes.
    counts: Mutex<HashMap<ObjectId, usize>>,
}

#[derive(Clone)]
struct Open {
    store: Arc<gix_odb::Store>,
    graph: Option<Arc<gix_commitgraph::Graph>>,
    /// Commits whose parents were left out when the repository was imported.
    shallow: Arc<HashSet<ObjectId>>,
    as_of: [Option<SystemTime>; 4],
}

impl Objects {
    pub(crate) fn new(repository: PathBuf) -> Self {
        let directory = repository.join("objects");
        Self { directory, open: Mutex::default(), counts: Mutex::default() }
    }

    /// The number of a commit and its ancestors, if it was counted lately.
    pub(crate) fn known_count(&self, from: &oid) -> Option<usize> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(from).copied()
    }

    pub(crate) fn remember_count(&self, from: ObjectId, count: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_COUNTS {
            counts.clear();
        }
        counts.insert(from, count);
    }

    /// The object database as it is now. Packs that came or went since the last time make it open
    /// anew; that costs a listing of the packs, which are only mapped when they are needed.
    fn open(&self, limits: &Limits) -> Result<Open, GitError> {
        let changed = |path: &str| {
            let metadata = std::fs::metadata(self.directory.join(path));
            metadata.and_then(|metadata| metadata.modified()).ok()
        };
        let names = ["pack", "info", "info/commit-graphs", SHALLOW];
        let as_of = names.map(changed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.as_ref().filter(|open| open.as_of == as_of) {
            return Ok(open.clone());
        }
        let slots =
            gix_odb::store::init::Slots::AsNeededByDiskState { multiplier: 2.0, minimum: 64 };
        let alloc_limit_bytes = usize::try_from(limits.blob_bytes).ok();
        let options =
            gix_odb::store::init::Options { slots, alloc_limit_bytes, ..Default::default() };
        let store =
            gix_odb::Store::at_opts(self.directory.clone(), SHA1, &mut std::iter::empty(), options);
        let store = Arc::new(store.map_err(GitError::objects)?);
        // Without a commit graph, or with a broken one, commits are read themselves.
        let graph = gix_commitgraph::at(self.directory.join("info"), SHA1, None).ok();
        let shallow = read_shallow(&self.directory.join(SHALLOW))?.into();
        let opened = Open { store, graph: graph.map(Arc::new), shallow, as_of };
        *open = Some(opened.clone());
        Ok(opened)
    }
}

/// The commits that git calls shallow, one in each line; none when there is no such file.
fn read_shallow(path: &Path) -> Result<HashSet<ObjectId>, GitError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(GitError::io("cannot read the file of shallow commits")(error)),
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| ObjectId::from_hex(line).map_err(GitError::objects)).collect()
}

/// The end of the time that a request has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Called in every loop whose length a user decides.
    pub(crate) fn check(self) -> Result<(), GitError> {
        if Instant::now() < self.0 { Ok(()) } else { Err(GitError::TimedOut) }
    }
}

/// Reads one repository in one request, on one thread.
pub(crate) struct Reader<'a> {
    pub(crate) odb: HandleArc,
    pub(crate) refs: Refs<'a>,
    pub(crate) graph: Option<Arc<gix_commitgraph::Graph>>,
    shallow: Arc<HashSet<ObjectId>>,
    pub(crate) deadline: Deadline,
    pub(crate) limits: &'a Limits,
    pub(crate) objects: &'a Objects,
    /// Of the repository.
    pub(crate) directory: &'a Path,
}

impl Repository {
    /// Reads with a deadline, on a thread for blocking work.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Reader<'_>) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let reading = self.state.packing_refs.clone().read_owned().await;
        self.blocking(move |this| {
            let _reading = reading;
            work(&this.reader()?)
        })
        .await
    }

    pub(crate) fn reader(&self) -> Result<Reader<'_>, GitError> {
        let open = match self.state.objects.open(&self.shared.limits) {
            // Deleted meanwhile.
            Err(_) if !self.state.path.exists() => {
                return Err(GitError::RepositoryNotFound(self.state.id.clone()));
            }
            open => open?,
        };
        let limits = &self.shared.limits;
        Ok(Reader {
            odb: handle(&open.store),
            refs: Refs::new(&self.state.path),
            graph: open.graph,
            shallow: open.shallow,
            deadline: Deadline::after(limits.read_time),
            limits,
            objects: &self.state.objects,
            directory: &self.state.path,
        })
    }
}

fn handle(store: &Arc<gix_odb::Store>) -> HandleArc {
    let mut handle = store.to_cache_arc();
    handle.set_pack_cache(|| Box::new(StaticLinkedList::<64>::new(DELTA_CACHE)));
    handle
}

impl Reader<'_> {
    /// The same for another thread of the same request.
    pub(crate) fn another(&self) -> Reader<'_> {
        Reader {
            odb: handle(&self.odb.store()),
            refs: Refs::new(self.directory),
            graph: self.graph.clone(),
            shallow: Arc::clone(&self.shallow),
            deadline: self.deadline,
            limits: self.limits,
            objects: self.objects,
            directory: self.directory,
        }
    }

    /// Kind and size of an object, none if there is no such object.
    pub(crate) fn header(&self, id: &oid) -> Result<Option<(Kind, u64)>, GitError> {
        let header = gix_odb::Header::try_header(&self.odb, id).map_err(GitError::objects)?;
        Ok(header.map(|header| (header.kind(), header.size())))
    }

    /// The bytes of an object of a kind, none if there is no such object. What is too large for
    /// memory is an error of the object database; a blob is asked for its size before.
    pub(crate) fn object(&self, id: &oid, kind: Kind) -> Result<Option<Vec<u8>>, GitError> {
        let mut bytes = Vec::new();
        let found = self.odb.try_find(id, &mut bytes).map_err(GitError::objects)?;
        let is_wanted = found.is_some_and(|found| found.kind == kind);
        let is_text = matches!(kind, Kind::Commit | Kind::Tag);
        if is_wanted && is_text && bytes.len() > LARGEST_COMMIT {
            let what = format!("{kind} {id}");
            return Err(GitError::TooLarge { what, limit: LARGEST_COMMIT as u64 });
        }
        Ok(is_wanted.then_some(bytes))
    }

    /// The content of a blob. `TooLarge` above the limit.
    pub(crate) fn blob(&self, id: &oid) -> Result<Vec<u8>, GitError> {
        let limit = self.limits.blob_bytes;
        if self.header(id)?.is_some_and(|(_, size)| size > limit) {
            return Err(GitError::TooLarge { what: format!("blob {id}"), limit });
        }
        self.object(id, Kind::Blob)?.ok_or_else(|| GitError::BlobNotFound { hash: id.to_string() })
    }

    pub(crate) fn commit(&self, id: &oid) -> Result<Commit, GitError> {
        let found = self.find_commit(id)?;
        found.ok_or_else(|| GitError::CommitNotFound { sha: id.to_string() })
    }

    pub(crate) fn find_commit(&self, id: &oid) -> Result<Option<Commit>, GitError> {
        let Some(bytes) = self.object(id, Kind::Commit)? else { return Ok(None) };
        let commit = gix_object::CommitRef::from_bytes(&bytes, SHA1).map_err(GitError::objects)?;
        Ok(Some(Commit {
            sha: id.to_owned(),
            author: Signature::parse(commit.author),
            committer: Signature::parse(commit.committer),
            message: commit.message.to_str_lossy().into_owned(),
            tree: commit.tree(),
            parents: self.known_parents(id, commit.parents()),
        }))
    }

    /// The parents of a commit that are in this repository.
    pub(crate) fn known_parents(
        &self,
        id: &oid,
        parents: impl Iterator<Item = ObjectId>,
    ) -> Vec<ObjectId> {
        if self.shallow.contains(id) { Vec::new() } else { parents.collect() }
    }

    pub(crate) fn tree(&self, id: &oid) -> Result<Vec<RawEntry>, GitError> {
        // Every repository has it, stored or not.
        if id == ObjectId::empty_tree(SHA1) {
            return Ok(Vec::new());
        }
        let bytes = self.object(id, Kind::Tree)?;
        let bytes = bytes.ok_or_else(|| GitError::TreeNotFound { hash: id.to_string() })?;
        let tree = gix_object::TreeRef::from_bytes(&bytes, SHA1).map_err(GitError::objects)?;
        let entries = tree.entries.iter().map(|entry| RawEntry {
            name: entry.filename.to_vec(),
            mode: entry.mode,
            id: entry.oid.to_owned(),
        });
        Ok(entries.collect())
    }

    pub(crate) fn tag_object(&self, id: &oid) -> Result<Option<Tag>, GitError> {
        let Some(bytes) = self.object(id, Kind::Tag)? else { return Ok(None) };
        let tag = gix_object::TagRef::from_bytes(&bytes, SHA1).map_err(GitError::objects)?;
        Ok(Some(Tag {
            name: tag.name.to_str_lossy().into_owned(),
            sha: id.to_owned(),
            target: tag.target(),
            tagger: tag.tagger.map(Signature::parse),
            message: Some(tag.message.to_str_lossy().into_owned()),
        }))
    }

    /// Follows tag objects to what they are about.
    pub(crate) fn peel(&self, id: ObjectId) -> Result<Option<(ObjectId, Kind)>, GitError> {
        let mut id = id;
        for _ in 0..LONGEST_TAG_CHAIN {
            match self.header(&id)? {
                Some((Kind::Tag, _)) => {}
                Some((kind, _)) => return Ok(Some((id, kind))),
                None => return Ok(None),
            }
            let Some(tag) = self.tag_object(&id)? else { return Ok(None) };
            id = tag.target;
        }
        Ok(None)
    }
}

impl Commit {
    /// About what it takes in an answer.
    pub(crate) fn answer_bytes(&self) -> usize {
        let of_signature = |signature: &Signature| signature.name.len() + signature.email.len();
        let signatures = of_signature(&self.author) + of_signature(&self.committer);
        self.message.len() + signatures + 64 * self.parents.len() + 512
    }
}

impl Signature {
    /// Reads what is in a commit or tag, which may be nonsense in old histories.
    fn parse(line: &BStr) -> Self {
        let line = line.to_str_lossy();
        let (name, rest) = line.split_once('<').unwrap_or((&line, ""));
        let (email, time) = rest.rsplit_once('>').unwrap_or((rest, ""));
        let mut time = time.split_ascii_whitespace();
        let seconds = time.next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        let zone: i32 = time.next().and_then(|zone| zone.parse().ok()).unwrap_or(0);
        let offset = (zone / 100 * 60 + zone % 100) * 60;
        // No clock is further off; what is would not be a time of day.
        let offset = if offset.abs() < 86_400 { offset } else { 0 };
        let (name, email) = (name.trim().to_owned(), email.trim().to_owned());
        Self { name, email, date: Date { seconds, offset } }
    }
}

/// A text that is not a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date is written as in RFC 3339, like 2024-02-29T18:04:56+05:30, and not before 1970")]
pub struct ParseDateError;

impl FromStr for Date {
    type Err = ParseDateError;

    /// RFC 3339 to the second; a fraction is cut off. Commits know no time before 1970.
    fn from_str(text: &str) -> Result<Self, ParseDateError> {
        parse_date(text).filter(|date| date.seconds >= 0).ok_or(ParseDateError)
    }
}

fn parse_date(text: &str) -> Option<Date> {
    let number = |part: &str| -> Option<i64> {
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let (moment, rest) = text.split_at_checked(19)?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !marks.iter().all(|(at, mark)| moment.as_bytes()[*at] == *mark) {
        return None;
    }
    let field = |from: usize, to: usize| number(moment.get(from..to)?);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            (zone.len() < fraction.len()).then_some(zone)?
        }
        None => rest,
    };
    let offset = if zone == "Z" {
        0
    } else {
        let (sign, hours) = zone.split_at_checked(1)?;
        let (hours, minutes) = hours.split_once(':')?;
        let sign = match sign {
            "+" => 1,
            "-" => -1,
            _ => return None,
        };
        let is_time = hours.len() == 2 && minutes.len() == 2;
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        (is_time && hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)?
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // A day that is none, as the 31st of February, would be another.
    if civil(days) != (year, month, day) {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(Date { seconds, offset: i32::try_from(offset).ok()? })
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds.saturating_add(i64::from(self.offset));
        let (days, second) = (local.div_euclid(86_400), local.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.offset == 0 {
            return f.write_str("Z");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.unsigned_abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar (the algorithm
/// counts eras of 400 years that begin in March, so that a leap day is the last day of a year).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_shown_as_rfc_3339() {
        let date = |seconds, offset| Date { seconds, offset }.to_string();
        assert_eq!(date(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(date(1_709_210_096, 5 * 3600 + 1800), "2024-02-29T18:04:56+05:30");
        assert_eq!(date(1_709_210_096, -3600), "2024-02-29T11:34:56-01:00");
        assert_eq!(date(-1, 0), "1969-12-31T23:59:59Z");
        assert_eq!(date(4_107_542_399, 0), "2100-02-28T23:59:59Z");
    }

    #[test]
    fn dates_are_read_as_they_are_shown() {
        for (text, seconds, offset) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T18:04:56+05:30", 1_709_210_096, 19_800),
            ("2024-02-29T11:34:56-01:00", 1_709_210_096, -3600),
            ("2100-02-28T23:59:59Z", 4_107_542_399, 0),
            ("2024-02-29T12:34:56.789Z", 1_709_210_096, 0),
        ] {
            let date: Date = text.parse().unwrap();
            assert_eq!(date, Date { seconds, offset }, "{text}");
            assert_eq!(date.to_string().parse(), Ok(date));
        }
        for bad in [
            "",
            "now",
            "2024-02-29",
            "2024-02-29T12:34:56",
            "2024-02-29 12:34:56Z",
            "2024-02-30T12:34:56Z",
            "2023-02-29T12:34:56Z",
            "2024-13-01T12:34:56Z",
            "2024-00-01T12:34:56Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29T12:34:60Z",
            "2024-02-29T12:34:56.Z",
            "2024-02-29T12:34:56+0530",
            "2024-02-29T12:34:56+24:00",
            "2024-02-29T12:34:56+05:60",
            "+024-02-29T12:34:56Z",
            "2024-02-29T12:34:5éZ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
        ] {
            assert_eq!(bad.parse::<Date>(), Err(ParseDateError), "{bad}");
        }
    }

    #[test]
    fn a_signature_is_read_even_when_it_is_nonsense() {
        let parse = |line: &str| Signature::parse(line.into());
        let good = parse("Ada L <ada@example.com> 1709210096 +0530");
        assert_eq!((good.name.as_str(), good.email.as_str()), ("Ada L", "ada@example.com"));
        assert_eq!(good.date, Date { seconds: 1_709_210_096, offset: 19_800 });
        assert_eq!(parse("no brackets").name, "no brackets");
        assert_eq!(parse("A <a> never").date.seconds, 0);
    }
}
