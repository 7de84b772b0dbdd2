// Two accounts on one server: neither learns that the other has anything.

import assert from "node:assert/strict";
import { test } from "node:test";

import { account, admin, client, DATA_DIR, failsWith, fileAccount, sh } from "../support/sdk.mjs";

const owner = await fileAccount("owner");
const stranger = await fileAccount("stranger");
const { vm, vmId } = await owner.freestyle.vms.create({ name: "private" });

test("another account's VM is not there, for any operation", async () => {
  assert.equal((await stranger.freestyle.vms.list()).totalCount, 0);
  const { vm: foreign } = await stranger.freestyle.vms.get({ vmId });
  const operations = {
    getInfo: () => foreign.getInfo(),
    exec: () => foreign.exec("touch /srv/was-here"),
    execAsUser: () => foreign.user({ username: "root" }).exec("touch /srv/was-here"),
    readFile: () => foreign.fs.readFile("/etc/hostname"),
    writeFile: () => foreign.fs.writeTextFile("/srv/was-here", "x"),
    readDir: () => foreign.fs.readDir("/"),
    start: () => foreign.start(),
    stop: () => foreign.stop(),
    kill: () => foreign.kill(),
    waitForExit: () => foreign.waitForExit(),
    delete: () => foreign.delete(),
  };
  for (const [name, operation] of Object.entries(operations)) {
    await assert.rejects(operation, failsWith("VM_NOT_FOUND", { vmId }), name);
  }
  assert.equal(await sh(vm, "ls /srv"), "");
  assert.equal((await vm.getInfo()).state, "running");
});

test("each account lists its own", async () => {
  const { vmId: other } = await stranger.freestyle.vms.create();
  const ids = async ({ freestyle }) => (await freestyle.vms.list()).vms.map(({ id }) => id);
  assert.deepEqual(await ids(owner), [vmId]);
  assert.deepEqual(await ids(stranger), [other]);
});

test("all keys of an account are the same account; a revoked one is refused at once", async () => {
  const { id: accountId, freestyle } = await account("keys");
  const second = await admin(DATA_DIR, "key", "create", "--account", accountId);
  const other = client(second.secret);
  assert.equal((await other.whoami()).accountId, accountId);

  await admin(DATA_DIR, "key", "revoke", second.id);

  await assert.rejects(other.vms.list(), failsWith("UNAUTHORIZED_ERROR"));
  await assert.rejects(other.vms.create(), failsWith("UNAUTHORIZED_ERROR"));
  assert.equal((await freestyle.whoami()).accountId, accountId);
});
