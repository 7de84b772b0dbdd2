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
