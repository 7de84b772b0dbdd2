// What the SDK can do with a repository beyond the documentation's examples, and what it is told when
// it cannot.

import assert from "node:assert/strict";
import { test } from "node:test";

import { account, failsWith, fileAccount } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("git api");

async function repository(files = { "a.txt": "1\n" }) {
  const { repo } = await freestyle.git.repos.create({
    import: { type: "files", files, commitMessage: "Begin" },
  });
  return repo;
}

const write = (path, content) => ({ message: `Write ${path}`, files: [{ path, content }] });

test("text, bytes and deletions in one commit", async () => {
  const repo = await repository({ old: "1", kept: "2" });
  const bytes = Buffer.from([0, 255, 10, 128]);
  const { commit } = await repo.commits.create({
    message: "Change",
    author: { name: "Ada", email: "ada@example.com" },
    files: [
      { path: "grüße/naïve café.txt", content: "ümläut\n" },
      { path: "bytes.bin", content: bytes.toString("base64"), encoding: "base64" },
      { path: "old", deleted: true },
    ],
  });
  assert.equal(commit.author.name, "Ada");
  assert.deepEqual(await repo.commits.get({ sha: commit.sha }), commit);

  const text = await repo.contents.get({ path: "grüße/naïve café.txt" });
  assert.equal(Buffer.from(text.content, "base64").toString(), "ümläut\n");
  const binary = await repo.contents.get({ path: "bytes.bin", rev: commit.sha });
  assert.deepEqual(Buffer.from(binary.content, "base64"), bytes);
  assert.deepEqual((await repo.blobs.get({ sha: binary.sha })).content, binary.content);
  const tree = await repo.trees.get({ sha: commit.tree.sha });
  assert.deepEqual(
    tree.tree.map(({ type, path }) => [type, path]),
    [
      ["blob", "bytes.bin"],
      ["tree", "grüße"],
      ["blob", "kept"],
    ],
  );
  await assert.rejects(
    repo.contents.get({ path: "old" }),
    failsWith("PATH_NOT_FOUND", { path: "old" }),
  );
  const root = await repo.contents.get();
  assert.deepEqual([root.type, root.path, root.entries.length], ["dir", "", 3]);
});

test("a hundred files, and a large one", async () => {
  const repo = await repository();
  const files = Array.from({ length: 100 }, (_, n) => ({ path: `f/${n}`, content: `${n}` }));
  const large = "x".repeat(20 << 20);
  await repo.commits.create({ message: "Many", files });
  await repo.commits.create(write("large", large));
  assert.equal((await repo.contents.get({ path: "f" })).entries.length, 100);
  const back = await repo.contents.get({ path: "large" });
  assert.equal(back.size, large.length);
  assert(Buffer.from(back.content, "base64").equals(Buffer.from(large)));
});

test("a hundred megabytes in one file are taken by the API", async () => {
  const repo = await repository();
  const size = 100 * 1000 * 1000;
  const content = Buffer.alloc(size, "x").toString("base64");
  await repo.commits.create({
    message: "Large",
    files: [{ path: "large", content, encoding: "base64" }],
  });
  const back = await repo.contents.get({ path: "large" });
  assert.equal(back.size, size);
  assert.equal(Buffer.from(back.content, "base64").length, size);
});

test("of writers who race, each is told whether it won", async () => {
  const repo = await repository();
  const { sha: expectedSha } = await repo.branches.get({ branchName: "main" });
  const racing = ["b", "c", "d", "e"].map((path) =>
    repo.commits.create({ ...write(path, "x"), branch: "main", expectedSha }),
  );
  const ended = await Promise.allSettled(racing);
  const lost = ended.filter(({ status }) => status === "rejected");
  assert.equal(lost.length, 3);
  const { commits } = await repo.commits.list({ limit: 1 });
  for (const { reason } of lost) {
    failsWith("CONFLICTING_PARENT", { expected: expectedSha })(reason);
    assert.match(reason.body.actual, /^[0-9a-f]{40}$/);
  }
  assert.equal(commits[0].parents[0].sha, expectedSha);
});

test("histories are compared and paged through", async () => {
  const repo = await repository();
  const { sha: base } = await repo.branches.get({ branchName: "main" });
  for (const n of [1, 2, 3]) await repo.commits.create(write("a.txt", `${n}\n`));
  const comparison = await repo.compare({ base, head: "main" });
  assert.deepEqual([comparison.status, comparison.ahead_by], ["ahead", 3]);
  assert.deepEqual(
    comparison.files.map(({ filename, status, additions, deletions }) => [
      filename,
      status,
      additions,
      deletions,
    ]),
    [["a.txt", "modified", 1, 1]],
  );
  const since = await repo.commits.list({ since: base, order: "asc", limit: 2 });
  assert.deepEqual([since.count, since.selector, since.commits[0].sha], [2, { Since: base }, base]);
  const rest = await repo.commits.list({ since: since.next_commit, order: "asc" });
  assert.equal(rest.count, 2);
  await assert.rejects(
    repo.commits.list({ since: base, offset: 1 }),
    failsWith("OFFSET_WITH_SELECTOR"),
  );
});

test("an empty repository says so to every call", async () => {
  const { repo } = await freestyle.git.repos.create({ name: "empty" });
  assert.deepEqual(await repo.branches.list(), { branches: [] });
  assert.deepEqual(await repo.tags.list(), { tags: [] });
  assert.equal((await repo.commits.list()).count, 0);
  const head = { reference: "HEAD" };
  for (const call of [
    () => repo.contents.get(),
    () => repo.contents.downloadTarball(),
    () => repo.contents.downloadZip(),
    () => repo.search({ query: "x" }),
    () => repo.searchFiles({ query: "x" }),
    () => repo.searchCommits({ query: "x" }),
    () => repo.searchDiffs({ query: "x" }),
  ]) {
    await assert.rejects(call, failsWith("REFERENCE_NOT_FOUND", head), `${call}`);
  }
  await assert.rejects(
    repo.compare({ base: "main", head: "main" }),
    failsWith("REFERENCE_NOT_FOUND"),
  );
  await repo.commits.create(write("first", "1"));
  assert.equal((await repo.contents.get({ path: "first" })).size, 1);
});

test("mistakes are told apart", async () => {
  const repo = await repository();
  const commit = (file) => () => repo.commits.create({ message: "m", files: [file] });
  const regex = "(x+x+)+y\\1";
  for (const [call, code] of [
    [commit({ path: "../x", content: "" }), "INVALID_FILE_PATH"],
    [commit({ path: ".git/config", content: "" }), "INVALID_FILE_PATH"],
    [commit({ path: "A.txt", content: "" }), "INVALID_FILE_PATH"],
    [commit({ path: "x" }), "INVALID_FILE_CHANGE"],
    [commit({ path: "x", content: "%", encoding: "base64" }), "INVALID_BASE64_CONTENT"],
    [() => repo.contents.get({ path: "a.txt", rev: "nowhere" }), "REFERENCE_NOT_FOUND"],
    [() => repo.contents.get({ path: "a.txt", rev: "a..b" }), "INVALID"],
    [() => repo.contents.get({ path: "a.txt", rev: "main~9" }), "INVALID_REVISION"],
    [() => repo.commits.get({ sha: "xyz" }), "INVALID_OBJECT_ID"],
    [() => repo.commits.list({ branch: "nowhere" }), "BRANCH_NOT_FOUND"],
    [() => repo.branches.get({ branchName: "no/where" }), "BRANCH_NOT_FOUND"],
    [() => repo.blobs.get({ sha: "0".repeat(40) }), "BLOB_NOT_FOUND"],
    [() => repo.trees.get({ sha: "0".repeat(40) }), "TREE_NOT_FOUND"],
    [() => repo.tags.getByHash({ sha: "0".repeat(40) }), "TAG_NOT_FOUND"],
    [() => repo.search({ query: "" }), "EMPTY_QUERY"],
    [() => repo.searchFiles({ query: "" }), "FILENAME_EMPTY_QUERY"],
    [() => repo.searchCommits({ query: "" }), "COMMIT_EMPTY_QUERY"],
    [() => repo.searchDiffs({ query: "" }), "DIFF_EMPTY_QUERY"],
    [() => repo.search({ query: regex, isRegex: true }), "INVALID_REGEX"],
    [() => repo.searchCommits({ query: regex, isRegex: true }), "COMMIT_INVALID_REGEX"],
    [() => repo.searchDiffs({ query: regex, isRegex: true }), "DIFF_INVALID_REGEX"],
    [() => repo.searchFiles({ query: "[" }), "FILENAME_INVALID_PATTERN"],
    [() => repo.search({ query: "x", pathPattern: "[" }), "INVALID_PATH_PATTERN"],
    [() => repo.branches.setDefaultBranch({ defaultBranch: "nowhere" }), "BRANCH_NOT_FOUND"],
    [() => freestyle.git.repos.create({ defaultBranch: "a b" }), "GIT_INVALID_REQUEST"],
  ]) {
    await assert.rejects(call, failsWith(code), `${call}`);
  }
});

test("a stranger sees nothing of a private repository and only reads a public one", async () => {
  const repo = await repository();
  const { freestyle: stranger } = await account("stranger");
  const theirs = stranger.git.repos.ref({ repoId: repo.repoId });
  const notFound = failsWith("REPOSITORY_NOT_FOUND", { repoId: repo.repoId });
  await assert.rejects(theirs.contents.get({ path: "a.txt" }), notFound);
  await assert.rejects(theirs.commits.create(write("a.txt", "mine")), notFound);
  await assert.rejects(stranger.git.repos.delete({ repoId: repo.repoId }), notFound);

  const { repo: open } = await freestyle.git.repos.create({
    public: true,
    import: { type: "files", files: { "a.txt": "1\n" }, commitMessage: "Begin" },
  });
  const read = stranger.git.repos.ref({ repoId: open.repoId });
  assert.equal((await read.contents.get({ path: "a.txt" })).size, 2);
  await assert.rejects(
    read.commits.create(write("a.txt", "mine")),
    failsWith("REPOSITORY_ACCESS_DENIED"),
  );
  assert.equal((await stranger.git.repos.list()).total, 0);
});
