// Terminal sessions through the real SDK, which is strict about how they begin and end.

import assert from "node:assert/strict";
import { test } from "node:test";

import { refusal, Terminal } from "../support/pty.mjs";
import {
  API_URL,
  client,
  eventually,
  failsWith,
  fileAccount,
  session,
  sh,
  SMALL,
} from "../support/sdk.mjs";
import { withServer } from "../support/server.mjs";

const { freestyle, key } = await fileAccount("pty");
const CREDENTIAL = { authorization: `Bearer ${key.secret}` };
const NEVER = { ...SMALL, idleTimeoutSeconds: null };
const { vm, vmId } = await freestyle.vms.create(NEVER);
await sh(vm, "useradd -m -s /bin/bash alice; useradd -m bob");

async function listed(vm, sessionId) {
  const { sessions } = await vm.pty.list();
  return sessions.find((each) => each.sessionId === sessionId);
}

async function sessionIds(vm) {
  return (await vm.pty.list()).sessions.map(({ sessionId }) => sessionId).sort();
}

/** How a request for a WebSocket below the VM is refused. */
function refused(path, { headers, of = vmId, as = CREDENTIAL } = {}) {
  return refusal(`${API_URL}/v1/vms/${of}/pty${path}`, { ...as, ...headers });
}

test("a session is a login shell at a terminal of its own", async () => {
  const terminal = await Terminal.open(vm, { cols: 100, rows: 30 });
  assert.match(terminal.id, /^pty-\d+$/);
  assert.match(await terminal.run("tty"), /^\/dev\/pts\/\d+\n$/);
  assert.equal(await terminal.run("stty size; pwd; whoami"), "30 100\n/root\nroot\n");
  const environment = await terminal.run('printenv TERM || echo "unset $HOME $USER $SHELL"');
  assert.equal(environment, "unset /root root /bin/bash\n");
  assert.equal(await terminal.run("shopt -q login_shell && echo login"), "login\n");
  assert.equal(await terminal.run("printf 'gr\\303\\274n \\346\\274\\242\\n'"), "grün 漢\n");

  const { createdAtMs, ...described } = await listed(vm, terminal.id);
  const row = Object.fromEntries(Object.entries(described).filter(([, value]) => value !== null));
  assert(Math.abs(createdAtMs - Date.now()) < 60_000);
  const expected = { cols: 100, rows: 30, attachedCount: 1, suspended: false };
  assert.deepEqual(row, { sessionId: terminal.id, running: true, ...expected });

  // Jobs are the shell's to control.
  terminal.type("sleep 1000 & jobs; fg\n");
  await terminal.see(/Running\s+sleep 1000/);
  const isInFront = async () => (await sh(vm, "ps -C sleep -o stat= -o args=")).match(/\+ *sleep 1000/);
  await eventually("it is the shell's foreground job", isInFront);
  terminal.session.signal("SIGINT");
  assert.equal(await terminal.run("jobs"), "");

  terminal.type("exit 7\n");
  assert.equal(await terminal.exited, 7);
  const { code, wasClean } = await terminal.closed;
  assert.deepEqual([code, wasClean, terminal.reconnects], [1000, true, 0]);
});

test("a session that has ended is listed and shown for a while", async () => {
  const terminal = await Terminal.open(vm, { exec: "echo last words; exit 3", sessionId: "brief" });
  assert.deepEqual([terminal.id, await terminal.exited], ["brief", 3]);
  const row = await listed(vm, "brief");
  assert.deepEqual([row.running, row.exitCode, row.exec], [false, 3, "echo last words; exit 3"]);
  assert(Math.abs(row.exitedAtMs - Date.now()) < 60_000);

  const again = await Terminal.attach(vm, "brief");
  assert.match(again.screen, /last words/);
  assert.equal(await again.exited, 3);
  await again.closed;

  assert.deepEqual(await vm.pty.close({ sessionId: "brief" }), { sessionId: "brief", exitCode: 3 });
  assert.equal(await listed(vm, "brief"), undefined);
});

test("a program that is killed ends with the number of the signal", async () => {
  const killed = await Terminal.open(vm, { exec: "echo ready; exec cat" });
  await killed.see(/ready/);
  killed.session.signal("SIGKILL");
  assert.equal(await killed.exited, 137);

  const interrupted = await Terminal.open(vm, { exec: "echo ready; exec cat" });
  await interrupted.see(/ready/);
  interrupted.session.signal("SIGINT");
  assert.equal(await interrupted.exited, 130);
});

test("who comes back finds the screen, and misses nothing", async () => {
  const exec = "stty -echo; printf '\\033[31mred\\033[m\\n'; seq 3000; exec cat";
  const first = await Terminal.open(vm, { exec, sessionId: "kept" });
  await first.see(/3000\r\n/);
  await first.detach();
  await eventually("nobody looks", async () => (await listed(vm, "kept")).attachedCount === 0);

  const second = await Terminal.attach(vm, "kept");
  // Between what has scrolled away and the window is what scrolls it away.
  const lines = second.screen.replace(/\n{9,}\x1b\[H/, "\n").split("\r\n");
  assert.match(lines[0], /\x1b\[[\d;]*31m[^]*red/);
  const numbers = lines.slice(1, 3001);
  assert.deepEqual(numbers, Array.from({ length: 3000 }, (_, index) => `${index + 1}`));
  second.type("after\n");
  await second.see(/after\r\n/);

  // What is drawn again is what was drawn, and then comes what is new.
  const third = await Terminal.attach(vm, "kept");
  assert.equal(third.screen.match(/after/g).length, 1);
  second.type("to both\n");
  await Promise.all([second.see(/to both\r\n/), third.see(/to both\r\n/)]);
  assert.equal((await listed(vm, "kept")).attachedCount, 2);

  // Closing it ends it for all of them.
  assert.equal((await vm.pty.close({ sessionId: "kept" })).sessionId, "kept");
  assert.deepEqual(await Promise.all([second.exited, third.exited]), [137, 137]);
  await Promise.all([second.closed, third.closed]);
  await assert.rejects(vm.pty.close({ sessionId: "kept" }), failsWith("SESSION_NOT_FOUND"));
  assert.equal((await refused("/sessions/kept")).body.code, "SESSION_NOT_FOUND");
});

test("a full-screen program is drawn again as it was", async () => {
  const exec = "TERM=xterm-256color exec less /etc/services";
  const pager = await Terminal.open(vm, { exec, sessionId: "pager" });
  await pager.see(/Network services/);
  pager.type("/ssh\r");
  await pager.see(/22\/tcp/);
  await pager.detach();

  const again = await Terminal.attach(vm, "pager");
  assert.match(again.screen, /\x1b\[\?1049h/);
  assert.match(again.screen, /22\/tcp/);
  again.type("q");
  assert.equal(await again.exited, 0);
});

test("the window is as large as the smallest that looks at it", async () => {
  const large = await Terminal.open(vm, { cols: 120, rows: 40 });
  const size = () => large.run("stty size");
  assert.equal(await size(), "40 120\n");
  const small = await Terminal.attach(vm, large.id, { cols: 90, rows: 50 });
  assert.equal(await size(), "40 90\n");
  small.session.resize({ cols: 100, rows: 20 });
  await eventually("it is resized", async () => (await size()) === "20 100\n");
  const { cols, rows } = await listed(vm, large.id);
  assert.deepEqual([cols, rows], [100, 20]);
  await small.detach();
  await eventually("it grows again", async () => (await size()) === "40 120\n");
  await vm.pty.close({ sessionId: large.id });
});

test("a session belongs to a Linux user", async () => {
  const [alice, bob] = ["alice", "bob"].map((username) => vm.user({ username }));
  const hers = await Terminal.open(alice, { sessionId: "hers" });
  assert.equal(await hers.run("whoami; pwd"), "alice\n/home/alice\n");
  const his = await Terminal.open(bob, { sessionId: "his" });
  assert.equal(await his.run('whoami; echo "$SHELL"'), "bob\n/bin/sh\n");

  assert.deepEqual(await sessionIds(alice), ["hers"]);
  assert.deepEqual(await sessionIds(bob), ["his"]);
  const { sessions } = await vm.pty.list();
  assert.equal(sessions.find(({ sessionId }) => sessionId === "hers").user, "alice");

  const mismatch = failsWith("SESSION_USER_MISMATCH");
  await assert.rejects(bob.pty.close({ sessionId: "hers" }), mismatch);
  const headers = { "x-freestyle-vm-linux-user-id": "bob" };
  const { status, body } = await refused("/sessions/hers", { headers });
  assert.deepEqual([status, body.code], [403, "SESSION_USER_MISMATCH"]);

  const owner = await Terminal.attach(vm, "hers");
  assert.match(owner.screen, /alice/);
  await vm.pty.close({ sessionId: "his" });
  assert.equal(await his.exited, 137);
  await alice.pty.close({ sessionId: "hers" });
  assert.equal(await owner.exited, 137);
});

test("what cannot be is refused before there is a WebSocket", async () => {
  await Terminal.open(vm, { exec: "exec cat", sessionId: "taken" });
  const cases = {
    "?cols=80&rows=24&sessionId=taken": [409, "SESSION_ALREADY_EXISTS"],
    "?cols=80&rows=24&sessionId=..%2Fx": [400, "INVALID_SESSION_ID"],
    [`?cols=80&rows=24&sessionId=${"x".repeat(65)}`]: [400, "INVALID_SESSION_ID"],
    "?cols=0&rows=24": [400, "BAD_REQUEST"],
    "?cols=80&rows=100000": [400, "BAD_REQUEST"],
    "?cols=80&rows=-1": [400, "BAD_REQUEST"],
    "?cols=x&rows=24": [400, "BAD_REQUEST"],
    "/sessions/nothing": [404, "SESSION_NOT_FOUND"],
    "/sessions/nothing?cols=0": [400, "BAD_REQUEST"],
    "/sessions/%2e%2e%2fx": [400, "INVALID_SESSION_ID"],
  };
  for (const [path, expected] of Object.entries(cases)) {
    const { status, body } = await refused(path);
    assert.deepEqual([status, body.code, body.error], [...expected, expected[1]], path);
    assert(body.message, path);
  }
  const nobody = { headers: { "x-freestyle-vm-linux-user-id": "mallory" } };
  const unknown = await refused("", nobody);
  assert.deepEqual([unknown.status, unknown.body.code], [400, "BAD_REQUEST"]);
  assert.match(unknown.body.message, /mallory/);
  const missing = await refused("", { of: "0".repeat(20) });
  assert.deepEqual([missing.status, missing.body.code], [404, "VM_NOT_FOUND"]);
  const stranger = await refused("", { as: { authorization: "Bearer fs_wrong" } });
  assert.deepEqual([stranger.status, stranger.body.code], [401, "UNAUTHORIZED_ERROR"]);
  // Not even asked for a WebSocket.
  const plain = await refused("", { headers: { upgrade: "", connection: "close" } });
  assert.deepEqual([plain.status, plain.body.code], [400, "BAD_REQUEST"]);
  await vm.pty.close({ sessionId: "taken" });
});

test("who may no more is put out at once", async () => {
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId, allowedUsers: ["alice"] });
  const { token, tokenId } = await identity.tokens.create();
  const { vm: theirVm } = await session(token).vms.get({ vmId });
  const as = { "x-freestyle-identity-access-token": token };
  const foreign = await refused("?cols=80&rows=24", { as });
  assert.deepEqual([foreign.status, foreign.body.code], [403, "ACCESS_DENIED"]);

  const theirs = await Terminal.open(theirVm.user({ username: "alice" }), { reconnect: false });
  assert.equal(await theirs.run("whoami"), "alice\n");
  await identity.tokens.revoke({ tokenId });
  assert.equal((await theirs.closed).code, 1008);
  assert.equal((await refused(`/sessions/${theirs.id}`, { as })).status, 401);
  // Nobody else is, and the session goes on.
  const own = await Terminal.attach(vm, theirs.id);
  assert.equal(await own.run("whoami"), "alice\n");
  await vm.pty.close({ sessionId: theirs.id });
});

test("a suspended VM keeps its sessions, and who comes back wakes it", async () => {
  const exec = "stty -echo; echo before; exec cat";
  const once = await Terminal.open(vm, { exec, sessionId: "asleep", reconnect: false });
  await once.see(/before/);
  await vm.suspend();
  const { code, wasClean } = await once.closed;
  assert.deepEqual([code, wasClean], [1001, true]);

  const row = await listed(vm, "asleep");
  const { running, suspended, attachedCount, exitCode } = row;
  assert.deepEqual([running, suspended, attachedCount, exitCode], [false, true, 0, null]);
  assert.equal((await refused("/sessions/nothing")).status, 404);
  assert.equal((await vm.getInfo()).state, "suspended");

  const again = await Terminal.attach(vm, "asleep");
  assert.match(again.screen, /before/);
  again.type("awake\n");
  await again.see(/awake/);
  assert.deepEqual((await listed(vm, "asleep")).suspended, false);

  // A client that reconnects by itself does just that.
  await vm.suspend();
  await again.reconnected();
  again.type("awake again\n");
  await again.see(/awake again/);
  assert.equal((await vm.getInfo()).state, "running");
  await vm.pty.close({ sessionId: "asleep" });
  assert.equal(await again.exited, 137);
});

test("a child has its parent's sessions as they were, and then its own", async () => {
  const exec = "stty -echo; echo inherited; exec cat";
  const parent = await Terminal.open(vm, { exec, sessionId: "family" });
  await parent.see(/inherited/);
  const ended = await Terminal.open(vm, { exec: "true", sessionId: "ended" });
  await ended.exited;

  const { forks } = await vm.fork({ count: 2 });
  const children = forks.map(({ vm }) => vm);
  const terminals = [];
  for (const child of children) {
    assert.deepEqual(await sessionIds(child), ["family"]);
    const terminal = await Terminal.attach(child, "family", { reconnect: false });
    assert.match(terminal.screen, /inherited/);
    terminals.push(terminal);
  }
  const all = [parent, ...terminals];
  all.forEach((terminal, index) => terminal.type(`only ${index}\n`));
  for (const [index, terminal] of all.entries()) {
    await terminal.see(new RegExp(`only ${index}`));
    assert.equal(terminal.shown.match(/only/g).length, 1, terminal.shown);
  }
  // The parent's viewers were not disturbed.
  assert.equal(parent.reconnects, 0);

  // Stopping a VM ends its sessions for good, and who comes back does not start it.
  const [first, second] = children;
  await first.stop();
  await terminals[0].closed;
  assert.deepEqual((await first.pty.list()).sessions, []);
  assert.equal((await refused("/sessions/family", { of: first.vmId })).status, 404);
  assert.equal((await first.getInfo()).state, "stopped");
  await Promise.all([first.delete(), second.delete()]);
  await terminals[1].closed;
  await vm.pty.close({ sessionId: "family" });
});

test("a VM has no more sessions than it may", async () => {
  const before = await sessionIds(vm);
  for (const sessionId of before) await vm.pty.close({ sessionId });
  for (let count = 0; count < 128; count += 8) {
    const opened = Array.from({ length: 8 }, () => Terminal.open(vm, { exec: "exec cat" }));
    await Promise.all((await Promise.all(opened)).map((terminal) => terminal.detach()));
  }
  const { status, body } = await refused("?cols=80&rows=24");
  assert.deepEqual([status, body.code], [429, "SESSION_CAP_REACHED"]);
  assert.deepEqual([body.vmId, body.limit], [vmId, 128]);
  // Everything else still works, and so does the VM's next session once one has gone.
  const ids = await sessionIds(vm);
  assert.equal(ids.length, 128);
  assert.equal(await sh(vm, "echo fine"), "fine\n");
  await vm.pty.close({ sessionId: ids[0] });
  const next = await Terminal.open(vm);
  assert.equal(await next.run("echo next"), "next\n");
  await next.detach();
});

test("a server that ends leaves the sessions, and clients find them again", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    const { vm } = await client(server.apiKey, server.url).vms.create(NEVER);
    const reconnect = { maxAttempts: 200, maxDelayMs: 250 };
    const terminal = await Terminal.open(vm, { sessionId: "kept", reconnect });
    await terminal.run("VALUE=remembered");
    const listen = new URL(server.url).host;

    await server.kill();
    await server.launch({ poolSize: 0, listen });
    await terminal.reconnected(1);
    assert.equal(await terminal.run('echo "$VALUE"'), "remembered\n");

    // In order, too: an open terminal holds no server up.
    await server.stop();
    await server.launch({ poolSize: 0, listen });
    await terminal.reconnected(2);
    assert.equal(await terminal.run('echo "$VALUE"'), "remembered\n");
    terminal.type("exit\n");
    assert.equal(await terminal.exited, 0);
    await vm.delete();
  });
});
