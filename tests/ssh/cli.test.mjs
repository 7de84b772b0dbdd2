// `vm ssh`, `vm scp` and `vm create --ssh`, of this project's own CLI and of the npm package's.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { run } from "../support/process.mjs";
import { API_URL, fileAccount, SMALL } from "../support/sdk.mjs";
import { FREESTYLE, freestyle as own } from "../support/server.mjs";
import { SshClient, withoutSystemdSessions } from "../support/ssh.mjs";

const { freestyle, key } = await fileAccount("ssh cli");
const ssh = await SshClient.create(key.secret);
const { vm, vmId } = await freestyle.vms.create({ ...SMALL, idleTimeoutSeconds: null });
await withoutSystemdSessions(vm);
const ENV = { FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret, HOME: ssh.dir };

function cli(args, options) {
  return own(["vm", ...args], { env: ENV, cwd: ssh.dir, timeoutMs: 300_000, ...options });
}

/** Nothing that was made for a command is left. */
async function nobodyIsLeft() {
  assert.equal((await freestyle.identities.list()).identities.length, 0);
}

test("vm ssh runs a command with its streams and exit code", async () => {
  const { code, stdout, stderr } = await cli(["ssh", vmId, "--", "cat; echo err >&2; exit 4"], {
    input: "typed\n",
  });
  assert.deepEqual([code, stdout, stderr], [4, "typed\n", "err\n"]);
  await nobodyIsLeft();
});

test("vm ssh --user is that user and no other", async () => {
  const made = await cli(["ssh", vmId, "--", "useradd -m -s /bin/bash alice"]);
  assert.equal(made.code, 0, made.stderr);
  const { stdout } = await cli(["ssh", vmId, "--user", "alice", "--", "id -un"]);
  assert.equal(stdout, "alice\n");
  await nobodyIsLeft();
});

test("vm scp copies both ways", async () => {
  mkdirSync(ssh.file("folder"));
  writeFileSync(ssh.file("folder/a"), "text");
  const there = await cli(["scp", "-r", "folder", `${vmId}+alice:`]);
  assert.equal(there.code, 0, there.stderr);
  const back = await cli(["scp", `${vmId}:/home/alice/folder/a`, "b"]);
  assert.equal(back.code, 0, back.stderr);
  assert.equal(readFileSync(ssh.file("b"), "utf8"), "text");
  const neither = await cli(["scp", "a", "b"]);
  assert.equal(neither.code, 1);
  assert.match(neither.stderr, /exactly one side must be in a VM/);
  await nobodyIsLeft();
});

test("a command that is ended cleans up, and its token was nowhere to be seen", async () => {
  const child = spawn(FREESTYLE, ["vm", "ssh", vmId, "--", "echo in; sleep 600"], {
    env: { ...process.env, ...ENV },
    cwd: ssh.dir,
  });
  const [said] = await once(child.stdout, "data");
  assert.equal(`${said}`, "in\n");
  const own = ["--pid", `${child.pid}`, "--ppid", `${child.pid}`];
  const { stdout: visible } = await run("ps", ["-o", "args", ...own]);
  assert.match(visible, /ssh .*echo in/);
  assert.doesNotMatch(visible, /fsi_/);
  child.kill("SIGTERM");
  const [code] = await once(child, "exit");
  assert.notEqual(code, 0);
  await nobodyIsLeft();
});

test("what cannot be reached is explained, and leaves nothing", async () => {
  const { code, stderr } = await cli(["ssh", vmId, "--", "true"], {
    env: { ...ENV, FREESTYLE_SSH_ADDRESS: "127.0.0.1:1" },
  });
  assert.equal(code, 255);
  assert.match(stderr, /Connection refused/);
  const unknown = await cli(["ssh", "k3v9x0q2m7a1c5z8e4t6"]);
  assert.equal(unknown.code, 1);
  assert.match(unknown.stderr, /VM/);
  await nobodyIsLeft();
});

test("vm create --ssh --delete is a machine for one session", async () => {
  const size = ["--vcpus", "1", "--memory", "1"];
  const args = ["create", ...size, "--exec", "echo made", "--ssh", "--delete"];
  const { code, stdout, stderr } = await cli(args, { input: "hostname; exit 6\n" });
  const [, id] = /^VM (\S+)$/m.exec(stderr);
  // A shell greets its user, between what was asked for.
  const lines = stdout.trimEnd().split("\n");
  assert.deepEqual([code, lines.at(0), lines.at(-1)], [6, "made", id]);
  const { vms } = await freestyle.vms.list();
  assert.deepEqual(vms.map((vm) => vm.id), [vmId]);
  await nobodyIsLeft();
});

// The npm CLI knows one host, on port 22. In place of its name server and port, these `ssh` and `scp`
// are told where that host is.
const bin = ssh.file("bin");
mkdirSync(bin);
const [host, port] = process.env.E2E_SSH_ADDRESS.split(":");
for (const program of ["ssh", "scp"]) {
  const place = [`HostName=${host}`, `Port=${port}`, `UserKnownHostsFile=${ssh.file("npm_hosts")}`];
  const trust = ["StrictHostKeyChecking=accept-new", "BatchMode=yes"];
  const options = [...place, ...trust].map((option) => `-o ${option}`).join(" ");
  writeFileSync(join(bin, program), `#!/bin/sh\nexec /usr/bin/${program} ${options} "$@"\n`);
  chmodSync(join(bin, program), 0o755);
}

function npm(args, options) {
  const program = join(import.meta.dirname, "../node_modules/freestyle/cli.mjs");
  const env = { ...ENV, PATH: `${bin}:${process.env.PATH}` };
  return run(process.execPath, [program, "vm", ...args], { env, cwd: ssh.dir, timeoutMs: 300_000, ...options });
}

test("the npm CLI's vm ssh and vm scp", async () => {
  const { stdout, stderr } = await npm(["ssh", vmId], { input: "hostname\n" });
  assert.match(stdout, new RegExp(`^${vmId}$`, "m"), stderr);
  writeFileSync(ssh.file("c"), "by npm");
  const copied = await npm(["scp", ssh.file("c"), `${vmId}+alice:copied`]);
  assert.equal(copied.code, 0, copied.stderr);
  const { stdout: content } = await cli(["ssh", vmId, "--", "cat /home/alice/copied"]);
  assert.equal(content, "by npm");
  await nobodyIsLeft();
});

test("the npm CLI's vm create --ssh --delete", async () => {
  const { stdout, stderr } = await npm(["create", "--ssh", "--delete"], { input: "uname -s\n" });
  assert.match(stdout, /^Linux$/m, stderr);
  const { vms } = await freestyle.vms.list();
  assert.deepEqual(vms.map((vm) => vm.id), [vmId]);
  await nobodyIsLeft();
});
