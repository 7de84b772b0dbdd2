//! How commits relate does not depend on what their dates say.

use std::fmt::Write as _;

use freestyle_git::{CompareStatus, Repository};

use crate::support::{Client, Server, noise};

const COMMITS: usize = 14;

/// A history in which every commit adds a file of its own, named by its number, so that the files
/// of a commit tell its ancestors.
struct History {
    parents: Vec<Vec<usize>>,
    /// Bit sets of the commits that each one reaches, itself included.
    reached: Vec<u32>,
}

impl History {
    fn new(parents: Vec<Vec<usize>>) -> Self {
        let mut reached: Vec<u32> = Vec::new();
        for (at, parents) in parents.iter().enumerate() {
            reached.push(parents.iter().fold(1 << at, |all, parent| all | reached[*parent]));
        }
        Self { parents, reached }
    }

    /// One with merges, and now and then a second root.
    fn random(seed: u64) -> Self {
        let mut random = noise(seed, COMMITS * 3).into_iter().map(usize::from);
        let mut pick = |below: usize| random.next().unwrap() % below;
        let parents = (0..COMMITS).map(|at| {
            let count = [1, 1, 1, 2, 2, 2, 2, 0][pick(8)].min(at);
            let mut parents: Vec<_> = (0..count).map(|_| at - 1 - pick(at.min(5))).collect();
            parents.dedup();
            parents
        });
        Self::new(parents.collect())
    }

    /// The history as `git fast-import` reads it.
    fn stream(&self, date: impl Fn(usize) -> u64) -> String {
        let mut stream = "blob\nmark :100\ndata 1\nx\n".to_owned();
        for (at, parents) in self.parents.iter().enumerate() {
            let (mark, date) = (at + 1, date(at));
            write!(stream, "reset refs/heads/c{at}\n\ncommit refs/heads/c{at}\nmark :{mark}\n")
                .unwrap();
            write!(stream, "committer Ada <ada@example.com> {date} +0000\ndata 1\nm\n").unwrap();
            for (nth, parent) in parents.iter().enumerate() {
                let word = if nth == 0 { "from" } else { "merge" };
                writeln!(stream, "{word} :{}", parent + 1).unwrap();
            }
            stream.push_str("deleteall\n");
            for file in (0..COMMITS).filter(|file| self.reached[at] & (1 << file) != 0) {
                writeln!(stream, "M 100644 :100 {file}").unwrap();
            }
        }
        stream
    }

    async fn push(&self, server: &Server, date: impl Fn(usize) -> u64) -> Repository {
        let repository = server.create().await;
        let client = server.clone_of(&repository, repository.id().as_str()).await;
        client.write("stream", self.stream(date));
        let stream = std::fs::File::open(client.path.join("stream")).unwrap();
        let import = client.command(&["fast-import", "--quiet"]).stdin(stream).status().await;
        assert!(import.unwrap().success());
        client.git(&["push", "-q", "origin", "--all"]).await;
        repository
    }

    /// Compares each commit with each.
    async fn check(&self, repository: &Repository) {
        for (base, of_base) in self.reached.iter().enumerate() {
            for (head, of_head) in self.reached.iter().enumerate() {
                let compared = repository.compare(&format!("c{base}"), &format!("c{head}")).await;
                let compared = compared.unwrap();
                let (ahead, behind) = (of_head & !of_base, of_base & !of_head);
                let status = match (ahead, behind) {
                    (0, 0) => CompareStatus::Identical,
                    (_, 0) => CompareStatus::Ahead,
                    (0, _) => CompareStatus::Behind,
                    _ => CompareStatus::Diverged,
                };
                let counts = (ahead.count_ones() as usize, behind.count_ones() as usize);
                assert_eq!(
                    (compared.status, compared.ahead_by, compared.behind_by),
                    (status, counts.0, counts.1),
                    "c{base}...c{head} of {:?}",
                    self.parents
                );
                let common = of_base & of_head;
                if common == 0 {
                    continue;
                }
                // The files are those since a commit of both that no other of both reaches.
                let files = compared.files.iter().map(|file| file.path.parse::<u32>().unwrap());
                let before = of_head & !files.fold(0, |all, file| all | 1 << file);
                let is_common = |at: &usize| common & (1 << at) != 0;
                let merge_base =
                    (0..COMMITS).filter(is_common).find(|at| self.reached[*at] == before);
                let merge_base = merge_base.unwrap();
                let mut others = (0..COMMITS).filter(is_common).filter(|at| *at != merge_base);
                assert!(
                    others.all(|other| self.reached[other] & (1 << merge_base) == 0),
                    "c{merge_base} for c{base}...c{head} of {:?}",
                    self.parents
                );
            }
        }
    }
}

#[tokio::test]
async fn commits_of_any_dates_are_compared_rightly() {
    const NOW: u64 = 1_700_000_000;
    let server = Server::start().await;
    let line = || (0..COMMITS).map(|at| at.checked_sub(1).into_iter().collect()).collect();
    let skew = noise(7, COMMITS);
    let dates: [&dyn Fn(usize) -> u64; 4] =
        [&|at| NOW + at as u64, &|_| NOW, &|at| NOW - at as u64, &|at| NOW + u64::from(skew[at])];
    let histories = [History::new(line()), History::random(1), History::random(2)];
    for history in &histories {
        for date in dates {
            let repository = history.push(&server, date).await;
            history.check(&repository).await;
            // Some commits with a generation, and then all of them.
            let judge = Client::at(&server.path(&repository));
            for tips in ["c[6]", "c*"] {
                let tips = judge.git(&["rev-parse", &format!("--branches={tips}")]).await;
                judge.write("tips", tips + "\n");
                let tips = std::fs::File::open(judge.path.join("tips")).unwrap();
                let mut write = judge.command(&["commit-graph", "write", "--stdin-commits"]);
                assert!(write.stdin(tips).status().await.unwrap().success());
                history.check(&repository).await;
            }
        }
    }
}
