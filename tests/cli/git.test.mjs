// Repositories through both CLIs: that of the npm package, as documented, and our own.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { run } from "../support/process.mjs";
import { admin, API_URL, DATA_DIR, fileAccount } from "../support/sdk.mjs";
import { freestyle as own } from "../support/server.mjs";

const { freestyle, key } = await fileAccount("git cli");
const NPM_CLI = join(import.meta.dirname, "../node_modules/freestyle/cli.mjs");
const dir = mkdtempSync(join(tmpdir(), "fse2e-cli-"));
after(() => rmSync(dir, { recursive: true }));
const env = { HOME: dir, FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret };

const npm = (...args) => run(process.execPath, [NPM_CLI, "git", ...args], { cwd: dir, env });
const ours = (...args) => own(["git", ...args], { cwd: dir, env });

async function succeeds(running) {
  const { code, stdout, stderr } = await running;
  assert.equal(code, 0, stderr || stdout);
  return stdout;
}

test("the documented commands", async () => {
  const id = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/;
  const [plain] = id.exec(await succeeds(npm("create")));
  const options = ["--name", "my-repo", "--public", "--default-branch", "trunk"];
  const [named] = id.exec(await succeeds(npm("create", ...options)));

  const table = await succeeds(npm("list", "--limit", "20"));
  assert.match(table, new RegExp(`${named} +trunk`));
  assert.match(table, new RegExp(`${plain} +main`));
  const { repositories, total } = JSON.parse(await succeeds(npm("list", "--json")));
  assert.deepEqual([repositories.map(({ repoId }) => repoId), total], [[named, plain], 2]);

  for (const repo of [plain, named]) await succeeds(npm("delete", repo));
  assert.equal((await freestyle.git.repos.list()).total, 0);
  assert.equal((await npm("delete", plain)).code, 1);
});

test("our own commands, from create to delete", async () => {
  const id = (await succeeds(ours("create", "--name", "mine"))).trim();
  const repo = freestyle.git.repos.ref({ repoId: id });
  const content = "one\nTODO: two\n";
  const files = [{ path: "src/a.txt", content }, { path: "b", content: "\u0000\u0001" }];
  const { commit } = await repo.commits.create({ message: "First\n\nBody", files });

  const [header, row] = (await succeeds(ours("list"))).trimEnd().split("\n");
  assert.match(header, /^ID +NAME +VISIBILITY +DEFAULT +BRANCHES +TAGS +CREATED$/);
  assert.match(row, new RegExp(`^${id} +mine +private +main +1 +0 +\\d{4}-`));
  assert.equal(JSON.parse(await succeeds(ours("list", "--search", "MIN", "--json"))).total, 1);

  assert.equal(await succeeds(ours("cat", id)), "b\nsrc/\n");
  assert.equal(await succeeds(ours("cat", id, "--recursive")), "b\nsrc/\nsrc/a.txt\n");
  assert.equal(await succeeds(ours("cat", id, "src/a.txt", "--rev", commit.sha)), content);
  assert.equal(await succeeds(ours("cat", id, "b")), "\u0000\u0001");
  assert.match(await succeeds(ours("log", id)), new RegExp(`^${commit.sha.slice(0, 10)} .* First$`, "m"));
  const log = JSON.parse(await succeeds(ours("log", id, "--limit", "1", "--json")));
  assert.deepEqual(log.commits, [commit]);

  assert.equal(await succeeds(ours("search", id, "todo")), "src/a.txt:2: TODO: two\n");
  assert.equal(await succeeds(ours("search", id, "*.txt", "--in", "files")), "src/a.txt\n");
  assert.match(await succeeds(ours("search", id, "first", "--in", "commits")), / First$/m);
  const changes = await succeeds(ours("search", id, "TODO", "--in", "changes", "--path", "src"));
  assert.equal(changes, `${commit.sha.slice(0, 10)} First\n  src/a.txt:2: +TODO: two\n`);
  const bad = await ours("search", id, "(", "--regex");
  assert.equal(bad.code, 1);
  assert.match(bad.stderr, /INVALID_REGEX|regular expression/);

  assert.deepEqual(await admin(DATA_DIR, "git", "fsck", id), [{ repoId: id, problems: [] }]);
  assert.equal(await succeeds(ours("delete", id)), `deleted ${id}\n`);
  const gone = await ours("cat", id);
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /there is no repository/);
});
