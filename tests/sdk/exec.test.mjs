// Running commands: what a program that calls `vm.exec` relies on.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { API_URL, eventually, failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle, key } = await fileAccount("exec");
const { vm, vmId } = await freestyle.vms.create();

const sha256 = (text) => createHash("sha256").update(text).digest("hex");

test("output, errors and the exit code come back apart", async () => {
  assert.deepEqual(await vm.exec("echo out; echo err >&2; exit 3"), {
    stdout: "out\n",
    stderr: "err\n",
    statusCode: 3,
  });
});

test("the exit code is the shell's", async () => {
  const codes = {
    true: 0,
    "": 0,
    "exit 255": 255,
    "no-such-command": 127,
    "echo (": 2,
    "kill -9 $$": 137,
    "sh -c 'kill -15 $$'": 143,
  };
  for (const [command, code] of Object.entries(codes)) {
    assert.equal((await vm.exec(command)).statusCode, code, command);
  }
});

test("pipes, quotes, variables, lines and any text reach the shell as written", async () => {
  const command = `
    name="it's"
    printf '%s|' "$name \\"quoted\\"" '$HOME' 'Grüße 世界 🚀' | tr '|' '\\n'
    for i in 1 2 3; do echo $((i * i)); done
    cat <<'END'
tab\there
END`;
  assert.equal(await sh(vm, command), `it's "quoted"\n$HOME\nGrüße 世界 🚀\n1\n4\n9\ntab\there\n`);
});

test("the environment is bare, the shell a plain one at /, standard input empty", async () => {
  assert.deepEqual((await sh(vm, "env | sort")).trim().split("\n"), [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PWD=/",
  ]);
  assert.equal(await sh(vm, "id -un; pwd; readlink /proc/self/fd/0; cat"), "root\n/\n/dev/null\n");
});

test("a command over its time is killed with its children; what it printed is told", async () => {
  const command = "echo early; echo problem >&2; sleep 4242 & sleep 4242";
  const fields = { timeoutMs: 4000, stdout: "early\n", stderr: "problem\n" };
  await assert.rejects(vm.exec({ command, timeoutMs: 4000 }), failsWith("EXEC_TIMED_OUT", fields));
  assert.equal((await vm.exec("pgrep -f 'sleep 424[2]'")).stdout, "");
});

test("a command whose caller goes away is killed", async () => {
  const caller = new AbortController();
  const call = fetch(`${API_URL}/v1/vms/${vmId}/exec-await`, {
    method: "POST",
    headers: { authorization: `Bearer ${key.secret}`, "content-type": "application/json" },
    body: JSON.stringify({ command: "touch /tmp/called; sleep 2424", timeoutMs: null }),
    signal: caller.signal,
  });
  await eventually("the command runs", () => vm.fs.exists("/tmp/called"));
  caller.abort();
  await assert.rejects(call, { name: "AbortError" });
  await sh(vm, "while pgrep -f 'sleep 242[4]'; do sleep 0.1; done", 20_000);
});

test("a megabyte on both streams at once arrives whole", async () => {
  const { stdout, stderr, statusCode } = await vm.exec(`
    head -c 786432 /dev/urandom | base64 -w 0 > /tmp/one
    head -c 786432 /dev/urandom | base64 -w 76 > /tmp/two
    cat /tmp/two >&2 &
    cat /tmp/one
    wait`);
  assert.equal(statusCode, 0);
  assert.deepEqual([stdout.length, stderr.length], [1_048_576, 1_062_374]);
  const sums = await sh(vm, "sha256sum /tmp/one /tmp/two");
  assert.equal(sums, `${sha256(stdout)}  /tmp/one\n${sha256(stderr)}  /tmp/two\n`);
});

test("output that is not text does no harm", async () => {
  const { stdout } = await vm.exec(`printf 'a\\377\\000\\033[31mb\\r\\n\\342\\202'`);
  assert.equal(stdout, "a\ufffd\0\u001b[31mb\r\n\ufffd");
  assert.match((await vm.exec("head -c 100000 /dev/urandom")).stdout, /\ufffd/);
  assert.equal(await sh(vm, "echo fine"), "fine\n");
});

test("a flood of output ends with an error, not with the guest", async () => {
  await assert.rejects(vm.exec({ command: "yes", timeoutMs: 60_000 }), failsWith("BAD_REQUEST"));
  assert.equal(await sh(vm, "pgrep -c yes || true"), "0\n");
});

test("commands run at the same time", async () => {
  // Each ends only when all are there.
  const meet = (i) => `
    mkdir -p /tmp/meeting; touch /tmp/meeting/${i}
    while [ $(ls /tmp/meeting | wc -l) -lt 8 ]; do sleep 0.05; done; echo ${i}`;
  const numbers = [1, 2, 3, 4, 5, 6, 7, 8];
  const outputs = await Promise.all(numbers.map((i) => sh(vm, meet(i))));
  assert.deepEqual(
    outputs,
    numbers.map((i) => `${i}\n`),
  );
});

test("a background process does not keep the call, and lives on", async () => {
  const before = Date.now();
  const pid = (await sh(vm, "sleep 1000 & echo $!")).trim();
  const session = (await sh(vm, "setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.5")).trim();
  await sh(vm, "systemd-run --quiet --unit=lives-on sleep 1000");
  assert(Date.now() - before < 60_000);
  await sh(vm, `kill -0 ${pid} && kill -0 ${session} && systemctl is-active lives-on`);
});

test("a background process that holds the output does not keep the call either", async () => {
  const { stdout } = await vm.exec("sh -c 'while :; do echo noise; sleep 0.2; done' & echo done");
  assert.match(stdout, /^(noise\n)*done\n(noise\n)*$/);
});

test("a command that is too long is refused", async () => {
  const fits = `echo ${"x".repeat(130_000)} | wc -c`;
  assert.equal(await sh(vm, fits), "130001\n");
  await assert.rejects(vm.exec(`: ${"x".repeat(200_000)}`), failsWith("BAD_REQUEST"));
});

test("a time limit without sense is refused", async () => {
  for (const timeoutMs of [0, -1, 1e12]) {
    await assert.rejects(vm.exec({ command: "true", timeoutMs }), failsWith("BAD_REQUEST"));
  }
});
