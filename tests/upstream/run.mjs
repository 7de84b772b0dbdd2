// `cargo xtask git-suite SOURCE [script...]`: tests of git's own, from the source of the git that is
// installed, with a server of ours where they would have Apache and git's `http-backend`.

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";

import { atExit } from "../support/cleanup.mjs";
import { Server } from "../support/server.mjs";

const LIMIT_MS = 10 * 60_000;
/** Those that use HTTP, and their tests that fail, being about something else (numbers of git 2.47). */
const SCRIPTS = {
  // All headers (ours has more); redirections, answers and conditions of Apache's configuration;
  // namespaces. For 16, who may not read would have to learn of the branches.
  "t5551-http-fetch-smart": [5, 10, 16, 17, 23, 25, 26, 27, 36, 43, 46],
  // Hooks and the names in the server's reflog; 42 is a script in Apache's place.
  "t5541-http-push-smart": [10, 29, 30, 37, 42],
  "t5539-fetch-http-shallow": [],
  "t5542-push-http-shallow": [],
  // Push options are for hooks.
  "t5545-push-options": [12, 13],
  "t5549-fetch-push-http": [],
  // Answers that Apache changes on their way.
  "t5616-partial-clone": [44, 45, 46],
  "t0410-partial-clone": [],
  // By SSH.
  "t5700-protocol-v1": [14, 15, 16, 17],
  // Answers that Apache changes or cuts; namespaces; packs that are fetched from somewhere else.
  "t5702-protocol-v2": [53, 54, 59, 62, 63, 64, 65, 66, 67, 69, 70, 71, 72, 74],
};

const [source, ...named] = process.argv.slice(2);
const suite = join(resolve(source), "t");
const programs = dirname(execFileSync("which", ["git"]).toString());
// Their helper program needs none of this; which tests can be run is another question, answered by the
// options that are written without it.
const small = ["NO_CURL=1", "NO_EXPAT=1", "NO_GETTEXT=1", "NO_OPENSSL=1", "NO_TCLTK=1"];
const build = { cwd: source, stdio: ["ignore", "ignore", "inherit"] };
execFileSync("make", ["-j4", "CFLAGS=-O0", ...small, "t/helper/test-tool"], build);
execFileSync("make", ["GIT-BUILD-OPTIONS"], build);
execFileSync("make", ["-C", "templates"], build);

const server = await Server.start({ poolSize: 0 });
const trash = mkdtempSync(join(tmpdir(), "fsgit-"));
atExit(() => rmSync(trash, { recursive: true, force: true }));
let failures = 0;
for (const script of named.length > 0 ? named : Object.keys(SCRIPTS)) {
  const { stdout } = spawnSync("sh", [`./${script}.sh`, `--root=${trash}`], {
    cwd: suite,
    timeout: LIMIT_MS,
    maxBuffer: 64 << 20,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      HOME: process.env.HOME,
      PATH: [join(import.meta.dirname, "bin"), programs, process.env.PATH].join(delimiter),
      GIT_TEST_INSTALLED: programs,
      LIB_HTTPD_PATH: join(import.meta.dirname, "httpd.mjs"),
      LIB_HTTPD_MODULE_PATH: import.meta.dirname,
      UPSTREAM_API_URL: server.url,
      UPSTREAM_API_KEY: server.apiKey,
      UPSTREAM_HOST: new URL(server.gitUrl).host,
      UPSTREAM_REPOSITORIES: join(server.dataDir, "git"),
    },
  });
  const lines = stdout.split("\n");
  const isExpected = (line) => SCRIPTS[script]?.includes(Number(line.split(" ")[2]));
  const failed = lines.filter((line) => line.startsWith("not ok") && !line.includes("# TODO"));
  const unexpected = failed.filter((line) => !isExpected(line));
  const passed = lines.filter((line) => line.startsWith("ok") && !line.includes("# skip"));
  const isWhole = lines.some((line) => /^1\.\.\d+$/.test(line));
  console.log(`${script}: ${passed.length} passed, ${failed.length} failed`);
  if (!isWhole) console.log("  it did not come to its end");
  for (const line of unexpected) console.log(`  ${line}`);
  failures += unexpected.length + (isWhole ? 0 : 1);
}
await server.stopAndCheckNothingIsLeft();
process.exit(failures > 0 ? 1 : 0);
