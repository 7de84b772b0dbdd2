// `cargo xtask bench git`: what a user of the Git API waits for, through the real SDK; next to git on
// the same disk in the same run, flushing as much. Prints figures, judges none.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Freestyle } from "freestyle";

import { atExit } from "../support/cleanup.mjs";
import { Server } from "../support/server.mjs";
import { head, milliseconds, row } from "./report.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 50);
const FILES = Number(process.env.BENCH_FILES ?? 5000);
const COMMITS = Number(process.env.BENCH_COMMITS ?? 200);
/** Commits that are made one after another, or by all writers together. */
const WRITES = 20 * RUNS;
const WRITERS = 16;
/** What the server has git do before it answers. */
const DURABLE = ["-c", "core.fsync=all", "-c", "core.fsyncMethod=fsync"];
const AUTHOR = ["-c", "user.name=A", "-c", "user.email=a@example.com"];

const dir = mkdtempSync(join(tmpdir(), "fsbench-git-"));
atExit(() => rmSync(dir, { recursive: true, force: true }));

async function repeat(work, runs = RUNS) {
  const samples = [];
  for (let run = 0; run < runs; run++) samples.push(await milliseconds(() => work(run)));
  return samples;
}

/** Work of several writers at the same time: the time of each piece, and how many are done a second. */
async function together(name, work) {
  const samples = [];
  const writer = async (_, writer) => {
    for (let run = 0; run < WRITES / WRITERS; run++) {
      samples.push(await milliseconds(() => work(writer, run)));
    }
  };
  const all = () => Promise.all(Array.from({ length: WRITERS }, writer));
  const seconds = (await milliseconds(all)) / 1000;
  row(name, samples);
  row(`${name}, together`, [samples.length / seconds], "1/s");
}

/** A child process to its end. */
async function git(cwd, ...args) {
  const child = spawn("git", args, { cwd, stdio: "ignore" });
  const [code] = await once(child, "exit");
  // `git grep` that finds nothing, too.
  if (code !== 0) throw new Error(`git ${args.join(" ")}: ${code}`);
}

function line(n) {
  return `${n % 50 === 0 ? "TODO: " : ""}a line of some length, number ${n * 7919} of many\n`;
}

const server = await Server.start({ poolSize: 0 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
head();

// A repository as a product might have it, and another for each writer.
const files = {};
for (let n = 0; n < FILES; n++) {
  const lines = Array.from({ length: 40 }, (_, at) => line(n * 40 + at));
  files[`src/module${n % 100}/file${n}.ts`] = lines.join("");
}
const imported = { type: "files", files, commitMessage: "Begin" };
const { repo } = await freestyle.git.repos.create({ import: imported });
const change = (path, run) => ({
  message: `Change ${run}`,
  files: [{ path, content: `${run}\n` }],
});
for (let n = 0; n < COMMITS; n++) await repo.commits.create(change(`log/${n % 10}`, n));
const repos = await Promise.all(
  Array.from({ length: WRITERS }, async () => (await freestyle.git.repos.create({})).repo),
);

const commitOne = (run) => repos[0].commits.create(change("a", run));
const one = row("a commit of one file", await repeat(commitOne, WRITES));
await together(`the same, ${WRITERS} writers to ${WRITERS} repositories`, (writer, run) =>
  repos[writer].commits.create(change("a", run)),
);
await together(`the same, ${WRITERS} writers to one branch`, (writer, run) =>
  repos[0].commits.create(change(`w${writer}`, run)),
);
const hundred = Array.from({ length: 100 }, (_, n) => ({ path: `f/${n}`, content: line(n) }));
row(
  "a commit of 100 files",
  await repeat((run) =>
    repos[1].commits.create({
      message: "m",
      files: hundred.map((file) => ({ ...file, content: `${file.content}${run}` })),
    }),
  ),
);

// The peer commits in work trees of its own.
const trees = Array.from({ length: WRITERS }, (_, writer) => join(dir, `tree${writer}`));
for (const tree of trees) {
  mkdirSync(tree);
  execFileSync("git", ["init", "-q", tree]);
}
const commitByGit = async (writer, run) => {
  writeFileSync(join(trees[writer], "a"), `${run}\n`);
  await git(trees[writer], ...DURABLE, "add", "a");
  await git(trees[writer], ...DURABLE, ...AUTHOR, "commit", "-q", "-m", `Change ${run}`);
};
const oneByGit = (run) => commitByGit(0, run);
const peer = row("peer: git add and commit of one file", await repeat(oneByGit, WRITES));
await together(`peer: the same, ${WRITERS} at a time`, commitByGit);

const path = "src/module42/file42.ts";
row("read a file", await repeat(() => repo.contents.get({ path })));
row("list a directory of 50 files", await repeat(() => repo.contents.get({ path: "src/module42" })));
row("list 50 commits", await repeat(() => repo.commits.list()));
const old = (await repo.commits.list({ limit: 1, offset: COMMITS - 1 })).commits[0].sha;
row(`compare with ${COMMITS - 1} commits ago`, await repeat(() => repo.compare({ base: old, head: "main" })));
row("download the tarball", await repeat(() => repo.contents.downloadTarball()));

const search = row(`search ${FILES} files`, await repeat(() => repo.search({ query: "TODO" })));
row("search for a name", await repeat(() => repo.searchFiles({ query: "file42" })));
row("search messages", await repeat(() => repo.searchCommits({ query: "Change 42" })));
row("search changes", await repeat(() => repo.searchDiffs({ query: "42", pathPattern: "log/*" })));
const bare = join(server.dataDir, "git", repo.repoId.slice(0, 2), `${repo.repoId}.git`);
const grep = row("peer: git grep", await repeat(() => git(bare, "grep", "-n", "TODO", "main")));

console.log(`\nA commit takes ${(one / peer).toFixed(2)} of the time of git's own two processes,`);
console.log(`a search ${(search / grep).toFixed(2)} of that of git grep.`);
await server.stopAndCheckNothingIsLeft();
