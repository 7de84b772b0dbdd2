// Servers that end badly, and what the next one makes of it. Each test has servers of its own.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";

import { VmSpec } from "freestyle";

import * as host from "./support/host.mjs";
import { Laptop } from "./support/laptop.mjs";
import { run } from "./support/process.mjs";
import { client, deleteAll, eventually, sh } from "./support/sdk.mjs";
import { freestyle as cli, withDataDir, withServer } from "./support/server.mjs";

const ROUNDS = Number(process.env.E2E_ROUNDS ?? 5);
const WORKERS = 4;
/** The moment of a crash is random: a failure is repeated by naming the seed it printed. */
const SEED = Number(process.env.E2E_SEED ?? Math.floor(Math.random() * 2 ** 31));
const DEFAULT_SIZE = {};
const SMALL = { vcpuCount: 1, memSizeGb: 1 };

/** A random number generator that can be repeated (mulberry32). */
function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function sdk(server) {
  return client(server.apiKey, server.url);
}

/** A VM that no crash may touch. */
async function keeper(freestyle, name) {
  const { vm, vmId } = await freestyle.vms.create({ name, ...SMALL, idleTimeoutSeconds: null });
  const keep = `echo ${name} | tee /dev/shm/kept > /root/kept; sync; sleep 100000 & echo $!`;
  const pid = await sh(vm, keep);
  const { vmInstanceId } = await vm.getInfo();
  return { vmId, vmInstanceId, name, pid: pid.trim() };
}

async function assertKept(freestyle, { vmId, vmInstanceId, name, pid }) {
  const vm = freestyle.vms.ref({ vmId });
  const look = `cat /dev/shm/kept /root/kept; kill -0 ${pid}`;
  assert.equal(await sh(vm, look), `${name}\n${name}\n`);
  const info = await vm.getInfo();
  assert.deepEqual([info.state, info.vmInstanceId], ["running", vmInstanceId]);
}

/** What may be there after a load: a VM's id and the states it may be in, and snapshots. */
class Known {
  vms = new Map();
  snapshots = new Set();

  /** Does what takes a VM from one state to another: without an answer it is in either. */
  async change(vmId, from, to, action) {
    this.vms.set(vmId, [from, to]);
    await action();
    this.vms.set(vmId, [to]);
  }
}

/**
 * Creates, uses and ends VMs until the server is gone, and copies the memory of one that is kept.
 * What an unanswered call may or may not have done is both.
 */
async function load(freestyle, chance, { vmId: keptId }) {
  const known = new Known();
  const kept = freestyle.vms.ref({ vmId: keptId });
  const fork = async (vm, count) => {
    const { forks } = await vm.fork({ count });
    for (const child of forks) known.vms.set(child.vmId, ["running"]);
  };
  const snapshot = async (vm) => {
    const { snapshotId } = await vm.snapshot();
    known.snapshots.add(snapshotId);
    const { vmId } = await freestyle.vms.create({ snapshotId });
    known.vms.set(vmId, ["running"]);
  };
  const sleep = async (vm, vmId) => {
    await known.change(vmId, "running", "suspended", () => vm.suspend());
    if (chance() < 0.5) return;
    await known.change(vmId, "suspended", "running", () => sh(vm, "cat /dev/shm/id"));
  };
  const uses = [
    (vm, vmId) => known.change(vmId, "running", "gone", () => vm.delete()),
    (vm, vmId) => known.change(vmId, "running", "stopped", () => vm.kill()),
    (vm, vmId) => known.change(vmId, "running", "stopped", () => vm.stop()),
    () => undefined,
    sleep,
    sleep,
    snapshot,
    () => snapshot(kept),
    (vm) => fork(vm, 2),
    () => fork(kept, 2),
    (vm) => vm.optimize(),
    async (vm, vmId) => {
      // It is stopped meanwhile.
      await known.change(vmId, "running", "stopped", () => vm.resize({ storage: 21 }));
      known.vms.set(vmId, ["running"]);
    },
  ];
  const work = async () => {
    for (;;) {
      const size = chance() < 0.6 ? DEFAULT_SIZE : SMALL;
      const { vm, vmId } = await freestyle.vms.create({ ...size, idleTimeoutSeconds: null });
      known.vms.set(vmId, ["running"]);
      await sh(vm, `echo ${vmId} > /dev/shm/id`);
      await uses[Math.floor(chance() * uses.length)](vm, vmId);
    }
  };
  // Each ends with the error of the call that got no answer.
  const ends = await Promise.allSettled(Array.from({ length: WORKERS }, work));
  for (const { reason } of ends) {
    assert(!reason.body || reason.body.code === "INTERNAL_ERROR", reason.stack);
  }
  return known;
}

/** Checks that the list, the VMs and the host say the same, and that it is what may be. */
async function assertConsistent(server, known, snapshots = new Set()) {
  const freestyle = sdk(server);
  // A guest that was booting when its server was killed may go on doing so.
  const { vms } = await eventually("no VM is starting", async () => {
    const list = await freestyle.vms.list();
    return list.startingCount === 0 && list;
  });
  const states = new Map(vms.map(({ id, state }) => [id, state]));
  for (const [vmId, allowed] of known) {
    const state = states.get(vmId) ?? "gone";
    assert(allowed.includes(state), `VM ${vmId} is ${state}, not ${allowed.join(" or ")}`);
  }
  for (const [vmId, state] of states) {
    // One whose create or fork was not answered is either gone or complete.
    assert(known.has(vmId) || state === "running", `VM ${vmId} is ${state}`);
  }

  const running = vms.filter(({ state }) => state === "running").map(({ id }) => id);
  const instances = await Promise.all(
    running.map(async (vmId) => {
      const vm = freestyle.vms.ref({ vmId });
      assert.equal(await sh(vm, "hostname"), `${vmId}\n`);
      return (await vm.getInfo()).vmInstanceId;
    }),
  );
  // This server keeps no VMs ready, so that nothing else may be there.
  server.look();
  assert.deepEqual([...host.processes(server.dataDir).keys()].sort(), instances.toSorted(), "QEMU");
  assert.deepEqual([...host.instances(server.dataDir)].sort(), instances.toSorted(), "on the host");
  assert.deepEqual(host.vmDirs(server.dataDir).sort(), [...states.keys()].sort(), "files of VMs");

  const suspended = vms.filter(({ state }) => state === "suspended").map(({ id }) => id);
  for (const vmId of suspended) {
    const memory = await sh(freestyle.vms.ref({ vmId }), "hostname; cat /dev/shm/id");
    assert.equal(memory, `${vmId}\n${vmId}\n`);
  }
  const { snapshots: listed } = await freestyle.vms.snapshots.list({ includeLost: true });
  const settled = new Map(listed.map(({ snapshotId, state }) => [snapshotId, state]));
  for (const snapshotId of snapshots) assert.equal(settled.get(snapshotId), "ready", snapshotId);
  for (const [snapshotId, state] of settled) {
    // One that was not answered may have been complete nevertheless.
    assert(state === "ready" || state === "failed", `snapshot ${snapshotId} is ${state}`);
    if (state === "failed") continue;
    const { vm } = await freestyle.vms.create({ snapshotId });
    const memory = await sh(vm, "hostname; cat /dev/shm/id /dev/shm/kept 2>/dev/null | wc -l");
    assert.equal(memory, `${vm.vmId}\n1\n`);
    await vm.delete();
  }
}

test(`a server killed at any moment loses and leaks nothing (E2E_SEED=${SEED})`, async (t) => {
  const chance = random(SEED);
  await withServer({ poolSize: 1 }, async (server) => {
    const keepers = await Promise.all(["one", "other"].map((name) => keeper(sdk(server), name)));
    for (let round = 1; round <= ROUNDS; round += 1) {
      const loaded = load(sdk(server), chance, keepers[0]);
      const after = Math.floor(300 + chance() * 4000);
      await delay(after);
      await server.kill();
      const { vms: known, snapshots } = await loaded;
      t.diagnostic(
        `round ${round}: killed after ${after} ms, ${known.size} VMs, ${snapshots.size} snapshots`,
      );
      if (chance() < 0.5) {
        // Its successor does not get far either.
        server.spawn({ poolSize: 0 });
        await delay(chance() * 400);
        await server.kill();
      }

      await server.launch({ poolSize: 0 });

      for (const kept of keepers) {
        await assertKept(sdk(server), kept);
        known.set(kept.vmId, ["running"]);
      }
      await assertConsistent(server, known, snapshots);
      await deleteAll(
        sdk(server),
        keepers.map(({ vmId }) => vmId),
      );
      await server.stop();
      await server.launch({ poolSize: 1 });
    }
    await deleteAll(sdk(server));
  });
});

test("what was half done when the server was killed is undone or completed", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    const freestyle = sdk(server);
    const create = () => freestyle.vms.create(SMALL);
    const [{ vm: starting, vmId: startingId }, { vm: stopping, vmId: stoppingId }] =
      await Promise.all([create(), create()]);
    await starting.kill();
    const calls = Promise.allSettled([
      starting.start(),
      stopping.stop(),
      freestyle.vms.create({ spec: new VmSpec().vcpuCount(1).memSizeGb(1).aptDeps("jq") }),
    ]);
    await eventually("a VM starts and another is built", async () => {
      const { startingCount, buildingCount } = await freestyle.vms.list();
      return startingCount === 1 && buildingCount === 1;
    });

    await server.kill();
    await calls;
    await server.launch({ poolSize: 0 });

    const known = new Map([startingId, stoppingId].map((vmId) => [vmId, ["stopped"]]));
    await assertConsistent(server, known);
    assert.equal((await sdk(server).vms.list()).totalCount, 2);
    await deleteAll(sdk(server));
  });
});

test("a first start that is killed does not stand in the way of the next", async () => {
  await withDataDir(async (server) => {
    // A cache with the base image, which takes minutes to build, and no snapshot of it yet.
    const { stdout } = await cli(["image", "build", "--json"]);
    const { folder } = JSON.parse(stdout);
    const cache = join(server.dir, "cache");
    mkdirSync(join(cache, "images"), { recursive: true });
    await run("cp", ["--archive", "--sparse=always", folder, join(cache, "images")]);
    const options = { poolSize: 0, env: { FREESTYLE_CACHE_DIR: cache } };

    server.spawn(options);
    await eventually("the image is booted", () => host.processes(server.dataDir).size === 1);
    await server.kill();
    await server.launch(options);

    await assertConsistent(server, new Map());
    const { vm } = await sdk(server).vms.create();
    assert.equal(await sh(vm, "echo ready"), "ready\n");
    await vm.delete();
    const halves = readdirSync(join(cache, "templates")).filter((name) => name.endsWith(".new"));
    assert.deepEqual(halves, []);
  });
});

test("VMs whose process ended, with or without a server watching, are stopped", async () => {
  await withServer({ poolSize: 1 }, async (server) => {
    const { vm, vmId } = await sdk(server).vms.create(SMALL);
    const { vmInstanceId } = await vm.getInfo();

    process.kill(host.processes(server.dataDir).get(vmInstanceId), "SIGKILL");
    assert.equal((await vm.waitForExit()).id, vmId);
    assert.equal((await vm.getInfo()).state, "stopped");

    // As after a power failure: neither server nor VMs are there any more.
    const { vm: second } = await sdk(server).vms.create(SMALL);
    await sh(second, "echo kept > /root/kept; sync");
    await server.kill();
    for (const pid of host.processes(server.dataDir).values()) process.kill(pid, "SIGKILL");
    await server.launch({ poolSize: 0 });
    await assertConsistent(server, new Map([vm, second].map(({ vmId }) => [vmId, ["stopped"]])));
    assert.equal(await sh(sdk(server).vms.ref({ vmId: second.vmId }), "cat /root/kept"), "kept\n");
    await deleteAll(sdk(server));
  });
});

test("a VM that died while it was kept ready is not handed out", async () => {
  await withServer({ poolSize: 1 }, async (server) => {
    let used;
    const pid = await eventually("a VM is kept ready: its process uses no CPU", () => {
      const [pid] = host.processes(server.dataDir).values();
      const before = used;
      used = pid && host.cpuTicks(pid);
      return used !== undefined && used === before && pid;
    });
    process.kill(pid, "SIGKILL");
    const { vm } = await sdk(server).vms.create();
    assert.equal(await sh(vm, "echo alive"), "alive\n");
    await deleteAll(sdk(server));
  });
});

test("a server that is asked to end does not wait for a command, and its VMs run on", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    const kept = await keeper(sdk(server), "one");
    const vm = sdk(server).vms.ref(kept);
    const command = assert.rejects(vm.exec("touch /dev/shm/runs; sleep 1000"));
    await eventually("the command runs", () => vm.fs.exists("/dev/shm/runs"));

    await server.stop();
    await command;

    await server.launch({ poolSize: 0 });
    await assertKept(sdk(server), kept);
    await deleteAll(sdk(server));
  });
});

test("a second server on the same data, or on the same port, says what is in its way", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    const serve = async (...args) => {
      const { code, stderr } = await cli(["serve", ...args], { cwd: server.dir });
      assert.equal(code, 1, stderr);
      return stderr;
    };
    const sameData = await serve("--data-dir", server.dataDir, "--api-listen", "127.0.0.1:0");
    assert.match(
      sameData,
      /^error: another server uses the data directory .*\nhint: .*--data-dir/m,
    );

    const port = new URL(server.url).port;
    const other = ["--data-dir", `${server.dir}/other`, "--api-listen", `127.0.0.1:${port}`];
    const samePort = await serve(...other);
    assert.match(
      samePort,
      /^error: cannot listen on 127\.0\.0\.1:\d+: .*in use.*\nhint: --api-listen/m,
    );

    assert.equal((await sdk(server).vms.list()).totalCount, 0);
  });
});

test("a VPC and a laptop in it outlive a killed server", () =>
  withDataDir(async (server) => {
    await server.launch({ poolSize: 0 });
    let freestyle = sdk(server);
    const { vpcId, vpc } = await freestyle.vpc.create({ cidr: "192.168.20.0/24" });
    const create = (ipv4) =>
      freestyle.vms.create({
        ...SMALL,
        idleTimeoutSeconds: null,
        nics: [{ vpc: vpcId, mode: "routed", ipv4, default: true }],
      });
    const [one, two] = [await create("192.168.20.10"), await create("192.168.20.11")];
    const laptop = await Laptop.start();
    try {
      await laptop.up((await vpc.wireguard.createEphemeral()).clientConfig);
      const sshd = /^SSH-2\.0-/;
      const asked = "timeout 50 bash -c 'head -c 8 < /dev/tcp/192.168.20.11/22'";
      assert.match(await sh(one.vm, asked), sshd);
      assert.match(await laptop.greeting("192.168.20.11", 22, 60_000), sshd);

      await server.kill();
      const [, port] = server.wireguardEndpoint.match(/:(\d+)$/);
      await server.launch({ poolSize: 0, wireguard: `0.0.0.0:${port}` });

      freestyle = sdk(server);
      // What is there already, and what comes after.
      assert.match(await laptop.greeting("192.168.20.11", 22, 60_000), sshd);
      const again = freestyle.vms.ref({ vmId: one.vmId });
      assert.match(await sh(again, asked), sshd);
      const { vm: three } = await create("192.168.20.12");
      assert.match(await sh(three, asked), sshd);
      await freestyle.vms.ref({ vmId: two.vmId }).stop();
      await freestyle.vms.ref({ vmId: two.vmId }).start();
      // It is started before its sshd is.
      await eventually("sshd answers", async () =>
        sshd.test(await laptop.greeting("192.168.20.11", 22, 60_000)),
      );
      await laptop.down();
    } finally {
      laptop.stop();
    }
    await deleteAll(freestyle);
  }));
