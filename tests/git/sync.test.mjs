// Sync with GitHub, against a stand-in for its API whose repositories are git's own.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";

import { Git, cloneUrl } from "../support/git.mjs";
import { GitHub } from "../support/github.mjs";
import { Receiver } from "../support/receiver.mjs";
import { API_URL, GIT_URL, eventually, failsWith, fileAccount } from "../support/sdk.mjs";
import { freestyle as cli } from "../support/server.mjs";

const { freestyle, key } = await fileAccount("github");
const headers = { authorization: `Bearer ${key.secret}` };
const github = await GitHub.start();
const git = new Git();
after(github.close);
after(git.remove);
github.webhookUrl = `${API_URL}/git/v1/github/webhook`;

async function own(...args) {
  const env = { FREESTYLE_API_KEY: key.secret, FREESTYLE_API_URL: API_URL };
  const { code, stdout, stderr } = await cli(["git", "sync", ...args], { env });
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

before(async () => {
  writeFileSync(git.path("app.pem"), github.privateKey);
  writeFileSync(git.path("secret"), `${github.webhookSecret}\n`);
  const files = ["--private-key", git.path("app.pem"), "--webhook-secret", git.path("secret")];
  await own("app", "set", "--id", github.appId, ...files, "--api-url", github.url);
});

/** What the API says of a sync, with all that the SDK does not know. */
async function sync(repoId) {
  const answer = await fetch(`${API_URL}/git/v1/repo/${repoId}/github-sync`, { headers });
  assert.equal(answer.status, 200);
  return answer.json();
}

function settled(repoId, state) {
  return eventually(`the sync is ${state}`, async () => {
    const now = await sync(repoId);
    return now.state === state && now;
  });
}

/** Branches and tags here. */
async function refs(repoId) {
  const listed = await git.ok(".", "ls-remote", "--refs", cloneUrl(GIT_URL, key.secret, repoId));
  const lines = listed.split("\n").filter(Boolean);
  return Object.fromEntries(lines.map((line) => line.split("\t").reverse()));
}

async function areEqual(repoId, name, expected) {
  return eventually("both sides are equal", async () => {
    const [here, there] = [await refs(repoId), await github.refs(name)];
    const visible = Object.entries(there).sort();
    const equal = JSON.stringify(Object.entries(here).sort()) === JSON.stringify(visible);
    return equal && (!expected || expected(here)) && here;
  });
}

/** Waits until no sync follows on another; answers how many there were so far. */
async function quiet() {
  for (;;) {
    const before = github.tokens;
    await new Promise((resolve) => setTimeout(resolve, 2000));
    if (github.tokens === before) return before;
  }
}

/** A synced pair with a clone of each side. */
async function pair(name) {
  await github.create(name);
  const { repoId, repo } = await freestyle.git.repos.create({ name });
  const dir = name.replace("/", "-");
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, key.secret, repoId), `${dir}-here`);
  await git.ok(".", "clone", "-q", github.path(name), `${dir}-there`);
  await git.commit(`${dir}-here`, "README.md", "1");
  await git.ok(`${dir}-here`, "push", "-q", "origin", "main");
  await repo.githubSync.enable({ githubRepoName: name });
  await areEqual(repoId, name, (here) => here["refs/heads/main"]);
  await git.ok(`${dir}-there`, "pull", "-q", "origin", "main");
  // A push to a directory is not one to the stand-in, which has to be told.
  const pushThere = async (...args) => {
    await git.ok(`${dir}-there`, "push", "-q", "origin", ...args);
    assert.equal((await github.tell(name)).status, 200);
  };
  return { repoId, repo, here: `${dir}-here`, there: `${dir}-there`, pushThere };
}

test("the documented way: enabled, told, disabled", async () => {
  await github.create("owner/repo");
  const { repo } = await freestyle.git.repos.create({
    name: "synced-repo",
  });
  assert.equal(await repo.githubSync.get(), null);

  await repo.githubSync.enable({
    githubRepoName: "owner/repo",
  });

  const syncConfig = await repo.githubSync.get();
  assert.equal(syncConfig?.githubRepoName, "owner/repo");

  await repo.githubSync.disable();
  assert.equal(await repo.githubSync.get(), null);
});

test("branches, tags and deletions go both ways, and no further", async () => {
  const { repoId, here, there, pushThere } = await pair("owner/both");
  const name = "owner/both";
  // From here.
  await git.commit(here, "a", "1");
  await git.ok(here, "tag", "-a", "v1", "-m", "x");
  await git.ok(here, "push", "-q", "origin", "main", "main:feature/x", "v1");
  await areEqual(repoId, name, (refs) => refs["refs/tags/v1"] && refs["refs/heads/feature/x"]);
  // From there.
  await git.ok(there, "pull", "-q", "origin", "main");
  const head = await git.commit(there, "b", "1");
  await pushThere("main", "main:other", ":feature/x");
  await areEqual(
    repoId,
    name,
    (refs) =>
      refs["refs/heads/main"] === head &&
      refs["refs/heads/other"] === head &&
      !refs["refs/heads/feature/x"],
  );
  await git.ok(here, "push", "-q", "origin", ":other", ":v1");
  await areEqual(repoId, name, (refs) => Object.keys(refs).length === 1);

  // What a sync pushes is told to us by GitHub, and sets off one more that does nothing.
  const before = await quiet();
  assert.equal((await github.tell(name)).status, 200);
  await eventually("GitHub's word was heard", () => github.tokens > before);
  assert.equal(await quiet(), before + 1);
  await settled(repoId, "synced");
});

test("what diverges is told, overwrites nothing, and goes on once it is resolved", async () => {
  const { repoId, here, there, pushThere } = await pair("owner/diverged");
  await quiet(); // Or what is pushed there first is taken over before anything is pushed here.
  const ours = await git.commit(here, "here", "1");
  const theirs = await git.commit(there, "there", "1");
  await git.ok(there, "push", "-q", "origin", "main");
  await git.ok(here, "push", "-q", "origin", "main");
  const { conflicts } = await settled(repoId, "conflict");
  assert.deepEqual(
    conflicts.map(({ reason, ...rest }) => rest),
    [{ name: "refs/heads/main", here: ours, github: theirs }],
  );
  assert.match(await own("get", repoId), /refs\/heads\/main .*both sides have commits/);
  // Everything else is synced all the same.
  await git.ok(here, "push", "-q", "origin", "main:aside");
  await eventually("the other branch is there", async () => {
    const refs = await github.refs("owner/diverged");
    return refs["refs/heads/aside"] === ours && refs["refs/heads/main"] === theirs;
  });

  await git.ok(there, "fetch", "-q", "origin", "aside");
  await git.ok(there, "merge", "-q", "-m", "merged", "FETCH_HEAD");
  await pushThere("main");
  const merged = await git.ok(there, "rev-parse", "HEAD");
  await areEqual(repoId, "owner/diverged", (refs) => refs["refs/heads/main"] === merged);
  assert.deepEqual((await settled(repoId, "synced")).conflicts, []);
});

test("a history that was rewritten on one side is not rewritten on the other", async () => {
  const { repoId, here, there, pushThere } = await pair("owner/rewritten");
  const before = await git.commit(here, "a", "1");
  await git.ok(here, "push", "-q", "origin", "main");
  await areEqual(repoId, "owner/rewritten", (refs) => refs["refs/heads/main"] === before);
  await git.ok(there, "pull", "-q", "origin", "main");
  await git.ok(there, "commit", "-q", "--amend", "-m", "rewritten");
  await pushThere("--force", "main");
  const { conflicts } = await settled(repoId, "conflict");
  assert.match(conflicts[0].reason, /rewritten/);
  assert.equal((await refs(repoId))["refs/heads/main"], before);
});

test("what one side deletes and the other changes is told, and can be put back", async () => {
  const { repoId, here, there, pushThere } = await pair("owner/deleted");
  await git.ok(here, "push", "-q", "origin", "main:topic");
  await areEqual(repoId, "owner/deleted", (refs) => refs["refs/heads/topic"]);
  await quiet();
  await git.ok(there, "fetch", "-q", "origin");
  const theirs = await git.commit(there, "there", "1");
  await git.ok(there, "push", "-q", "origin", "main:topic");
  await git.ok(here, "push", "-q", "origin", ":topic");
  const { conflicts } = await settled(repoId, "conflict");
  assert.deepEqual(
    conflicts.map(({ name, here, github }) => [name, here, github]),
    [["refs/heads/topic", null, theirs]],
  );
  await pushThere(":topic");
  await areEqual(repoId, "owner/deleted", (refs) => !refs["refs/heads/topic"]);
  assert.deepEqual((await settled(repoId, "synced")).conflicts, []);
});

test("a tag that was moved stays where it is on the other side", async () => {
  const { repoId, here, there, pushThere } = await pair("owner/tags");
  await git.ok(here, "tag", "v1");
  await git.ok(here, "push", "-q", "origin", "v1");
  const before = (await areEqual(repoId, "owner/tags", (refs) => refs["refs/tags/v1"]))["refs/tags/v1"];
  await git.commit(there, "there", "1");
  await git.ok(there, "tag", "v1");
  await pushThere("--force", "main", "v1");
  const { conflicts } = await settled(repoId, "conflict");
  assert.deepEqual(conflicts.map(({ name }) => name), ["refs/tags/v1"]);
  assert.equal((await refs(repoId))["refs/tags/v1"], before);
});

test("an empty repository takes over everything, the default branch too", async () => {
  const name = "owner/begun";
  await github.create(name, "trunk");
  await git.ok(".", "clone", "-q", github.path(name), "begun");
  await git.commit("begun", "a", "1");
  await git.ok("begun", "push", "-q", "origin", "HEAD:trunk", "HEAD:deep/er/branch");
  const { repoId, repo } = await freestyle.git.repos.create({});
  await repo.githubSync.enable({ githubRepoName: name });
  await areEqual(repoId, name, (refs) => refs["refs/heads/deep/er/branch"]);
  assert.equal((await repo.branches.getDefaultBranch()).defaultBranch, "trunk");
});

test("while GitHub is away the failure is told, and nothing that was pushed meanwhile is forgotten", async () => {
  const { repoId, here } = await pair("owner/away");
  // A sync that is under way would be cut off, and fail with other words.
  await quiet();
  github.isAway = true;
  const head = await git.commit(here, "a", "1");
  await git.ok(here, "push", "-q", "origin", "main");
  const { error } = await settled(repoId, "failed");
  assert.match(error, /503/);
  assert.match(await own("get", repoId), /failed/);
  github.isAway = false;
  assert.equal((await github.tell("owner/away")).status, 200);
  await areEqual(repoId, "owner/away", (refs) => refs["refs/heads/main"] === head);
  assert.equal((await settled(repoId, "synced")).error, undefined);
});

test("one branch that GitHub refuses does not hold back the others", async () => {
  const name = "owner/picky";
  const { repoId, here } = await pair(name);
  github.refusePushesTo(name, "refs/heads/secret");
  await git.commit(here, "a", "1");
  await git.ok(here, "push", "-q", "origin", "main:secret", "main:good", "main:better");
  const { conflicts } = await settled(repoId, "conflict");
  assert.deepEqual(conflicts.map((conflict) => conflict.name), ["refs/heads/secret"]);
  assert.match(conflicts[0].reason, /declined/);
  const there = await github.refs(name);
  assert(there["refs/heads/good"] && there["refs/heads/better"] && !there["refs/heads/secret"]);
});

test("what comes from GitHub sets off triggers", async () => {
  const { repo, there, pushThere } = await pair("owner/triggers");
  const hook = await Receiver.start();
  after(hook.close);
  await repo.triggers.create({
    trigger: { event: "push", branches: ["main"] },
    action: { action: "webhook", endpoint: hook.url },
  });
  const head = await git.commit(there, "x", "1");
  await pushThere("main");
  assert.deepEqual(await hook.commits(1), [head]);
});

test("an app that is not what it says, or not installed, is refused", async () => {
  const { repo } = await freestyle.git.repos.create({});
  await assert.rejects(
    repo.githubSync.enable({ githubRepoName: "owner/unknown" }),
    failsWith("GIT_INVALID_REQUEST"),
  );
  for (const bad of ["owner", "a/b/c", "../x", "a/.."]) {
    await assert.rejects(
      repo.githubSync.enable({ githubRepoName: bad }),
      failsWith("GIT_INVALID_REQUEST"),
    );
  }
  await assert.rejects(
    repo.githubSync.enable({ githubRepoName: "owner/both" }),
    failsWith("GIT_HUB_SYNC_CONFLICT"),
  );
  const other = await fileAccount("github without app");
  const theirs = await other.freestyle.git.repos.create({});
  await assert.rejects(
    theirs.repo.githubSync.enable({ githubRepoName: "owner/both" }),
    failsWith("GIT_INVALID_REQUEST"),
  );
  const app = { appId: "1", privateKey: "no key", webhookSecret: "x" };
  const answer = await fetch(`${API_URL}/git/v1/github/app`, {
    method: "PUT",
    headers: { ...headers, "content-type": "application/json" },
    body: JSON.stringify(app),
  });
  assert.equal(answer.status, 400);
  const shown = await (await fetch(`${API_URL}/git/v1/github/app`, { headers })).text();
  assert(!shown.includes("PRIVATE KEY") && !shown.includes(github.webhookSecret), shown);
});

test("a webhook that GitHub did not sign is refused", async () => {
  const before = github.tokens;
  assert.equal((await github.tell("owner/both", { secret: "guessed" })).status, 401);
  assert.equal((await github.tell("owner/both", { appId: "654321" })).status, 401);
  // One that is signed by somebody else's app is about that account's repositories alone.
  const other = await fileAccount("github of another");
  const app = { appId: "77", privateKey: github.privateKey, webhookSecret: "theirs" };
  const answer = await fetch(`${API_URL}/git/v1/github/app`, {
    method: "PUT",
    headers: { authorization: `Bearer ${other.key.secret}`, "content-type": "application/json" },
    body: JSON.stringify({ ...app, apiUrl: github.url }),
  });
  assert.equal(answer.status, 200);
  assert.equal((await github.tell("owner/both", { appId: "77", secret: "theirs" })).status, 200);
  assert.equal((await github.tell("owner/both", { appId: "77" })).status, 401);
  assert.equal(github.tokens, before);
  const unsigned = await fetch(github.webhookUrl, { method: "POST", body: "{}" });
  assert.equal(unsigned.status, 400);
});
