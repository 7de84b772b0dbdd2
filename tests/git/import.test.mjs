// Repositories that begin with the history of another: here of the git host itself, which the
// operator of this run has allowed.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, test } from "node:test";

import { Git, cloneUrl } from "../support/git.mjs";
import { GIT_URL, failsWith, fileAccount } from "../support/sdk.mjs";

const { freestyle, key } = await fileAccount("import");
const git = new Git();
after(git.remove);

const source = await freestyle.git.repos.create({ public: true });
const sourceUrl = `${GIT_URL}/${source.repoId}`;
await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, key.secret, source.repoId), "source");
for (let n = 0; n < 4; n++) await git.commit("source", "file", `${n}\n`);
await git.ok("source", "tag", "-a", "v1", "-m", "first");
await git.ok("source", "push", "-q", "origin", "main", "main:refs/heads/feature/x", "v1");
const head = await git.ok("source", "rev-parse", "HEAD");

async function refs(repoId) {
  const listed = await git.ok(".", "ls-remote", "--refs", cloneUrl(GIT_URL, key.secret, repoId));
  return listed.split("\n").map((line) => line.split("\t")[1]);
}

test("the documented way: a source with its history", async () => {
  const { repoId, repo } = await freestyle.git.repos.create({
    source: { url: sourceUrl, rev: "main" },
  });
  assert.deepEqual(await refs(repoId), ["refs/heads/main", "refs/tags/v1"]);
  assert.equal((await repo.branches.getDefaultBranch()).defaultBranch, "main");
  const { commits } = await repo.commits.list();
  assert.deepEqual([commits.length, commits[0].sha], [4, head]);
});

test("another branch, all branches, a few commits only", async () => {
  const named = await freestyle.git.repos.create({
    source: { url: sourceUrl, rev: "feature/x" },
  });
  assert.equal((await named.repo.branches.getDefaultBranch()).defaultBranch, "feature/x");
  const all = await freestyle.git.repos.create({ source: { url: sourceUrl, allBranches: true } });
  assert.equal((await refs(all.repoId)).length, 3);
  const shallow = await freestyle.git.repos.create({ source: { url: sourceUrl, depth: 2 } });
  assert.equal((await shallow.repo.commits.list()).commits.length, 2);
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, key.secret, shallow.repoId), "shallow");
  assert.equal(await git.ok("shallow", "rev-list", "--count", "HEAD"), "2");
});

test("a private source needs its credential, which is kept nowhere", async () => {
  const hidden = await freestyle.git.repos.create({});
  await hidden.repo.commits.create({ message: "x", files: [{ path: "a", content: "" }] });
  const url = `${GIT_URL}/${hidden.repoId}`;
  await assert.rejects(
    freestyle.git.repos.create({ source: { url } }),
    failsWith("SOURCE_UNAUTHORIZED", { url }),
  );
  const { repo } = await freestyle.git.repos.create({
    source: { url: cloneUrl(GIT_URL, key.secret, hidden.repoId) },
  });
  assert.equal((await repo.commits.list()).commits.length, 1);
  const wrong = cloneUrl(GIT_URL, "fsi_wrong", hidden.repoId);
  await assert.rejects(freestyle.git.repos.create({ source: { url: wrong } }), (error) => {
    assert(!error.message.includes("fsi_wrong"));
    return failsWith("SOURCE_UNAUTHORIZED", { url })(error);
  });
});

test("what is not there, or must not be reached, is told apart", async () => {
  const { total } = await freestyle.git.repos.list({});
  const create = (source) => freestyle.git.repos.create({ source });
  const url = `${GIT_URL}/00000000-0000-4000-8000-000000000000`;
  const missing = cloneUrl(GIT_URL, key.secret, "00000000-0000-4000-8000-000000000000");
  await assert.rejects(create({ url: missing }), failsWith("SOURCE_NOT_FOUND", { url }));
  await assert.rejects(
    create({ url: "http://does-not-exist.invalid/x" }),
    failsWith("SOURCE_NOT_FOUND"),
  );
  await assert.rejects(create({ url: "http://127.0.0.1:1/x" }), failsWith("SOURCE_NOT_FOUND"));
  await assert.rejects(
    create({ url: sourceUrl, rev: "nothing" }),
    failsWith("INVALID_REVISION", { revision: "nothing" }),
  );
  for (const refused of [
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/x",
    "http://[::1]/x",
    "file:///etc",
    "ssh://git@example.com/x",
    "ext::sh -c id",
    "--upload-pack=id",
    "/srv/git/x",
  ]) {
    await assert.rejects(create({ url: refused }), failsWith("GIT_INVALID_REQUEST"), refused);
  }
  assert.equal((await freestyle.git.repos.list({})).total, total);
});

test("a source cannot send git to an address that is not allowed", async () => {
  const asked = [];
  const redirects = createServer((request, response) => {
    asked.push(request.url);
    response.writeHead(302, { location: "http://169.254.169.254/x/info/refs" }).end();
  }).listen(0, "127.0.0.1");
  await once(redirects, "listening");
  after(() => redirects.close());
  const url = `http://127.0.0.1:${redirects.address().port}/x`;
  await assert.rejects(
    freestyle.git.repos.create({ source: { url } }),
    failsWith("GIT_INVALID_REQUEST"),
  );
  assert.deepEqual(asked, ["/x/info/refs?service=git-upload-pack"]);
});
