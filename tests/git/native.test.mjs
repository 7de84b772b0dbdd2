// Native git against the git host, with what the SDK gives out: identities, grants and tokens.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { after, test } from "node:test";

import { Git, cloneUrl } from "../support/git.mjs";
import { run } from "../support/process.mjs";
import { API_URL, GIT_URL, fileAccount } from "../support/sdk.mjs";
import { FREESTYLE } from "../support/server.mjs";

const { freestyle, key } = await fileAccount("native git");
const git = new Git();
after(git.remove);

/** A repository with a commit, made through the API. */
async function filled(options = {}) {
  const { repoId, repo } = await freestyle.git.repos.create(options);
  await repo.commits.create({ message: "Begin", files: [{ path: "README.md", content: "hi\n" }] });
  return { repoId, repo };
}

/** An identity that may do this with a repository, and its token. */
async function user(repoId, permission) {
  const { identity } = await freestyle.identities.create();
  if (permission) await identity.permissions.git.grant({ permission, repoId });
  const { token, tokenId } = await identity.tokens.create();
  return { identity, token, tokenId };
}

test("the documented way: an identity, a grant, a token, git clone", async () => {
  const { repoId, repo } = await filled({ name: "my-repo" });
  const { token } = await user(repoId, "write");
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, token, repoId), "documented");
  const head = await git.commit("documented", "src.js", "1\n");
  await git.ok("documented", "push", "-q", "origin", "main");
  assert.equal((await repo.branches.get({ branchName: "main" })).sha, head);

  const header = `http.extraHeader=Authorization: Bearer ${key.secret}`;
  await git.ok(".", "-c", header, "clone", "-q", `${GIT_URL}/${repoId}`, "with-key");
  assert.equal(await git.ok("with-key", "rev-parse", "HEAD"), head);

  // What the API commits is fetched, and the other way round.
  const { commit } = await repo.commits.create({
    message: "By API",
    files: [{ path: "by-api", content: "" }],
  });
  await git.ok("documented", "pull", "-q", "--ff-only");
  assert.equal(await git.ok("documented", "rev-parse", "HEAD"), commit.sha);
});

test("who may only read is told so, and who may nothing is told nothing", async () => {
  const { repoId } = await filled();
  const reader = await user(repoId, "read");
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, reader.token, repoId), "reader");
  await git.commit("reader", "more", "");
  assert.match(await git.refused("reader", "push"), /You may read this repository/);

  const stranger = await user(repoId);
  const said = async (id) => {
    const text = await git.refused(".", "clone", cloneUrl(GIT_URL, stranger.token, id), "x");
    return text.replaceAll(id, "ID");
  };
  const unknown = "00000000-0000-4000-8000-000000000000";
  assert.equal(await said(repoId), await said(unknown));
  assert.match(await said(repoId), /remote: There is no such repository/);
  assert.match(await git.refused(".", "clone", `${GIT_URL}/${repoId}`, "x"), /could not read Username/);
});

test("a public repository is cloned by all and pushed to by few", async () => {
  const { repoId } = await filled({ public: true });
  await git.ok(".", "clone", "-q", `${GIT_URL}/${repoId}.git`, "public");
  await git.commit("public", "more", "");
  assert.match(await git.refused("public", "push"), /could not read Username/);
  const stranger = await user(repoId);
  const url = cloneUrl(GIT_URL, stranger.token, repoId);
  assert.match(await git.refused("public", "push", url, "main"), /not push to it/);
  const writer = await user(repoId, "write");
  await git.ok("public", "push", "-q", cloneUrl(GIT_URL, writer.token, repoId), "main");
});

test("a token or a grant that is revoked ends at once", async () => {
  const { repoId } = await filled();
  const writer = await user(repoId, "write");
  await git.ok(".", "clone", "-q", cloneUrl(GIT_URL, writer.token, repoId), "revoked");
  await writer.identity.permissions.git.revoke({ repoId });
  assert.match(await git.refused("revoked", "fetch"), /no such repository/);
  await writer.identity.permissions.git.grant({ permission: "read", repoId });
  await git.ok("revoked", "fetch");
  await writer.identity.tokens.revoke({ tokenId: writer.tokenId });
  assert.match(await git.refused("revoked", "fetch"), /unknown or was revoked/);
});

test("shallow, partial, forced, atomic", async () => {
  const { repoId } = await filled();
  const url = cloneUrl(GIT_URL, key.secret, repoId);
  await git.ok(".", "clone", "-q", url, "full");
  for (let n = 0; n < 5; n++) await git.commit("full", "file", `${n}\n`);
  await git.ok("full", "push", "-q");
  await git.ok(".", "clone", "-q", "--depth", "2", url, "shallow");
  assert.equal(await git.ok("shallow", "rev-list", "--count", "HEAD"), "2");
  await git.ok("shallow", "fetch", "-q", "--unshallow");
  assert.equal(await git.ok("shallow", "rev-list", "--count", "HEAD"), "6");
  await git.ok(".", "clone", "-q", "--filter=blob:none", url, "partial");
  assert.equal(await git.ok("partial", "show", "HEAD~2:file"), "2");

  await git.ok("full", "reset", "-q", "--hard", "HEAD~1");
  const other = await git.commit("full", "other", "");
  assert.match(await git.refused("full", "push"), /non-fast-forward/);
  await git.ok("full", "push", "-q", "--force-with-lease");
  assert.match(await git.ok("full", "ls-remote", "origin", "main"), new RegExp(`^${other}`));
  await git.refused("full", "push", "--atomic", "origin", "main:a", "main:main/sub");
  assert.equal(await git.ok("full", "ls-remote", "origin", "a"), "");
});

test("freestyle git clone needs no credential in the URL, and stores none", async () => {
  const { repoId } = await filled();
  const env = { ...git.env, FREESTYLE_API_KEY: key.secret, FREESTYLE_API_URL: API_URL };
  const cloned = await run(FREESTYLE, ["git", "clone", repoId, "own", "--", "-q"], {
    cwd: git.dir,
    env,
  });
  assert.equal(cloned.code, 0, cloned.stderr);
  const config = await git.ok("own", "config", "--list", "--local");
  assert(!config.includes(key.secret), config);
  const head = await git.commit("own", "more", "");
  const pushed = await run("git", ["push", "-q"], { cwd: git.path("own"), env });
  assert.equal(pushed.code, 0, pushed.stderr);
  assert.match(await git.ok(".", "ls-remote", cloneUrl(GIT_URL, key.secret, repoId)), new RegExp(head));

  const missing = await run(FREESTYLE, ["git", "clone", "00000000-0000-4000-8000-000000000000"], {
    cwd: git.dir,
    env,
  });
  assert.notEqual(missing.code, 0);
  assert.match(missing.stderr, /There is no such repository/);
});

test("the credential helper serves plain git, for this host only", async () => {
  const { repoId } = await filled();
  const helper = `credential.${GIT_URL}.helper=!'${FREESTYLE}' git credential`;
  const env = { ...git.env, FREESTYLE_API_KEY: key.secret, FREESTYLE_API_URL: API_URL };
  const args = ["-c", helper, "clone", "-q", `${GIT_URL}/${repoId}`, "helped"];
  const cloned = await run("git", args, { cwd: git.dir, env });
  assert.equal(cloned.code, 0, cloned.stderr);

  const ask = async (host, cwd, extra = {}) => {
    const script = `printf 'protocol=http\\nhost=${host}\\n\\n' | '${FREESTYLE}' git credential get`;
    return run("sh", ["-c", script], { cwd: git.path(cwd), env: { ...env, ...extra } });
  };
  const { host } = new URL(GIT_URL);
  assert.equal((await ask(host, ".")).stdout, `username=x-access-token\npassword=${key.secret}\n`);
  assert.equal((await ask("github.com", ".")).stdout, "");
  // A repository cannot have the key sent to a server of its choice.
  writeFileSync(git.path("helped", ".env"), "FREESTYLE_API_URL=http://127.0.0.1:1\n");
  assert.equal((await ask(host, "helped", { FREESTYLE_API_URL: "" })).stdout, "");
  assert.match((await ask(host, "helped")).stdout, /password=/);

  // A token that git was given once is kept.
  const { token } = await user(repoId, "read");
  const without = { ...git.env, FREESTYLE_API_KEY: "", FREESTYLE_API_URL: "" };
  const asked = { ...without, GIT_ASKPASS: git.path("askpass") };
  writeFileSync(git.path("askpass"), `#!/bin/sh\necho '${token}'\n`, { mode: 0o755 });
  const first = await run("git", ["-c", helper, "ls-remote", `${GIT_URL}/${repoId}`], {
    cwd: git.dir,
    env: asked,
  });
  assert.equal(first.code, 0, first.stderr);
  const second = await run("git", ["-c", helper, "ls-remote", `${GIT_URL}/${repoId}`], {
    cwd: git.dir,
    env: without,
  });
  assert.equal(second.code, 0, second.stderr);
});
