// The CLI of the npm package, as the documentation uses it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { run } from "../support/process.mjs";
import { API_URL, fileAccount } from "../support/sdk.mjs";

const { freestyle, id: accountId, key } = await fileAccount("npm cli");
const PROGRAM = join(import.meta.dirname, "../node_modules/freestyle/cli.mjs");

// Not a directory with anyone's .env, and no credentials of a login.
const dir = mkdtempSync(join(tmpdir(), "fse2e-cli-"));
after(() => rmSync(dir, { recursive: true }));
const CREDENTIALS = { FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret };

function cli(args, env = CREDENTIALS) {
  return run(process.execPath, [PROGRAM, ...args], { cwd: dir, env: { HOME: dir, ...env } });
}

async function succeeds(...args) {
  const { code, stdout, stderr } = await cli(args);
  assert.equal(code, 0, stderr || stdout);
  return stdout;
}

test("whoami", async () => {
  assert.equal(await succeeds("whoami"), `Account ID: ${accountId}\n`);
});

test("the key and the address may come from .env", async () => {
  const lines = Object.entries(CREDENTIALS).map(([name, value]) => `${name}=${value}\n`);
  writeFileSync(join(dir, ".env"), lines.join(""));
  const { stdout } = await cli(["whoami"], {
    FREESTYLE_API_URL: undefined,
    FREESTYLE_API_KEY: undefined,
  });
  rmSync(join(dir, ".env"));
  assert.match(stdout, new RegExp(`^Account ID: ${accountId}$`, "m"));
});

test("vm create --exec --delete leaves nothing", async () => {
  const { code, stdout, stderr } = await cli([
    "vm",
    "create",
    "--exec",
    "uname -s; echo err >&2; exit 3",
    "--delete",
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /Exec output:\nLinux\n/);
  assert.match(stdout, /Exec exit code: 3/);
  assert.match(stdout, /VM deleted/);
  assert.match(stderr, /Exec errors:\nerr\n/);
  assert.equal((await freestyle.vms.list()).totalCount, 0);
});

test("vm create, list, exec, delete", async () => {
  const created = await succeeds("vm", "create", "--name", "labelled");
  const id = /VM ID: ([a-z0-9]{20})$/m.exec(created)[1];

  const { vms } = JSON.parse(await succeeds("vm", "list", "--json"));
  assert.deepEqual(
    vms.map((vm) => [vm.id, vm.state]),
    [[id, "running"]],
  );
  assert.match(await succeeds("vm", "list"), new RegExp(`^${id}  running `, "m"));

  const output = await succeeds("vm", "exec", id, "pwd; hostname; exit 5", "--json");
  assert.deepEqual(JSON.parse(output.slice(output.indexOf("{"))), {
    stdout: `/\n${id}\n`,
    stderr: "",
    statusCode: 5,
  });

  assert.match(await succeeds("vm", "delete", id), /VM deleted successfully/);
  const again = await cli(["vm", "delete", id]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /VM_NOT_FOUND: there is no VM/);
  assert.equal((await freestyle.vms.list()).totalCount, 0);
});

test("vm snapshot list, get, rename, boot, delete", async () => {
  const { vm } = await freestyle.vms.create({ vcpuCount: 1, memSizeGb: 1 });
  await vm.exec("echo memory > /dev/shm/kept");
  const { snapshotId } = await vm.snapshot({ name: "first" });
  await vm.delete();

  assert.match(await succeeds("vm", "snapshot", "list"), new RegExp(`${snapshotId}.*ready`));
  const { snapshots } = JSON.parse(await succeeds("vm", "snapshot", "list", "--json"));
  assert.deepEqual(
    snapshots.map((snapshot) => [snapshot.snapshotId, snapshot.name]),
    [[snapshotId, "first"]],
  );
  await succeeds("vm", "snapshot", "rename", snapshotId, "--name", "other");
  assert.match(await succeeds("vm", "snapshot", "get", snapshotId), /other/);

  const booted = await succeeds("vm", "snapshot", "boot", snapshotId);
  const id = /\b([a-z0-9]{20})\b/.exec(booted.replaceAll(snapshotId, ""))[1];
  const kept = await freestyle.vms.ref({ vmId: id }).exec("cat /dev/shm/kept");
  assert.equal(kept.stdout, "memory\n");
  const created = ["vm", "create", "--snapshot", snapshotId];
  const output = await succeeds(...created, "--exec", "cat /dev/shm/kept", "--delete");
  assert.match(output, /Exec output:\nmemory\n/);
  await succeeds("vm", "delete", id);

  await succeeds("vm", "snapshot", "delete", snapshotId);
  const listed = JSON.parse(await succeeds("vm", "snapshot", "list", "--show-deleted", "--json"));
  assert.deepEqual(
    listed.snapshots.map(({ deleted }) => deleted),
    [true],
  );
  const again = await cli(["vm", "snapshot", "delete", snapshotId]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /SNAPSHOT_ALREADY_DELETED/);
});

test("vm create --apt installs packages", async () => {
  const created = await succeeds(
    "vm",
    "create",
    "--apt",
    "jq",
    "--exec",
    "echo '[1,2]' | jq length",
    "--delete",
  );
  assert.match(created, /Exec output:\n2\n/);
});

test("a key that is not valid is an error", async () => {
  const { code, stderr } = await cli(["vm", "list"], {
    ...CREDENTIALS,
    FREESTYLE_API_KEY: "fs_wrong",
  });
  assert.equal(code, 1);
  assert.match(stderr, /UNAUTHORIZED_ERROR/);
});
