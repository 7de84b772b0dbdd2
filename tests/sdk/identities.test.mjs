// End users: what a client with an access token may do, and until when.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  account,
  admin,
  client,
  DATA_DIR,
  eventually,
  failsWith,
  fileAccount,
  session,
  sh,
  SMALL,
} from "../support/sdk.mjs";

const { freestyle, id: accountId, key } = await fileAccount("identities");
const { vm, vmId } = await freestyle.vms.create({ ...SMALL, idleTimeoutSeconds: null });
await sh(vm, "useradd -m alice; useradd -m bob");
const { vm: ungranted, vmId: ungrantedId } = await freestyle.vms.create(SMALL);

/** An identity that may use the VM, and a client with a token of it. */
async function someone(allowedUsers) {
  const { identity, identityId } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId, allowedUsers });
  const { token, tokenId } = await identity.tokens.create();
  assert.match(token, /^[A-Za-z0-9_-]+$/);
  const theirs = session(token);
  const { vm: theirVm } = await theirs.vms.get({ vmId });
  return { identity, identityId, tokenId, theirs, theirVm };
}

test("an access token operates the VM that was granted", async () => {
  const { theirs, theirVm, identityId } = await someone();
  assert.deepEqual(await theirs.whoami(), { accountId, identityId });

  assert.equal(await sh(theirVm, "whoami"), "root\n");
  assert.equal(await sh(theirVm.user({ username: "alice" }), "whoami"), "alice\n");
  await theirVm.fs.writeTextFile("/srv/note", "written with a token");
  assert.equal(await theirVm.fs.readTextFile("/srv/note"), "written with a token");
  assert(await theirVm.fs.exists("/srv/note"));
  assert.equal((await theirVm.getInfo()).state, "running");

  await vm.suspend();
  assert.equal((await theirVm.getInfo()).state, "suspended");
  assert.equal(await sh(theirVm, "cat /srv/note"), "written with a token");
});

test("and nothing else", async () => {
  const { theirs, theirVm, identity } = await someone();
  const { vm: other } = await theirs.vms.get({ vmId: ungrantedId });
  const unseen = {
    getInfo: () => other.getInfo(),
    exec: () => other.exec("touch /srv/was-here"),
    execAsUser: () => other.user({ username: "root" }).exec("touch /srv/was-here"),
    readFile: () => other.fs.readFile("/etc/hostname"),
    writeFile: () => other.fs.writeTextFile("/srv/was-here", "x"),
  };
  for (const [name, call] of Object.entries(unseen)) {
    await assert.rejects(call, failsWith("VM_NOT_FOUND", { vmId: ungrantedId }), name);
  }
  assert.equal(await sh(ungranted, "ls /srv"), "");

  const theirIdentity = theirs.identities.ref({ identityId: identity.identityId });
  const forAccounts = {
    create: () => theirs.vms.create(),
    list: () => theirs.vms.list(),
    delete: () => theirVm.delete(),
    start: () => theirVm.start(),
    stop: () => theirVm.stop(),
    kill: () => theirVm.kill(),
    suspend: () => theirVm.suspend(),
    fork: () => theirVm.fork({}),
    snapshot: () => theirVm.snapshot(),
    resize: () => theirVm.resize({ cpu: 2 }),
    optimize: () => theirVm.optimize(),
    waitForExit: () => theirVm.waitForExit(),
    createIdentity: () => theirs.identities.create(),
    listIdentities: () => theirs.identities.list(),
    deleteIdentity: () => theirs.identities.delete({ identityId: identity.identityId }),
    createToken: () => theirIdentity.tokens.create(),
    listTokens: () => theirIdentity.tokens.list(),
    grant: () => theirIdentity.permissions.vms.grant({ vmId: ungrantedId }),
    update: () => theirIdentity.permissions.vms.update({ vmId }),
  };
  for (const [name, call] of Object.entries(forAccounts)) {
    await assert.rejects(call, failsWith("FORBIDDEN"), name);
  }
  assert.equal((await vm.getInfo()).state, "running");
  await assert.rejects(theirs.vms.snapshots.list(), /403/);
});

test("a grant may be limited to Linux users", async () => {
  const { identity, theirVm } = await someone(["alice"]);
  const refused = failsWith("ACCESS_DENIED", { vmId });
  const alice = theirVm.user({ username: "alice" });
  const bob = theirVm.user({ username: "bob" });

  assert.equal(await sh(alice, "whoami"), "alice\n");
  await alice.fs.writeTextFile("/home/alice/note", "mine");
  for (const handle of [theirVm, bob, theirVm.user({ username: "root" })]) {
    await assert.rejects(handle.exec("whoami"), refused);
    await assert.rejects(handle.fs.readTextFile("/home/alice/note"), refused);
    await assert.rejects(handle.fs.writeTextFile("/home/alice/note", "theirs"), refused);
  }
  assert.equal((await theirVm.getInfo()).state, "running");
  const nameless = (error) => /x-freestyle-vm-linux-user-id/i.test(error.message);
  await assert.rejects(theirVm.exec("whoami"), nameless);

  await identity.permissions.vms.update({ vmId, allowedUsers: ["bob"] });
  assert.equal(await sh(bob, "whoami"), "bob\n");
  await assert.rejects(alice.exec("whoami"), refused);
  await identity.permissions.vms.update({ vmId, allowedUsers: null });
  assert.equal(await sh(theirVm, "cat /home/alice/note"), "mine");
});

/** Begins a command with a mark in it that never ends by itself; answers how it did. */
function forever(handle, mark) {
  const answer = handle.exec(`sleep 1000000.${mark}`);
  return answer.then(
    (result) => ({ result }),
    (error) => ({ error }),
  );
}

async function runs(mark) {
  return (await vm.exec(`pgrep -f '[s]leep 1000000.${mark}'`)).statusCode === 0;
}

test("what is revoked ends at once, also what runs", async () => {
  const cases = {
    11: ({ identity, tokenId }) => identity.tokens.revoke({ tokenId }),
    12: ({ identity }) => identity.permissions.vms.revoke({ vmId }),
    13: ({ identity }) => identity.permissions.vms.update({ vmId, allowedUsers: ["alice"] }),
    14: ({ identityId }) => freestyle.identities.delete({ identityId }),
  };
  /** What the command that runs is told, and what the next one is. */
  const told = {
    11: ["UNAUTHORIZED", "UNAUTHORIZED_ERROR"],
    12: ["VM_NOT_FOUND", "VM_NOT_FOUND"],
    13: ["ACCESS_DENIED", "ACCESS_DENIED"],
    14: ["UNAUTHORIZED", "UNAUTHORIZED_ERROR"],
  };
  const untouched = await someone();
  const goesOn = forever(untouched.theirVm, 10);
  await eventually("the other one runs", () => runs(10));
  for (const [mark, revoke] of Object.entries(cases)) {
    const whose = await someone();
    const running = forever(whose.theirVm, mark);
    await eventually(`${mark} runs`, () => runs(mark));

    await revoke(whose);

    const [now, next] = told[mark];
    await assert.rejects(whose.theirVm.exec("true"), failsWith(next));
    const { error } = await running;
    assert(failsWith(now)(error));
    await eventually(`${mark} is killed`, async () => !(await runs(mark)));
  }
  assert(await runs(10));
  await untouched.identity.tokens.revoke(untouched);
  assert(failsWith("UNAUTHORIZED")((await goesOn).error));
});

test("an API key that is revoked beside the server takes its commands with it", async () => {
  const second = await admin(DATA_DIR, "key", "create", "--account", accountId);
  const { vm: theirVm } = await client(second.secret).vms.get({ vmId });
  const running = forever(theirVm, 20);
  await eventually("it runs", () => runs(20));

  await admin(DATA_DIR, "key", "revoke", second.id);

  await assert.rejects(theirVm.exec("true"), failsWith("UNAUTHORIZED_ERROR"));
  assert(failsWith("UNAUTHORIZED")((await running).error));
});

test("identities and tokens are listed until they go", async () => {
  const { freestyle: other } = await account("many identities");
  const ids = [];
  for (let count = 0; count < 3; count += 1) ids.push((await other.identities.create()).identityId);
  const { identities, total, offset } = await other.identities.list();
  assert.deepEqual([total, offset], [3, 0]);
  assert.deepEqual(identities.map(({ id }) => id).sort(), [...ids].sort());
  assert(identities.every(({ managed }) => managed === false));
  const page = await other.identities.list({ limit: 2, cursor: "2" });
  assert.deepEqual([page.identities.length, page.total, page.offset], [1, 3, 2]);

  const identity = other.identities.ref({ identityId: ids[0] });
  const { tokenId, token } = await identity.tokens.create();
  const { tokenId: secondId } = await identity.tokens.create();
  const { tokens } = await identity.tokens.list();
  assert.deepEqual(tokens.map(({ id }) => id).sort(), [tokenId, secondId].sort());
  assert(!JSON.stringify(tokens).includes(token));
  await identity.tokens.revoke({ tokenId });
  assert.deepEqual((await identity.tokens.list()).tokens, [{ id: secondId }]);
  await assert.rejects(identity.tokens.revoke({ tokenId }), failsWith("NOT_FOUND"));

  for (const identityId of ids) await other.identities.delete({ identityId });
  assert.equal((await other.identities.list()).total, 0);
  const gone = failsWith("IDENTITY_NOT_FOUND");
  await assert.rejects(identity.tokens.list(), gone);
  await assert.rejects(identity.tokens.create(), gone);
  await assert.rejects(other.identities.delete({ identityId: ids[0] }), gone);
});

test("a grant is what it was given as, and is listed", async () => {
  const { identity, identityId } = await freestyle.identities.create();
  const vms = identity.permissions.vms;
  const granted = await vms.grant({ vmId, allowedUsers: ["alice", "bob"] });
  const { id, grantedAt, ...rest } = granted;
  assert.deepEqual(rest, {
    vmId,
    identityId,
    allowedUsers: ["alice", "bob"],
    grantedBy: key.id,
  });
  assert(id && Math.abs(Date.parse(grantedAt) - Date.now()) < 60_000);
  assert.deepEqual(await vms.get({ vmId }), granted);
  await assert.rejects(vms.grant({ vmId }), failsWith("PERMISSION_ALREADY_EXISTS"));
  assert.deepEqual(await vms.get({ vmId }), granted);
  const any = await vms.update({ vmId });
  assert.deepEqual(any, { ...granted, allowedUsers: null });
  assert.deepEqual(await vms.list(), { permissions: [any], offset: 0, total: 1 });
  await vms.revoke({ vmId });
  for (const call of [() => vms.get({ vmId }), () => vms.revoke({ vmId })]) {
    await assert.rejects(call, failsWith("VM_PERMISSION_NOT_FOUND"));
  }
  await assert.rejects(vms.update({ vmId }), failsWith("VM_PERMISSION_NOT_FOUND"));

  for (const allowedUsers of [[], ["--help"], [""], "alice", [1]]) {
    await assert.rejects(vms.grant({ vmId, allowedUsers }), failsWith("BAD_REQUEST"));
  }
  const none = "a".repeat(20);
  await assert.rejects(vms.grant({ vmId: none }), failsWith("VM_NOT_FOUND", { vmId: none }));
  const repoId = "00000000-0000-4000-8000-000000000000";
  await assert.rejects(
    identity.permissions.git.grant({ repoId, permission: "read" }),
    failsWith("GIT_REPOSITORY_NOT_FOUND"),
  );
  await assert.rejects(identity.permissions.git.get({ repoId }), failsWith("PERMISSION_NOT_FOUND"));
  assert.deepEqual(await identity.permissions.git.list(), { repositories: [] });
});

test("a grant goes with its VM", async () => {
  const { vm: short, vmId: shortId } = await freestyle.vms.create(SMALL);
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId: shortId });
  await short.delete();
  await assert.rejects(
    identity.permissions.vms.get({ vmId: shortId }),
    failsWith("VM_PERMISSION_NOT_FOUND"),
  );
  assert.equal((await identity.permissions.vms.list()).total, 0);
});

test("another account's identities and VMs are not there", async () => {
  const { identityId, tokenId } = await someone();
  const { freestyle: stranger } = await account("stranger to identities");
  const foreign = stranger.identities.ref({ identityId });
  const missing = failsWith("IDENTITY_NOT_FOUND");
  await assert.rejects(stranger.identities.delete({ identityId }), missing);
  await assert.rejects(foreign.tokens.create(), missing);
  await assert.rejects(foreign.tokens.list(), missing);
  await assert.rejects(foreign.tokens.revoke({ tokenId }), missing);
  await assert.rejects(foreign.permissions.vms.grant({ vmId }), missing);
  await assert.rejects(foreign.permissions.vms.list(), missing);
  assert.equal((await stranger.identities.list()).total, 0);

  const { identity: own } = await stranger.identities.create();
  await assert.rejects(own.permissions.vms.grant({ vmId }), failsWith("VM_NOT_FOUND", { vmId }));
  const { token } = await own.tokens.create();
  const { vm: unseen } = await session(token).vms.get({ vmId });
  await assert.rejects(unseen.exec("true"), failsWith("VM_NOT_FOUND", { vmId }));
});
