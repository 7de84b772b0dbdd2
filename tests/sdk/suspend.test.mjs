// Suspending and waking VMs, by hand and because their network is quiet.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { recall, remember, startMemo } from "../support/memo.mjs";
import { Outside } from "../support/outside.mjs";
import {
  account,
  client,
  eventually,
  failsWith,
  fileAccount,
  sh,
  SMALL,
} from "../support/sdk.mjs";
import { withServer } from "../support/server.mjs";

const { freestyle } = await fileAccount("suspend");
const NEVER = { ...SMALL, idleTimeoutSeconds: null };
const RANDOM = "head -c 16 /dev/urandom | od -An -tx1";

let vm, vmId;

before(async () => {
  ({ vm, vmId } = await freestyle.vms.create(NEVER));
  await startMemo(vm, "before");
});

async function stateOf(vm) {
  return (await vm.getInfo()).state;
}

async function isSuspended(vm) {
  return (await stateOf(vm)) === "suspended";
}

test("a suspended VM has no process and is listed as suspended", async () => {
  const { vmInstanceId } = await vm.getInfo();
  await sh(vm, "sleep 100000 & echo $! > /run/sleeper");

  const { snapshotLayerId, ...suspended } = await vm.suspend();

  assert.match(snapshotLayerId, /^sc-[a-z0-9]{20}$/);
  assert.deepEqual(suspended, { id: vmId, vmInstanceId });
  const info = await vm.getInfo();
  assert.deepEqual([info.state, info.vmInstanceId], ["suspended", null]);
  const { vms, suspendedCount, runningCount } = await freestyle.vms.list();
  assert.equal(vms.find(({ id }) => id === vmId).state, "suspended");
  assert.deepEqual([suspendedCount, runningCount], [1, 0]);
  // What a VM sleeps on is its own, and no snapshot of the account's.
  assert.equal((await freestyle.vms.snapshots.list()).totalCount, 0);
  // Another time is no error.
  assert.equal((await vm.suspend()).id, vmId);
});

const waking = {
  start: (vm) => vm.start(),
  exec: (vm) => sh(vm, "true"),
  "reading a file": (vm) => vm.fs.readTextFile("/etc/hostname"),
  "writing a file": (vm) => vm.fs.writeTextFile("/root/written", "x"),
};
for (const [what, wake] of Object.entries(waking)) {
  test(`${what} wakes it, with its memory, new randomness and the right time`, async () => {
    const random = [await sh(vm, RANDOM)];
    await vm.suspend();
    assert(await isSuspended(vm));

    await wake(vm);

    assert.equal(await stateOf(vm), "running");
    const asked = Date.now();
    const told = Number(await sh(vm, "date +%s%3N"));
    assert(told > asked - 1000 && told < Date.now() + 1000, `${told} at ${asked}`);
    assert.deepEqual((await recall(vm))[0], "before");
    await sh(vm, "kill -0 $(cat /run/sleeper)");
    assert.equal(await sh(vm, "hostname"), `${vmId}\n`);
    random.push(await sh(vm, RANDOM));
    assert.equal(new Set(random).size, 2);
  });
}

test("two VMs made of the same sleep do not repeat each other's randomness", async () => {
  await vm.suspend();
  const { forks } = await vm.fork({ count: 1 });
  const random = await Promise.all([vm, forks[0].vm].map((one) => sh(one, RANDOM)));
  assert.notEqual(random[0], random[1]);
  await forks[0].vm.delete();
});

test("many calls at once wake a VM once", async () => {
  await remember(vm, "crowd");
  await vm.suspend();
  const ask = () => sh(vm, "cat /proc/sys/kernel/random/boot_id");
  const answers = await Promise.all([1, 2, 3, 4, 5].map(ask));
  assert.equal(new Set(answers).size, 1);
  assert((await recall(vm)).includes("crowd"));
});

test("a VM that is being suspended can be used at once", async () => {
  const [suspended, used] = await Promise.allSettled([vm.suspend(), sh(vm, "echo used")]);
  assert.equal(suspended.status, "fulfilled", suspended.reason?.stack);
  // It was either before, or waited and woke the VM.
  assert.equal(used.value, "used\n", used.reason?.stack);
  assert.equal(await sh(vm, "hostname"), `${vmId}\n`);
});

test("stopping a suspended VM gives up its memory and keeps its disk", async () => {
  const { forks } = await vm.fork({ count: 1 });
  const [{ vm: child }] = forks;
  await sh(child, "echo disk > /root/kept; echo memory > /dev/shm/lost; sync");
  await child.suspend();
  assert.equal((await child.stop()).vmId, child.vmId);
  assert.equal(await stateOf(child), "stopped");
  await assert.rejects(child.suspend(), failsWith("VM_NOT_RUNNING", { vmId: child.vmId }));
  assert.equal(await sh(child, "cat /root/kept; ls /dev/shm"), "disk\n");
  await child.suspend();
  await child.kill();
  assert.equal(await stateOf(child), "stopped");
  await child.delete();
});

test("a suspended VM can be deleted", async () => {
  const { forks } = await vm.fork({ count: 1 });
  const [{ vm: child, vmId }] = forks;
  await child.suspend();
  await child.delete();
  await assert.rejects(child.getInfo(), failsWith("VM_NOT_FOUND", { vmId }));
  await assert.rejects(child.suspend(), failsWith("VM_NOT_FOUND", { vmId }));
});

test("an ephemeral VM goes when it is suspended, if that is what it was made for", async () => {
  const onSuspend = { type: "ephemeral", deleteEvent: "OnSuspend" };
  const { vm: going } = await freestyle.vms.create({ ...NEVER, persistence: onSuspend });
  const { vm: staying } = await freestyle.vms.create({
    ...NEVER,
    persistence: { type: "ephemeral" },
  });
  await Promise.all([going.suspend(), staying.suspend()]);
  await assert.rejects(going.getInfo(), failsWith("VM_NOT_FOUND"));
  assert.equal(await sh(staying, "hostname"), `${staying.vmId}\n`);
  await staying.stop();
  await assert.rejects(staying.getInfo(), failsWith("VM_NOT_FOUND"));
});

test("a VM of nobody, or of somebody else, is not suspended", async () => {
  const unknown = { vmId: "0".repeat(20) };
  await assert.rejects(
    freestyle.vms.ref(unknown).suspend(),
    failsWith("VM_NOT_FOUND", unknown),
  );
  const { freestyle: other } = await account("suspend other");
  await assert.rejects(other.vms.ref({ vmId }).suspend(), failsWith("VM_NOT_FOUND", { vmId }));
});

test("a VM is suspended when its network is quiet, whatever runs in it", async () => {
  const outside = await Outside.start([]);
  after(outside.stop);
  const create = (options) => freestyle.vms.create({ ...SMALL, ...options });
  const [{ vm: quiet }, { vm: talking }, { vm: never }] = await Promise.all([
    create({ idleTimeoutSeconds: 3 }),
    create({ idleTimeoutSeconds: null }),
    create({ idleTimeoutSeconds: null }),
  ]);
  const talk = `while :; do curl -s -o /dev/null http://${outside.address}/; sleep 0.2; done`;
  await sh(talking, `systemd-run --quiet --unit=talk sh -c '${talk}'`);
  await eventually("it talks", () => outside.visits.length > 0);
  await talking.start({ idleTimeoutSeconds: 3 });

  // Commands and files do not keep it awake; they wake it again.
  await eventually("a VM that is used and does not talk is suspended", async () => {
    if (await isSuspended(quiet)) return true;
    await quiet.exec("true").catch(() => undefined);
    return (await stateOf(quiet)) === "suspended" || (await stateOf(quiet)) === "suspending";
  });
  await eventually("it is suspended", () => isSuspended(quiet));
  assert.equal(await stateOf(talking), "running");
  assert.equal(await stateOf(never), "running");

  // It talks no more, and then counts as quiet, too.
  await sh(talking, "systemctl stop talk");
  await eventually("it is suspended", () => isSuspended(talking));
  assert.equal(await stateOf(never), "running");
  await never.start({ idleTimeoutSeconds: 1 });
  await eventually("it is suspended", () => isSuspended(never));
  // A child takes its parent's timeout over.
  const { forks } = await never.fork({ count: 1 });
  await eventually("the child is suspended", () => isSuspended(forks[0].vm));
});

test("traffic below the threshold is no activity", async () => {
  const { vm: murmuring } = await freestyle.vms.create({
    ...SMALL,
    idleTimeoutSeconds: 3,
    activityThresholdBytes: 1_000_000,
  });
  await murmuring.fs.writeTextFile("/srv/x.sh", "while :; do curl -m 1 -s http://192.0.2.1; done");
  await sh(murmuring, "systemd-run --quiet --unit=murmur sh /srv/x.sh");
  await eventually("it is suspended", () => isSuspended(murmuring));
});

test("suspended VMs stay suspended while there is no server, and wake after", async () => {
  await withServer({ poolSize: 0 }, async (server) => {
    const first = client(server.apiKey, server.url);
    const { vm: asleep, vmId } = await first.vms.create(NEVER);
    await startMemo(asleep, "before");
    await asleep.suspend();
    await server.stop();
    await server.launch({ poolSize: 0 });

    const vm = client(server.apiKey, server.url).vms.ref({ vmId });
    assert.equal(await stateOf(vm), "suspended");
    assert.deepEqual(await recall(vm), ["before"]);
    await vm.suspend();
    await server.kill();
    await server.launch({ poolSize: 0 });

    const again = client(server.apiKey, server.url).vms.ref({ vmId });
    assert.deepEqual(await recall(again), ["before"]);
    await again.delete();
  });
});
