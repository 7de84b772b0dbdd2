// The CLI of this project's own binary.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { run as program } from "../support/process.mjs";
import { Shown } from "../support/pty.mjs";
import { API_URL, client, DATA_DIR, failsWith, fileAccount, session } from "../support/sdk.mjs";
import { FREESTYLE, freestyle as run } from "../support/server.mjs";

const { freestyle: sdk, id: accountId, key } = await fileAccount("own cli");
const dir = mkdtempSync(join(tmpdir(), "fse2e-cli-"));
after(() => rmSync(dir, { recursive: true }));
const CREDENTIALS = { FREESTYLE_API_URL: API_URL, FREESTYLE_API_KEY: key.secret };
const NONE = { FREESTYLE_API_URL: undefined, FREESTYLE_API_KEY: undefined };

function cli(args, env = CREDENTIALS) {
  return run(args, { cwd: dir, env });
}

async function succeeds(...args) {
  const { code, stdout, stderr } = await cli(args);
  assert.equal(code, 0, stderr || stdout);
  return stdout;
}

async function json(...args) {
  return JSON.parse(await succeeds(...args, "--json"));
}

async function fails(args, env = CREDENTIALS) {
  const { code, stdout, stderr } = await cli(args, env);
  assert.equal(code, 1, stdout + stderr);
  assert.equal(stdout, "");
  return stderr;
}

test("a VM from create to delete", async () => {
  const id = (
    await succeeds("vm", "create", "--name", "mine", "--vcpus", "1", "--memory", "1")
  ).trim();
  assert.match(id, /^[a-z0-9]{20}$/);

  const [header, row] = (await succeeds("vm", "list")).trimEnd().split("\n");
  assert.match(header, /^ID +NAME +STATE +CPU +MEMORY +DISK +CREATED$/);
  assert.match(row, new RegExp(`^${id} +mine +running +1 +1 GB +20 GB +\\d{4}-\\d\\d-\\d\\dT`));
  const { vms, totalCount } = await json("vm", "list");
  assert.deepEqual([vms[0].id, totalCount], [id, 1]);
  assert.equal((await json("vm", "get", id)).name, "mine");
  assert.match(await succeeds("vm", "get", id), /^state +running$/m);

  const ran = await cli(["vm", "exec", id, "echo out; echo err >&2; exit 42"]);
  assert.deepEqual(ran, { code: 42, signal: null, stdout: "out\n", stderr: "err\n" });
  const asUser = await json("vm", "exec", id, "--user", "nobody", "whoami");
  assert.deepEqual(asUser, { stdout: "nobody\n", stderr: "", statusCode: 0 });
  const late = await cli(["vm", "exec", id, "--timeout", "1", "echo early; sleep 60"]);
  assert.deepEqual([late.code, late.stdout], [124, "early\n"]);

  assert.equal(await succeeds("vm", "kill", id), `killed ${id}\n`);
  assert.equal((await json("vm", "get", id)).state, "stopped");
  assert.equal(await succeeds("vm", "delete", id), `deleted ${id}\n`);
  const again = await fails(["vm", "delete", id]);
  assert.match(again, /^error: .*there is no VM/);
  assert.match(again, /^hint: `freestyle vm list`/m);
});

test("vm create --exec --delete is the command, and leaves nothing", async () => {
  const { code, stdout } = await cli(["vm", "create", "--exec", "uname -s; exit 7", "--delete"]);
  assert.deepEqual([code, stdout], [7, "Linux\n"]);
  assert.equal((await sdk.vms.list()).totalCount, 0);
  const { exec } = await json("vm", "create", "--exec", "echo once", "--delete");
  assert.deepEqual(exec, { stdout: "once\n", stderr: "", statusCode: 0 });
});

test("terminal sessions", async () => {
  const vm = (await succeeds("vm", "create", "--vcpus", "1", "--memory", "1")).trim();
  const piped = await cli(["vm", "pty", vm, "--exec", "stty size; echo out; exit 3"]);
  assert.deepEqual([piped.code, piped.stdout], [3, "24 80\r\nout\r\n"], piped.stderr);

  // At a terminal, which must be as it was afterwards.
  const atTerminal = (work) => {
    const pty = `${FREESTYLE} vm pty ${vm} --session work`;
    const script = `stty rows 30 cols 100; ${pty}; echo "status $?"; stty -a`;
    const child = spawn("script", ["-qec", script, "/dev/null"], {
      cwd: dir,
      env: { ...process.env, ...CREDENTIALS, SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const shown = new Shown();
    child.stdout.on("data", (chunk) => shown.add(chunk));
    return work(shown, (typed) => child.stdin.write(typed)).finally(() => child.kill());
  };
  await atTerminal(async (shown, type) => {
    await shown.see(/session work; Ctrl-\] leaves it/);
    await shown.see(/# /);
    type("VALUE=kept; stty size\r");
    await shown.see(/30 100\r\n/);
    type("\x1d");
    await shown.see(/left session work/);
    await shown.see(/status 0\r\n/);
    await shown.see(/ icanon .* echo /s);
  });
  const { sessions } = await json("vm", "pty", "list", vm);
  assert.deepEqual(
    sessions
      .filter(({ running }) => running)
      .map(({ sessionId, attachedCount }) => [sessionId, attachedCount]),
    [["work", 0]],
  );
  const row = /^work +running +- +0 +100x30 +login shell$/m;
  assert.match(await succeeds("vm", "pty", "list", vm), row);
  await atTerminal(async (shown, type) => {
    await shown.see(/30 100\r\n/);
    type('echo "$VALUE"; exit 5\r');
    await shown.see(/kept\r\n/);
    await shown.see(/status 5\r\n/);
    await shown.see(/ icanon .* echo /s);
  });

  assert.equal(await succeeds("vm", "pty", "close", vm, "work"), "closed work\n");
  assert.match(await fails(["vm", "pty", "close", vm, "work"]), /^error: there is no such session/);
  const left = (await json("vm", "pty", "list", vm)).sessions;
  assert(!left.some(({ sessionId }) => sessionId === "work"));
  await succeeds("vm", "delete", vm);
});

test("snapshots from create to delete", async () => {
  const vm = (await succeeds("vm", "create", "--vcpus", "1", "--memory", "1")).trim();
  await succeeds("vm", "exec", vm, "echo memory > /dev/shm/kept");
  const snapshot = (
    await succeeds("vm", "snapshot", "create", vm, "--name", "with memory")
  ).trim();
  assert.match(snapshot, /^sc-[a-z0-9]{20}$/);
  const sticky = await json("vm", "snapshot", "create", vm, "--sticky", "7");
  assert.equal(sticky.sourceVmId, vm);

  const rows = (await succeeds("vm", "snapshot", "list")).trimEnd().split("\n");
  assert.match(rows[0], /^SNAPSHOT ID +NAME +SOURCE VM +STATE +CREATED$/);
  assert.equal(rows.length, 3);
  assert.match(rows[2], new RegExp(`^${snapshot} +with memory +${vm} +ready +\\d{4}-`));
  const { snapshots } = await json("vm", "snapshot", "list");
  assert.deepEqual(
    snapshots.map(({ snapshotId }) => snapshotId),
    [sticky.snapshotId, snapshot],
  );
  assert.deepEqual(snapshots[0].snapshotPersistence, { type: "sticky", priority: 7 });

  assert.equal((await json("vm", "snapshot", "get", snapshot)).name, "with memory");
  await succeeds("vm", "snapshot", "rename", snapshot, "--name", "other");
  assert.match(await succeeds("vm", "snapshot", "get", snapshot), /^name +other$/m);

  const booted = (await succeeds("vm", "snapshot", "boot", snapshot)).trim();
  const created = (await json("vm", "create", "--snapshot", snapshot)).id;
  for (const made of [booted, created]) {
    assert.equal(await succeeds("vm", "exec", made, "cat /dev/shm/kept"), "memory\n");
  }

  await succeeds("vm", "snapshot", "delete", snapshot);
  assert.match(await fails(["vm", "snapshot", "delete", snapshot]), /^error: .*was deleted/);
  assert.match(await fails(["vm", "create", "--snapshot", snapshot]), /^error: .*was deleted/);
  assert.match(await fails(["vm", "snapshot", "get", "sc-no"]), /^error: /);
  await succeeds("vm", "snapshot", "delete", sticky.snapshotId);
  for (const id of [vm, booted, created]) await succeeds("vm", "delete", id);
  assert.deepEqual((await json("vm", "snapshot", "list")).snapshots, []);
});

test("fork, suspend, wake, stop, resize", async () => {
  const vm = (await succeeds("vm", "create", "--vcpus", "1", "--memory", "1")).trim();
  await succeeds("vm", "exec", vm, "echo memory > /dev/shm/kept");
  const stateOf = async (id) => (await json("vm", "get", id)).state;

  const children = (await succeeds("vm", "fork", vm, "--count", "2")).trim().split("\n");
  assert.equal(children.length, 2);
  const { forks } = await json("vm", "fork", vm);
  children.push(...forks.map(({ id }) => id));
  for (const child of children) {
    assert.equal(await succeeds("vm", "exec", child, "cat /dev/shm/kept"), "memory\n");
    await succeeds("vm", "delete", child);
  }

  assert.equal(await succeeds("vm", "suspend", vm), `suspended ${vm}\n`);
  assert.equal(await stateOf(vm), "suspended");
  await succeeds("vm", "start", vm, "--idle-timeout", "never");
  assert.equal(await stateOf(vm), "running");
  assert.equal((await json("vm", "suspend", vm)).id, vm);
  assert.equal(await succeeds("vm", "exec", vm, "cat /dev/shm/kept"), "memory\n");

  await succeeds("vm", "stop", vm);
  assert.equal(await stateOf(vm), "stopped");
  assert.match(await fails(["vm", "suspend", vm]), /^error: .*is not running/);
  assert.match(await fails(["vm", "fork", vm]), /^error: .*is not running/);
  await succeeds("vm", "resize", vm, "--memory", "2", "--disk", "25");
  assert.match(await succeeds("vm", "list"), new RegExp(`^${vm} .* 1 +2 GB +25 GB `, "m"));
  assert.match(await fails(["vm", "resize", vm, "--disk", "10"]), /^error: .*shrink/);
  assert.deepEqual(await json("vm", "resize", vm, "--vcpus", "2"), { id: vm });
  await succeeds("vm", "delete", vm);
});

test("identities from create to delete", async () => {
  const vm = (await succeeds("vm", "create", "--vcpus", "1", "--memory", "1")).trim();
  const id = (await succeeds("identity", "create")).trim();
  assert.match(id, /^idn-[a-z0-9]{20}$/);
  const { id: second } = await json("identity", "create");
  assert.match(await succeeds("identity", "list"), new RegExp(`^ID\n${id}\n${second}\n$`));
  assert.equal((await json("identity", "list", "--limit", "1", "--offset", "1")).total, 2);

  await succeeds("identity", "grant", id, "--vm", vm, "--user", "nobody");
  const token = (await succeeds("identity", "token", "create", id)).trim();
  const { vm: granted } = await session(token).vms.get({ vmId: vm });
  const asNobody = await granted.user({ username: "nobody" }).exec("whoami");
  assert.equal(asNobody.stdout, "nobody\n");
  await assert.rejects(granted.exec("whoami"), failsWith("ACCESS_DENIED"));
  assert.match(await succeeds("identity", "grants", id), new RegExp(`^vm +${vm} +nobody$`, "m"));

  const any = await json("identity", "grant", id, "--vm", vm);
  assert.equal(any.allowedUsers, null);
  assert.equal((await granted.exec("whoami")).stdout, "root\n");
  const { vms, repositories } = await json("identity", "grants", id);
  assert.deepEqual([vms, repositories], [[any], []]);
  const repo = "00000000-0000-4000-8000-000000000000";
  const noRepo = await fails(["identity", "grant", id, "--repo", repo, "--read"]);
  assert.match(noRepo, /^error: .*there is no repository/);
  assert.match(await fails(["identity", "grant", id, "--repo", repo]), /^hint: --read or --write/m);

  const { tokens } = await json("identity", "token", "list", id);
  assert.equal(await succeeds("identity", "token", "list", id), `ID\n${tokens[0].id}\n`);
  assert.equal(
    await succeeds("identity", "token", "revoke", id, tokens[0].id),
    `revoked ${tokens[0].id}\n`,
  );
  await assert.rejects(granted.exec("whoami"), failsWith("UNAUTHORIZED_ERROR"));
  assert.deepEqual((await json("identity", "token", "list", id)).tokens, []);
  const made = await json("identity", "token", "create", id);
  assert.equal((await session(made.token).whoami()).identityId, id);

  assert.equal(await succeeds("identity", "revoke", id, "--vm", vm), `revoked ${vm}\n`);
  const again = await fails(["identity", "revoke", id, "--vm", vm]);
  assert.match(again, /^hint: `freestyle identity grants`/m);
  assert.deepEqual(await json("identity", "delete", id), { id });
  const gone = await fails(["identity", "delete", id]);
  assert.match(gone, /^error: .*there is no identity .*\nhint: `freestyle identity list`/);
  await succeeds("identity", "delete", second);
  assert.equal(await succeeds("identity", "list"), "");
  await succeeds("vm", "delete", vm);
});

test("admin storage says what takes space, and whose it is", async () => {
  const { vm, vmId } = await sdk.vms.create({ vcpuCount: 1, memSizeGb: 1 });
  const { snapshotId } = await vm.snapshot({ name: "to be seen" });
  const admin = ["admin", "storage", "--data-dir", DATA_DIR];
  const table = await succeeds(...admin);
  const report = JSON.stringify(await json(...admin));
  for (const id of [vmId, snapshotId]) {
    assert.match(table, new RegExp(id));
    assert.match(report, new RegExp(id));
  }
  await sdk.vms.snapshots.delete({ snapshotId });
  await vm.delete();
});

test("a list of no VMs is empty", async () => {
  assert.equal(await succeeds("vm", "list"), "");
  assert.deepEqual((await json("vm", "list")).vms, []);
});

test("whoami", async () => {
  assert.equal(await succeeds("whoami"), `account   ${accountId}\n`);
  assert.equal((await json("whoami")).accountId, accountId);
});

test("a mistake is an error with a hint", async () => {
  const noKey = await fails(["whoami"], NONE);
  assert.match(noKey, /^error: FREESTYLE_API_KEY is not set\nhint: /);

  const wrongKey = await fails(["vm", "list"], { ...CREDENTIALS, FREESTYLE_API_KEY: "fs_wrong" });
  assert.match(wrongKey, /^error: .*\nhint: check FREESTYLE_API_KEY/);

  const nobody = await fails(["vm", "list"], {
    ...CREDENTIALS,
    FREESTYLE_API_URL: "http://127.0.0.1:1",
  });
  assert.match(nobody, /^hint: is `freestyle serve` running\?/m);

  assert.match(await fails(["vm", "get", "NO"]), /^error: .*not the id of a VM/);
  assert.match(await fails(["vm", "create", "--vcpus", "3"]), /^error: .*power of two/);
  assert.match(await fails(["vm", "create", "--memory", "1000"]), /^error: .*between 512 and/);

  const usage = await cli(["vm", "exec"]);
  assert.equal(usage.code, 2);
  assert.match(usage.stderr, /Usage: freestyle vm exec/);
});

test("the key and the address may come from .env", async () => {
  writeFileSync(
    join(dir, ".env"),
    `# for tests
export FREESTYLE_API_URL="${API_URL}"
FREESTYLE_API_KEY='${key.secret}' # mine
OTHER="
"
`,
  );
  const { stdout, stderr } = await cli(["whoami"], NONE);
  assert.equal(stdout, `account   ${accountId}\n`, stderr);
  const refused = await fails(["whoami"], { ...NONE, FREESTYLE_API_KEY: "fs_environment_wins" });
  assert.match(refused, /API key is unknown/);
  rmSync(join(dir, ".env"));
});

test("doctor says what the host has", async () => {
  const checks = await json("doctor");
  assert(checks.length > 5);
  assert.deepEqual(
    checks.filter(({ verdict }) => verdict === "problem"),
    [],
  );
  assert.match(await succeeds("doctor"), /^(ok|note) +QEMU +qemu-system-x86_64 \d+\.\d+/m);

  const { code, stdout } = await cli(["doctor", "--qemu", "/nonexistent/qemu"]);
  assert.equal(code, 1);
  assert.match(stdout, /^PROBLEM .*\n +-> .*--qemu/im);
});

test("accounts and keys are managed beside the running server", async () => {
  const admin = (...args) => json("admin", ...args, "--data-dir", DATA_DIR);
  const account = await admin("account", "create", "managed");
  assert(
    (await admin("account", "list")).some(
      ({ id, name }) => id === account.id && name === "managed",
    ),
  );

  const made = await admin("key", "create", "--account", "managed", "--name", "ci");
  assert.equal((await client(made.secret).whoami()).accountId, account.id);
  const listed = await succeeds(
    "admin",
    "key",
    "list",
    "--account",
    account.id,
    "--data-dir",
    DATA_DIR,
  );
  assert.match(listed, new RegExp(`^${made.id} +ci +managed +valid$`, "m"));
  assert(!listed.includes(made.secret));

  await admin("key", "revoke", made.id);
  const [{ revokedAtMs }] = await admin("key", "list", "--account", account.id);
  assert(Math.abs(revokedAtMs - Date.now()) < 60_000);
  assert.match(
    await fails(["admin", "key", "revoke", made.id, "--data-dir", DATA_DIR]),
    /^error: there is no valid key .*\nhint: /,
  );
  assert.match(
    await fails(["admin", "account", "list", "--data-dir", join(dir, "none")]),
    /\nhint: --data-dir/,
  );
});

test("VPCs are made, listed and deleted, and sessions into them made and closed", async () => {
  const vpc = (await succeeds("vpc", "create", "--cidr", "10.213.76.0/24", "-n", "net")).trim();
  assert.match(vpc, /^vpc-[a-z0-9]{20}$/);
  const { vpcs } = await json("vpc", "list");
  assert.deepEqual(
    vpcs.map(({ createdAt, ...listed }) => listed),
    [{ vpcId: vpc, name: "net", cidr: "10.213.76.0/24", vms: [] }],
  );
  const vm = (await succeeds("vm", "create", "--vpc", vpc, "--ip", "10.213.76.9")).trim();
  const member = new RegExp(`^${vpc}  net +10.213.76.0/24 +${vm} +10.213.76.9$`, "m");
  assert.match(await succeeds("vpc", "list"), member);
  assert.match(await succeeds("vm", "exec", vm, "hostname -I"), /(^| )10\.213\.76\.9 /);
  assert.match(await fails(["vm", "create", "--vpc", vpc, "--ip", "10.213.76.9"]), /10\.213\.76\.9/);
  assert.match(await fails(["vpc", "delete", vpc]), /^error: .*in use by 1 of your VMs/);
  await succeeds("vm", "delete", vm);

  const config = await succeeds("vpn", "config", vpc);
  assert.match(config, /^\[Interface\]\nAddress = 100\.96\.\d+\.\d+\/32\nPrivateKey = \S{44}\n/);
  const { sessionId } = await json("vpn", "config", vpc);
  assert.equal(await succeeds("vpn", "close", vpc, sessionId), `closed ${sessionId}\n`);

  assert.match(await fails(["vpc", "create", "--cidr", "8.8.8.0/24"]), /^error: .*8\.8\.8\.0\/24/);
  assert.equal(await succeeds("vpc", "delete", vpc), `deleted ${vpc}\n`);
  assert.match(await fails(["vpn", "config", vpc]), /^error: .*there is no VPC/);
});

test("this computer is in a VPC until Ctrl-C", async () => {
  const vpc = (await succeeds("vpc", "create", "--cidr", "10.213.77.0/24")).trim();
  const route = async () => (await program("ip", ["route", "get", "10.213.77.5"])).stdout;
  const vpn = spawn(FREESTYLE, ["vpn", "connect", vpc, "--json"], {
    cwd: dir,
    env: { ...process.env, ...CREDENTIALS },
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  const exited = once(vpn, "exit");
  let printed = "";
  for await (const chunk of vpn.stdout) {
    printed += chunk;
    if (printed.endsWith("}\n")) break;
  }
  const told = JSON.parse(printed);
  assert.match(told.interface, /^fs-[a-z0-9]{10}$/);
  assert.match(await route(), new RegExp(`dev ${told.interface} src ${told.clientTunnelIp}`));

  // As a terminal does it: to every process of the group.
  process.kill(-vpn.pid, "SIGINT");
  assert.deepEqual(await exited, [0, null]);
  assert.doesNotMatch(await route(), /dev fs-/);
  await succeeds("vpc", "delete", vpc);
});

test("help names every command", async () => {
  const help = await succeeds("--help");
  const commands = "serve vm git domains vpc vpn identity whoami ca doctor image admin";
  for (const command of commands.split(" ")) {
    assert.match(help, new RegExp(`^  ${command} +\\S`, "m"));
  }
  assert.match(await succeeds("--version"), /^freestyle \d+\.\d+\.\d+\n$/);
});
