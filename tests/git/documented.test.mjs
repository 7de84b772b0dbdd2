// Code of the hosted service's documentation about repositories, as it stands there: the pages
// Freestyle Git, Repositories, Git API and Search.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { API_URL, failsWith, fileAccount } from "../support/sdk.mjs";

const { freestyle, key } = await fileAccount("documented git");
const dir = mkdtempSync(join(tmpdir(), "fse2e-git-"));
after(() => rmSync(dir, { recursive: true }));

const { repoId, repo } = await freestyle.git.repos.create({
  name: "my-repo",
});
await repo.commits.create({
  message: "Add sources",
  files: [
    { path: "README.md", content: "# Hello\n" },
    { path: "src/index.ts", content: "// TODO: write\nexport function main() {}\n" },
    { path: "src/index.test.ts", content: "// TODO: test\n" },
  ],
});

test("repositories are created, listed and deleted", async () => {
  assert.match(repoId, /^[0-9a-f-]{36}$/);
  const { repoId: publicId } = await freestyle.git.repos.create({
    public: true,
  });
  const result = await freestyle.git.repos.list({
    limit: 20,
    cursor: "0",
  });
  assert.deepEqual(
    result.repositories.map((repo) => [repo.repoId, repo.id, repo.defaultBranch]),
    [
      [publicId, publicId, "main"],
      [repoId, repoId, "main"],
    ],
  );
  assert.deepEqual(Object.keys(result.repositories[1].branches), ["main"]);
  assert.deepEqual([result.total, result.offset], [2, 0]);

  await freestyle.git.repos.delete({
    repoId: publicId,
  });

  assert.equal((await freestyle.git.repos.list()).total, 1);
  await assert.rejects(
    freestyle.git.repos.ref({ repoId: publicId }).contents.get({ path: "" }),
    failsWith("REPOSITORY_NOT_FOUND", { repoId: publicId }),
  );
});

test("files are read by API", async () => {
  const ref = freestyle.git.repos.ref({ repoId });
  const file = await ref.contents.get({ path: "README.md" });
  assert.equal(file.type, "file");
  assert.equal(Buffer.from(file.content, "base64").toString(), "# Hello\n");
});

test("a file or a directory of a revision", async () => {
  const file = await repo.contents.get({
    path: "src/index.ts",
    rev: "main",
  });
  assert.deepEqual([file.type, file.name, file.path], ["file", "index.ts", "src/index.ts"]);
  const dir = await repo.contents.get({
    path: "src",
    rev: "main",
  });
  assert.equal(dir.type, "dir");
  assert.deepEqual(
    dir.entries.map(({ type, path }) => [type, path]),
    [
      ["file", "src/index.test.ts"],
      ["file", "src/index.ts"],
    ],
  );
});

test("archives are what tar and zip make of them", async () => {
  const tarball = await repo.contents.downloadTarball({ rev: "main" });
  await writeFile(join(dir, "repo.tar"), Buffer.from(tarball));
  const zip = await repo.contents.downloadZip({ rev: "main" });
  await writeFile(join(dir, "repo.zip"), Buffer.from(zip));

  execFileSync("tar", ["-xf", "repo.tar"], { cwd: dir });
  assert.equal(await readFile(join(dir, "README.md"), "utf8"), "# Hello\n");
  assert.deepEqual(namesInZip(await readFile(join(dir, "repo.zip"))), [
    "README.md",
    "src/",
    "src/index.test.ts",
    "src/index.ts",
  ]);
});

/** The names in the central directory of a zip file. */
function namesInZip(zip) {
  const names = [];
  let at = zip.readUInt32LE(zip.lastIndexOf("PK\x05\x06") + 16);
  while (zip.toString("latin1", at, at + 4) === "PK\x01\x02") {
    const [name, extra, comment] = [28, 30, 32].map((field) => zip.readUInt16LE(at + field));
    names.push(zip.toString("utf8", at + 46, at + 46 + name));
    at += 46 + name + extra + comment;
  }
  return names;
}

test("branches", async () => {
  const branch = await repo.branches.get({ branchName: "main" });
  assert.deepEqual(branch, { name: "refs/heads/main", sha: branch.sha });
  assert.match(branch.sha, /^[0-9a-f]{40}$/);
  const branches = await repo.branches.list();
  assert.deepEqual(branches, { branches: [{ name: "main", commit: branch.sha }] });

  // The SDK does not send the name; what it sends is told what to do.
  await assert.rejects(
    repo.branches.create({
      name: "feature/new-flow",
    }),
    failsWith("BRANCH_NAME_EMPTY"),
  );
  const intended = `${API_URL}/git/v1/repo/${repoId}/git/refs/heads/feature%2Fnew-flow`;
  const created = await fetch(intended, {
    method: "POST",
    headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json" },
    body: JSON.stringify({ sha: branch.sha.slice(0, 12) }),
  });
  assert.deepEqual(await created.json(), {
    name: "refs/heads/feature/new-flow",
    sha: branch.sha,
  });
  const found = await repo.branches.get({ branchName: "feature/new-flow" });
  assert.equal(found.sha, branch.sha);

  await repo.branches.setDefaultBranch({
    defaultBranch: "feature/new-flow",
  });
  assert.equal((await repo.branches.getDefaultBranch()).defaultBranch, "feature/new-flow");
  await repo.branches.setDefaultBranch({
    defaultBranch: "main",
  });
});

test("commits are listed and made", async () => {
  const before = await repo.commits.list();
  await repo.commits.create({
    branch: "main",
    message: "Update README",
    files: [{ path: "README.md", content: "# Updated README\n" }],
  });
  const commits = await repo.commits.list();
  assert.equal(commits.total, before.total + 1);
  assert.equal(commits.commits[0].message, "Update README\n");
  assert.equal(commits.commits[0].parents[0].sha, before.commits[0].sha);
});

test("tags", async () => {
  assert.deepEqual(await repo.tags.list(), { tags: [] });
  await assert.rejects(
    repo.tags.get({
      tagName: "v1.0.0",
    }),
    failsWith("REFERENCE_NOT_FOUND", { reference: "refs/tags/v1.0.0" }),
  );
});

test("content search", async () => {
  const result = await repo.search({
    query: "TODO",
    rev: "main",
    pathPattern: "src/**/*.ts",
    excludePattern: "**/*.test.ts",
  });
  const lines = [];
  for (const file of result.files) {
    for (const match of file.matches) {
      lines.push(`${file.path}:${match.lineNumber} ${match.line}`);
    }
  }
  assert.deepEqual(lines, ["src/index.ts:1 // TODO: write"]);

  const regex = await repo.search({
    query: "^(export\\s+)?(async\\s+)?function\\s+\\w+",
    isRegex: true,
    pathPattern: "**/*.ts",
  });
  assert.equal(regex.files[0].matches[0].lineNumber, 2);
});

test("content search by curl", () => {
  const url = `${API_URL}/git/v1/repo/${repoId}/search?query=TODO&pathPattern=src/**/*.ts`;
  const authorization = `Authorization: Bearer ${key.secret}`;
  const answer = execFileSync("curl", ["-sS", url, "-H", authorization], { encoding: "utf8" });
  assert.equal(JSON.parse(answer).totalFiles, 2);
});

test("filename, commit message and diff search", async () => {
  const files = await repo.searchFiles({
    query: "index",
    maxResults: 20,
  });
  assert.deepEqual(
    files.files.map(({ path }) => path),
    ["src/index.test.ts", "src/index.ts"],
  );
  const commits = await repo.searchCommits({
    query: "add",
    maxResults: 10,
  });
  assert.equal(commits.commits.length, 1);
  assert.equal(commits.commits[0].message, "Add sources");
  assert.match(commits.commits[0].sha.slice(0, 7), /^[0-9a-f]{7}$/);
  const diffs = await repo.searchDiffs({
    query: "Hello",
    maxResults: 20,
  });
  const found = diffs.commits.flatMap((commit) => commit.files.map((file) => [commit.message, file.path]));
  assert.deepEqual(found, [
    ["Update README", "README.md"],
    ["Add sources", "README.md"],
  ]);
});

test("pagination", async () => {
  const files = [];
  let offset = 0;
  while (true) {
    const result = await repo.search({
      query: "TODO",
      maxResults: 1,
      offset,
    });
    files.push(...result.files);
    if (!result.hasMore) break;
    offset += 1;
  }
  assert.deepEqual(
    files.map(({ path }) => path),
    ["src/index.test.ts", "src/index.ts"],
  );
});
