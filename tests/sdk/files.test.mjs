// Files and directories of a guest.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("files");
const { vm } = await freestyle.vms.create();

test("text comes back as written, whatever is in it", async () => {
  for (const text of [
    "plain\n",
    "",
    "no newline",
    "Grüße 世界 🚀\n",
    "\0\r\n\t\u001b",
    "\ufeffbom",
  ]) {
    await vm.fs.writeTextFile("/tmp/text", text);
    assert.equal(await vm.fs.readTextFile("/tmp/text"), text);
    assert.equal(await sh(vm, "stat -c %s /tmp/text"), `${Buffer.byteLength(text)}\n`);
  }
});

test("5 MB of bytes come back as written", async () => {
  const content = randomBytes(5_000_000);
  await vm.fs.writeFile("/srv/data.bin", content);
  assert(content.equals(await vm.fs.readFile("/srv/data.bin")));
});

test("a shorter text replaces a longer one; owner and mode stay", async () => {
  await vm.fs.writeTextFile("/tmp/script", "#!/bin/sh\necho a longer text\n");
  await sh(vm, "chmod 750 /tmp/script; chown nobody /tmp/script");
  await vm.fs.writeTextFile("/tmp/script", "#!/bin/sh\necho\n");
  assert.equal(await sh(vm, "stat -c '%s %a %U' /tmp/script"), "15 750 nobody\n");
});

test("names may hold spaces, quotes, per cent signs and any letters", async () => {
  const names = [
    "with space",
    "ünï-世界-🚀",
    "100%",
    "%2Fslash",
    "a'b\"c",
    "?#&=+",
    ".hidden",
    "-rf",
  ];
  for (const name of names) {
    await vm.fs.writeTextFile(`/srv/names/${name}`, name);
    assert.equal(await vm.fs.readTextFile(`/srv/names/${name}`), name);
  }
  const listed = await vm.fs.readDir("/srv/names");
  assert.deepEqual(listed.map(({ name }) => name).sort(), names.toSorted());
});

test("missing folders are made; a relative path starts at the root", async () => {
  await vm.fs.writeTextFile("srv/made/on/the/way.txt", "here");
  assert.equal(await vm.fs.readTextFile("/srv/made/on/the/way.txt"), "here");
  assert.equal(await vm.fs.readTextFile("srv/made/../made/on/the/way.txt"), "here");
});

test("a directory lists files and directories", async () => {
  await sh(vm, "mkdir -p /srv/dir/sub; touch /srv/dir/file; ln -s /srv/dir/sub /srv/dir/link");
  assert.deepEqual(await vm.fs.readDir("/srv/dir"), [
    { name: "file", kind: "file" },
    { name: "link", kind: "directory" },
    { name: "sub", kind: "directory" },
  ]);
  await sh(vm, "mkdir /srv/empty; mkdir /srv/many; cd /srv/many; seq 3000 | xargs touch");
  assert.deepEqual(await vm.fs.readDir("/srv/empty"), []);
  assert.equal((await vm.fs.readDir("/srv/many")).length, 3000);
});

test("mkdir, exists, stat and remove", async () => {
  await assert.rejects(vm.fs.mkdir("/srv/deep/er"), /Failed to create directory/);
  await vm.fs.mkdir("/srv/deep/er", true);
  await vm.fs.writeTextFile("/srv/deep/er/file", "12345");

  const { modified, ...stat } = await vm.fs.stat("/srv/deep/er/file");
  assert.deepEqual(stat, {
    size: 5,
    isFile: true,
    isDirectory: false,
    isSymlink: false,
    permissions: "644",
    owner: "root",
    group: "root",
  });
  assert(Math.abs(Date.parse(modified.replace(/ (?=\S+$)/, "")) - Date.now()) < 60_000, modified);
  assert.equal((await vm.fs.stat("/srv/deep")).isDirectory, true);
  await assert.rejects(vm.fs.stat("/srv/deep/none"), /Failed to stat/);

  assert.equal(await vm.fs.exists("/srv/deep/er/file"), true);
  await vm.fs.remove("/srv/deep/er/file");
  assert.equal(await vm.fs.exists("/srv/deep/er/file"), false);
  await assert.rejects(vm.fs.remove("/srv/deep"), /Failed to remove/);
  await vm.fs.remove("/srv/deep", true);
  assert.equal(await vm.fs.exists("/srv/deep"), false);
});

test("what is not there is an error with its path", async () => {
  const path = "/srv/not there";
  await assert.rejects(vm.fs.readFile(path), failsWith("FILE_NOT_FOUND", { path }));
  await assert.rejects(vm.fs.readDir(path), failsWith("FILE_NOT_FOUND", { path }));
});

test("what is no file is neither read nor written", async () => {
  await sh(vm, "mkfifo /tmp/fifo; echo file > /tmp/file");
  const bad = failsWith("FILES_BAD_REQUEST");
  await assert.rejects(vm.fs.writeTextFile("/srv", "x"), bad);
  await assert.rejects(vm.fs.readFile("/srv"), /Unexpected response format/);
  await assert.rejects(vm.fs.readDir("/etc/hostname"), /not a directory/);
  await assert.rejects(vm.fs.readFile("/tmp/fifo"), bad);
  await assert.rejects(vm.fs.writeTextFile("/tmp/fifo", "x"), bad);
  await assert.rejects(vm.fs.readFile("/dev/zero"), bad);
  await assert.rejects(vm.fs.writeTextFile("/tmp/file/below", "x"), bad);
});

test("files that the kernel makes up can be read", async () => {
  assert.match(await vm.fs.readTextFile("/proc/version"), /^Linux version 6/);
});

test("a file larger than the limit is refused, and stays", async () => {
  await sh(vm, "truncate -s 1G /tmp/huge");
  await assert.rejects(vm.fs.readFile("/tmp/huge"), failsWith("FILES_BAD_REQUEST"));
  assert.equal(await vm.fs.exists("/tmp/huge"), true);
});

test("a full disk is an error that says so", async () => {
  await sh(vm, "mkdir -p /mnt/small; mount -t tmpfs -o size=1m none /mnt/small");
  const write = vm.fs.writeFile("/mnt/small/file", Buffer.alloc(2_000_000));
  await assert.rejects(write, (error) => {
    return failsWith("FILES_BAD_REQUEST")(error) && /no space left/i.test(error.message);
  });
});

test("many files at once", async () => {
  const numbers = Array.from({ length: 16 }, (_, i) => i);
  await Promise.all(
    numbers.map((i) => vm.fs.writeTextFile(`/tmp/many/${i}`, `${i}`.repeat(10_000))),
  );
  const read = await Promise.all(numbers.map((i) => vm.fs.readTextFile(`/tmp/many/${i}`)));
  assert.deepEqual(
    read,
    numbers.map((i) => `${i}`.repeat(10_000)),
  );
});
