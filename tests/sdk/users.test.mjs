// Acting as a Linux user of the guest.

import assert from "node:assert/strict";
import { test } from "node:test";

import { failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("users");
const { vm } = await freestyle.vms.create();
await sh(vm, "groupadd builders; useradd -m -s /bin/bash -G builders alice; useradd -m bob");
const alice = vm.user({ username: "alice" });
const bob = vm.user({ username: "bob" });

test("commands run as the user, with the user's groups and no more rights", async () => {
  assert.equal(await sh(alice, "whoami; id -gn; id -Gn"), "alice\nalice\nalice builders\n");
  assert.equal(await sh(bob, "whoami"), "bob\n");
  assert.equal((await alice.exec("cat /etc/shadow")).statusCode, 1);
  assert.equal((await alice.exec("touch /etc/owned")).statusCode, 1);
  const status = await sh(alice, "grep -E '^(Uid|CapEff)' /proc/self/status");
  assert.match(status, /^Uid:\t(\d{4,})\t\1\t\1\t\1\nCapEff:\t0{16}\n$/);
});

test("the handle of the owner stays root's", async () => {
  assert.equal(await sh(vm, "whoami"), "root\n");
});

test("files are the user's, and others' are out of reach", async () => {
  await alice.fs.writeTextFile("/home/alice/folder/note", "mine");
  assert.equal(
    await sh(vm, "stat -c %U:%G /home/alice/folder /home/alice/folder/note"),
    "alice:alice\n".repeat(2),
  );
  assert.equal(await alice.fs.readTextFile("/home/alice/folder/note"), "mine");

  await sh(vm, "install -m 600 /dev/null /srv/secret");
  const denied = (error) =>
    failsWith("FILES_BAD_REQUEST")(error) && /permission denied/.test(error.message);
  await assert.rejects(alice.fs.readFile("/srv/secret"), denied);
  await assert.rejects(alice.fs.writeTextFile("/srv/secret", "x"), denied);
  await assert.rejects(alice.fs.writeTextFile("/srv/new", "x"), denied);
  await assert.rejects(bob.fs.writeTextFile("/home/alice/folder/note", "x"), denied);
  await assert.rejects(bob.fs.readDir("/root"), denied);
  assert.equal(await alice.fs.readTextFile("/home/alice/folder/note"), "mine");
});

test("helpers that run commands act as the user too", async () => {
  await alice.fs.mkdir("/home/alice/made");
  assert.equal((await alice.fs.stat("/home/alice/made")).owner, "alice");
  await assert.rejects(alice.fs.mkdir("/srv/made"), /Permission denied/);
});

test("a user that was made a member later has the rights at once", async () => {
  await sh(vm, "install -d -m 770 -g builders /srv/built");
  await assert.rejects(bob.fs.writeTextFile("/srv/built/x", "x"), failsWith("FILES_BAD_REQUEST"));
  await sh(vm, "usermod -aG builders bob");
  await bob.fs.writeTextFile("/srv/built/x", "x");
});

test("a user that does not exist is named", async () => {
  const nobody = vm.user({ username: "mallory" });
  const named = (code) => (error) => failsWith(code)(error) && /mallory/.test(error.message);
  await assert.rejects(nobody.exec("whoami"), named("BAD_REQUEST"));
  await assert.rejects(nobody.fs.readFile("/etc/hostname"), named("FILES_BAD_REQUEST"));
  await assert.rejects(nobody.fs.writeTextFile("/tmp/x", "x"), named("FILES_BAD_REQUEST"));
  await assert.rejects(vm.user({ username: "--help" }).exec("id"), failsWith("BAD_REQUEST"));
});
