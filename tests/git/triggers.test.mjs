// Webhooks: a real receiver, and the verification of the hosted service's documentation.

import assert from "node:assert/strict";
import crypto from "node:crypto";
import { after, test } from "node:test";

import { createRemoteJWKSet, jwtVerify } from "jose";

import { Git, cloneUrl } from "../support/git.mjs";
import { Receiver } from "../support/receiver.mjs";
import { GIT_URL, admin, client, eventually, failsWith, fileAccount } from "../support/sdk.mjs";
import { freestyle as cli, withDataDir } from "../support/server.mjs";

const { freestyle, key } = await fileAccount("triggers");
const git = new Git();
after(git.remove);

async function receiver() {
  const started = await Receiver.start();
  after(started.close);
  return started;
}

function webhook(endpoint) {
  return { action: "webhook", endpoint };
}

// As documented, but for the host.
async function verifyWebhook(request, gitUrl = GIT_URL) {
  const JWKS = createRemoteJWKSet(new URL(`${gitUrl}/.well-known/jwks.json`));
  const signature = request.headers["x-freestyle-signature"];
  if (!signature) throw new Error("Missing signature");
  const bodyText = request.body;
  const { payload } = await jwtVerify(signature, JWKS, {
    algorithms: ["EdDSA"],
  });
  const bodyHash = crypto.createHash("sha256").update(bodyText).digest("hex");
  if (payload.body_sha256 !== bodyHash) {
    throw new Error("Payload verification failed");
  }
  return JSON.parse(bodyText);
}

test("the documented trigger: made, delivered, verified, listed, deleted", async () => {
  const hook = await receiver();
  const { repoId, repo } = await freestyle.git.repos.create({
    name: "automation",
  });

  const { triggerId } = await repo.triggers.create({
    trigger: {
      event: "push",
      branches: ["main"],
      globs: ["*.js"],
    },
    action: webhook(hook.url),
  });
  const { triggers } = await repo.triggers.list();
  assert.deepEqual(
    triggers.map(({ createdAt, ...rest }) => rest),
    [
      {
        id: triggerId,
        repositoryId: repoId,
        trigger: { event: "push", branches: ["main"], globs: ["*.js"] },
        action: webhook(hook.url),
        managed: false,
      },
    ],
  );

  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, key.secret, repoId), "automation");
  await git.commit("automation", "README.md", "not meant");
  await git.ok("automation", "push", "-q", "origin", "main");
  const commit = await git.commit("automation", "src.js", "1");
  await git.ok("automation", "push", "-q", "origin", "main", "main:other");

  const received = await hook.next();
  assert.deepEqual(await verifyWebhook(received), {
    event: "branchUpdate",
    repoId,
    branch: "main",
    commit,
  });
  assert.equal(received.headers["content-type"], "application/json");
  const forged = { ...received, body: received.body.replace("main", "evil") };
  await assert.rejects(verifyWebhook(forged), /Payload verification failed/);

  await repo.triggers.delete({
    triggerId,
  });
  assert.deepEqual((await repo.triggers.list()).triggers, []);
  await assert.rejects(repo.triggers.delete({ triggerId }));
});

test("whoever moves a branch, it is told, in order", async () => {
  const hook = await receiver();
  const { repoId, repo } = await freestyle.git.repos.create({});
  await repo.triggers.create({ trigger: { event: "push" }, action: webhook(hook.url) });
  hook.statuses.push(500);
  const commits = [];
  for (let n = 0; n < 3; n++) {
    const { commit } = await repo.commits.create({ message: `${n}`, files: [] });
    commits.push(commit.sha);
  }
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, key.secret, repoId), "order");
  commits.push(await git.commit("order", "x", "1"));
  await git.ok("order", "push", "-q", "origin", "main");
  // The first is tried again before any other.
  assert.deepEqual(await hook.commits(5), [commits[0], ...commits]);
});

test("endpoints that must not be reached are refused", async () => {
  const { repo } = await freestyle.git.repos.create({});
  const create = (endpoint) =>
    repo.triggers.create({ trigger: { event: "push" }, action: webhook(endpoint) });
  for (const endpoint of [
    "http://169.254.169.254/latest",
    "http://192.168.1.1/",
    "http://[::1]/",
    "https://user:secret@example.com/",
    "ftp://example.com/",
    "not a url",
  ]) {
    await assert.rejects(create(endpoint), failsWith("GIT_INVALID_REQUEST"), endpoint);
  }
  const bad = { trigger: { event: "push", globs: ["a["] }, action: webhook("https://x.invalid/") };
  await assert.rejects(repo.triggers.create(bad), failsWith("GIT_INVALID_REQUEST"));
  // One whose name does not resolve yet is not.
  await create("https://your-webhook-url.invalid");
});

test("the own CLI makes, lists, looks into, redelivers and deletes", async () => {
  const hook = await receiver();
  const { repoId, repo } = await freestyle.git.repos.create({});
  const env = { FREESTYLE_API_KEY: key.secret, FREESTYLE_API_URL: process.env.FREESTYLE_API_URL };
  const trigger = async (...args) => {
    const { code, stdout, stderr } = await cli(["git", "trigger", ...args], { env });
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  const id = await trigger("create", repoId, hook.url, "--branch", "main");
  const { commit } = await repo.commits.create({ message: "x", files: [] });
  assert.deepEqual(await hook.commits(1), [commit.sha]);
  assert.match(await trigger("list", repoId), new RegExp(`${id} +${hook.url} +main +all`));
  const deliveries = async () =>
    JSON.parse(await trigger("deliveries", repoId, id, "--json")).deliveries;
  const delivered = await eventually("it is delivered", async () => {
    const [newest] = await deliveries();
    return newest.state === "delivered" && newest;
  });
  assert.equal(delivered.attempts[0].status, 200);

  const again = await trigger("redeliver", repoId, id, delivered.id);
  const repeated = await hook.next();
  assert.equal(repeated.headers["x-freestyle-delivery"], again);
  assert.equal(repeated.payload.commit, commit.sha);
  assert.match(await trigger("deliveries", repoId, id), new RegExp(`${again} .*main`));
  await trigger("delete", repoId, id);
  assert.equal((await repo.triggers.list()).triggers.length, 0);
});

test("a server that is killed delivers what it acknowledged, and keys outlive it", async () => {
  const hook = await Receiver.start();
  // A port where nobody listens until the server was killed.
  const endpoint = hook.url;
  hook.close();
  after(hook.close);
  await withDataDir(async (server) => {
    const env = { FREESTYLE_ALLOW_TARGET: "127.0.0.0/8", FREESTYLE_WEBHOOK_RETRY_TIME: "600" };
    await server.launch({ poolSize: 0, env });
    const freestyle = client(server.apiKey, server.url);
    const { repoId, repo } = await freestyle.git.repos.create({});
    await repo.triggers.create({ trigger: { event: "push" }, action: webhook(endpoint) });
    await git.ok(".", "clone", "-q", cloneUrl(server.gitUrl, server.apiKey, repoId), "killed");
    const commits = [];
    for (let n = 0; n < 3; n++) {
      commits.push(await git.commit("killed", "x", `${n}`));
      await git.ok("killed", "push", "-q", "origin", "main");
    }
    await server.kill();
    const keys = await admin(server.dataDir, "git", "rotate-key");
    assert.deepEqual(keys, { rotated: true });

    const port = new URL(endpoint).port;
    hook.server.listen(port, "127.0.0.1");
    await server.launch({ poolSize: 0, env });
    const first = await hook.next();
    const payload = await verifyWebhook(first, server.gitUrl);
    const told = [payload.commit, ...(await hook.commits(2))];
    // At least once, and in order.
    assert.deepEqual(told, commits);
    const jwks = await (await fetch(`${server.gitUrl}/.well-known/jwks.json`)).json();
    assert.equal(jwks.keys.length, 2);
  });
});

test("what fails for too long is dead, in the log, and can be delivered after all", async () => {
  const hook = await receiver();
  hook.statuses.push(...Array(10).fill(503));
  await withDataDir(async (server) => {
    const env = { FREESTYLE_ALLOW_TARGET: "127.0.0.0/8", FREESTYLE_WEBHOOK_RETRY_TIME: "2" };
    await server.launch({ poolSize: 0, env });
    const freestyle = client(server.apiKey, server.url);
    const { repoId, repo } = await freestyle.git.repos.create({});
    const { triggerId } = await repo.triggers.create({
      trigger: { event: "push" },
      action: webhook(hook.url),
    });
    await repo.commits.create({ message: "x", files: [] });
    const at = `${server.url}/git/v1/repo/${repoId}/trigger/${triggerId}/deliveries`;
    const headers = { authorization: `Bearer ${server.apiKey}` };
    const dead = await eventually("it is given up", async () => {
      const { deliveries } = await (await fetch(at, { headers })).json();
      return deliveries[0]?.state === "dead" && deliveries[0];
    });
    assert.equal(dead.attempts.length, 10);
    assert.match(dead.failure, /503/);
    await hook.commits(10);
    const again = await fetch(`${at}/${dead.id}/redeliver`, { method: "POST", headers });
    assert.equal(again.status, 200);
    await hook.commits(1);
    await freestyle.git.repos.delete({ repoId });
  });
});
