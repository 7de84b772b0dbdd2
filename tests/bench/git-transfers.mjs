// `cargo xtask bench git-transfers`: clone, fetch and push with native git; next to nginx with git's
// own http-backend in the same run, on the same history, taking turns. Ours checks a credential and
// flushes what is pushed; the peer does neither unless it is told to (`core.fsync` below). Prints
// figures, judges none.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Freestyle } from "freestyle";

import { atExit } from "../support/cleanup.mjs";
import { cloneUrl } from "../support/git.mjs";
import { Server } from "../support/server.mjs";
import { Nginx } from "./nginx.mjs";
import { MIB, head, milliseconds, pause, peakMemoryMib, row } from "./report.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 20);
/** Of what moves the whole history. */
const LARGE_RUNS = Math.max(1, RUNS >> 2);
const COMMITS = Number(process.env.BENCH_COMMITS ?? 20_000);
const FILES = Number(process.env.BENCH_FILES ?? 500);
/** Of a file. They have no repetitions: git stores about half as many bytes as there are. */
const LINES = Number(process.env.BENCH_LINES ?? 110);
const AT_ONCE = 20;
const LARGE_MIB = 32;

const dir = mkdtempSync(join(tmpdir(), "fsbench-git-"));
atExit(() => rmSync(dir, { recursive: true, force: true }));
const env = {
  PATH: process.env.PATH,
  HOME: dir,
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_TERMINAL_PROMPT: "0",
  GIT_AUTHOR_NAME: "A",
  GIT_AUTHOR_EMAIL: "a@example.com",
  GIT_COMMITTER_NAME: "A",
  GIT_COMMITTER_EMAIL: "a@example.com",
};

function git(cwd, ...args) {
  return execFileSync("git", args, { cwd, env, stdio: ["ignore", "pipe", "ignore"] }).toString();
}

/** The same without waiting in between: a child process to its end. */
async function gitAtOnce(cwd, ...args) {
  const child = spawn("git", args, { cwd, env, stdio: "ignore" });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`git ${args.join(" ")}: ${code}`);
}

/** A history that is the same in every run, in the format of `git fast-import`. */
function* history() {
  let state = 1;
  const random = (below) => (state = (state * 48271) % 2147483647) % below;
  for (let n = 0; n < COMMITS; n++) {
    yield `commit refs/heads/main\ncommitter A <a@example.com> ${1_700_000_000 + n * 60} +0000\n`;
    yield `data <<END\nChange ${n}\nEND\n`;
    for (let file = 0; file < 3; file++) {
      const path = `src/module${random(25)}/file${random(FILES / 25)}.ts`;
      const word = () => random(2147483647).toString(16).padStart(8, "0");
      const words = () => Array.from({ length: 8 }, word).join("");
      const lines = Array.from({ length: LINES }, words);
      yield `M 100644 inline ${path}\ndata <<END\n${lines.join("\n")}\nEND\n`;
    }
  }
}

const work = join(dir, "work");
mkdirSync(work);
git(work, "init", "-q", "--initial-branch=main");
const importer = spawn("git", ["fast-import", "--quiet"], {
  cwd: work,
  env,
  stdio: ["pipe", "ignore", "inherit"],
});
for (const part of history()) {
  if (!importer.stdin.write(part)) await once(importer.stdin, "drain");
}
importer.stdin.end();
await once(importer, "exit");
git(work, "reset", "-q", "--hard");

const server = await Server.start({ poolSize: 0 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
const nginx = await Nginx.start();
head();

async function ours() {
  const { repoId } = await freestyle.git.repos.create({});
  return cloneUrl(server.gitUrl, server.apiKey, repoId);
}

let names = 0;
/** A peer that flushes as much as the server does. */
function theirs() {
  const { path, url } = nginx.create(`repo${names++}.git`);
  execFileSync("git", ["--git-dir", path, "config", "core.fsync", "all"]);
  execFileSync("git", ["--git-dir", path, "config", "core.fsyncMethod", "fsync"]);
  return { path, url };
}

/** Waits until the server has prepared a repository for clones, which it does by itself. */
async function lookedAfter(repoId) {
  const path = join(server.dataDir, "git", repoId.slice(0, 2), `${repoId}.git`, "objects");
  const isDone = () =>
    existsSync(join(path, "info/commit-graph")) &&
    readdirSync(join(path, "pack")).some((name) => name.endsWith(".bitmap"));
  while (!isDone()) await pause(500);
}

/** Has both do the same, in turns; answers how many times longer the peer took. */
async function compare(name, runs, samples) {
  const times = { ours: [], peer: [] };
  for (let run = 0; run < runs; run++) {
    for (const side of run % 2 ? ["peer", "ours"] : ["ours", "peer"]) {
      times[side].push(await samples(side, run));
    }
  }
  const mine = row(name, times.ours);
  const other = row(`peer: nginx and http-backend, ${name}`, times.peer);
  console.error(`${name}: peer/ours ${(other / mine).toFixed(2)}`);
}

const urls = { ours: await ours() };
const peer = theirs();
urls.peer = peer.url;
const pushed = { ours: [], peer: [] };
for (const side of ["peer", "ours"]) {
  pushed[side].push(await milliseconds(() => gitAtOnce(work, "push", "-q", urls[side], "main")));
}
row(`push of ${COMMITS} commits`, pushed.ours);
row(`peer: nginx and http-backend, push of ${COMMITS} commits`, pushed.peer);
// The server looks after its repositories by itself; so does whoever runs the peer.
execFileSync("git", ["--git-dir", peer.path, "repack", "-adbq"]);
execFileSync("git", ["--git-dir", peer.path, "commit-graph", "write", "--reachable"]);
await lookedAfter(new URL(urls.ours).pathname.slice(1));

const packs = (path) => readdirSync(join(path, "objects/pack")).map((name) => join(path, "objects/pack", name));
const stored = packs(peer.path).reduce((sum, file) => sum + statSync(file).size, 0) / MIB;
console.error(`${COMMITS} commits are ${stored.toFixed(0)} MiB`);

const clone = async (url, name, ...options) => {
  const target = join(dir, name);
  const time = await milliseconds(() => gitAtOnce(dir, "clone", "-q", ...options, url, target));
  rmSync(target, { recursive: true });
  return time;
};
const whole = (side) => clone(urls[side], "whole", "--no-checkout");
await compare(`clone of ${COMMITS} commits`, LARGE_RUNS, whole);
await compare("the same, nothing in the page cache", LARGE_RUNS, (side) => {
  execFileSync("sync");
  writeFileSync("/proc/sys/vm/drop_caches", "3");
  return whole(side);
});
await compare("clone with --depth 1", RUNS, (side) =>
  clone(urls[side], "shallow", "--no-checkout", "--depth", "1"),
);
await compare("clone with --filter=blob:none", LARGE_RUNS, (side) =>
  clone(urls[side], "partial", "--no-checkout", "--filter=blob:none"),
);

const memory = { ours: [], peer: [] };
const roots = { ours: [server.process.pid], peer: nginx.pids };
await compare(`${AT_ONCE} shallow clones at once`, LARGE_RUNS, async (side) => {
  const measured = peakMemoryMib(roots[side]);
  const cloneOne = (_, n) => clone(urls[side], `c${n}`, "--no-checkout", "--depth", "100");
  const time = await milliseconds(() => Promise.all(Array.from({ length: AT_ONCE }, cloneOne)));
  memory[side].push(measured.stop());
  return time;
});
const whileCloning = `memory during ${AT_ONCE} clones, with its processes`;
row(whileCloning, memory.ours, "MiB");
row(`peer: nginx and http-backend, ${whileCloning}`, memory.peer, "MiB");

for (const behind of [10, 100, 1000].filter((behind) => behind < COMMITS)) {
  // Has all but the newest commits; who fetches borrows from it.
  const old = join(dir, `behind-${behind}`);
  git(dir, "init", "-q", "--bare", old);
  git(work, "push", "-q", old, `main~${behind}:refs/heads/main`);
  await compare(`fetch of ${behind} commits`, RUNS, async (side, run) => {
    const fetcher = join(dir, `fetcher-${side}-${run}`);
    git(dir, "clone", "-q", "--bare", "--shared", old, fetcher);
    const time = await milliseconds(() => gitAtOnce(fetcher, "fetch", "-q", urls[side], "main"));
    rmSync(fetcher, { recursive: true });
    return time;
  });
}

const fetchers = {};
for (const [side, url] of Object.entries(urls)) {
  fetchers[side] = join(dir, `fetch-${side}`);
  git(dir, "clone", "-q", url, fetchers[side]);
}
await compare("fetch of nothing", RUNS, (side) =>
  milliseconds(() => gitAtOnce(fetchers[side], "fetch", "-q")),
);

/** A commit that is pushed with its own name, so that both sides get the same. */
function change(n, content) {
  writeFileSync(join(work, "changed"), content);
  git(work, "add", "changed");
  git(work, "commit", "-q", "-m", `Change ${n}`);
}
const pushTo = (side) => milliseconds(() => gitAtOnce(work, "push", "-q", urls[side], "main"));
const pushes = { ours: [], peer: [] };
const fetches = { ours: [], peer: [] };
for (let run = 0; run < RUNS; run++) {
  change(run, `${run}\n`);
  for (const side of run % 2 ? ["peer", "ours"] : ["ours", "peer"]) {
    pushes[side].push(await pushTo(side));
    fetches[side].push(await milliseconds(() => gitAtOnce(fetchers[side], "fetch", "-q")));
  }
}
row("push of one commit", pushes.ours);
row("peer: nginx and http-backend, push of one commit", pushes.peer);
row("fetch of one commit", fetches.ours);
row("peer: nginx and http-backend, fetch of one commit", fetches.peer);

const large = { ours: [], peer: [] };
for (let run = 0; run < LARGE_RUNS; run++) {
  change(`large ${run}`, randomBytes(LARGE_MIB * MIB));
  for (const side of run % 2 ? ["peer", "ours"] : ["ours", "peer"]) {
    large[side].push(await pushTo(side));
  }
}
row(`push of a file of ${LARGE_MIB} MiB`, large.ours);
row(`peer: nginx and http-backend, push of a file of ${LARGE_MIB} MiB`, large.peer);

nginx.stop();
const { repositories } = await freestyle.git.repos.list({ limit: 100 });
await Promise.all(repositories.map(({ repoId }) => freestyle.git.repos.delete({ repoId })));
await server.stopAndCheckNothingIsLeft();
