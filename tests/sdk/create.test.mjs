// Creating VMs: names, sizes, what a list says of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("create");

test("a VM has the default size, and is listed as running", async () => {
  const before = Date.now();
  const { vm, vmId, domains } = await freestyle.vms.create({ name: "Größe ☕" });

  assert.match(vmId, /^[a-z0-9]{20}$/);
  assert.deepEqual(domains, []);
  assert.equal(await sh(vm, "nproc"), "4\n");
  assertBetween(await memoryMib(vm), 7_700, 8_192);
  assertBetween(await diskMib(vm), 19_000, 20_480);

  const { vms, ...counts } = await freestyle.vms.list();
  // Whether its network was used by now is a matter of a second.
  const [{ createdAt, cpuTimeSeconds, lastNetworkActivity: _seen, ...listed }] = vms;
  assert.equal(vms.length, 1);
  assert.deepEqual(listed, {
    id: vmId,
    name: "Größe ☕",
    state: "running",
    persistence: { type: "persistent" },
    deleted: false,
    sizing: { vcpuCount: 4, memSizeMib: 8192, rootfsSizeMb: 20480 },
  });
  assertBetween(Date.parse(createdAt), before - 60_000, Date.now());
  assert(cpuTimeSeconds > 0);
  assert.deepEqual(counts, {
    totalCount: 1,
    buildingCount: 0,
    startingCount: 0,
    runningCount: 1,
    suspendingCount: 0,
    suspendedCount: 0,
    stoppedCount: 0,
    lostCount: 0,
  });

  const { vmInstanceId, cpuTimeSeconds: _, lastNetworkActivity: _too, ...info } = await vm.getInfo();
  assert.match(vmInstanceId, /^[a-z0-9]{20}$/);
  assert.deepEqual(info, { id: vmId, name: "Größe ☕", recreate: false, state: "running" });
});

test("a VM has the size that was asked for", async () => {
  const size = { vcpuCount: 1, memSizeGb: 1, rootfsSizeGb: 30 };
  const { vm, vmId } = await freestyle.vms.create(size);

  assert.equal(await sh(vm, "nproc"), "1\n");
  assertBetween(await memoryMib(vm), 900, 1_024);
  assertBetween(await diskMib(vm), 29_000, 30_720);
  const { vms } = await freestyle.vms.list();
  const { sizing } = vms.find(({ id }) => id === vmId);
  assert.deepEqual(sizing, { vcpuCount: 1, memSizeMib: 1024, rootfsSizeMb: 30720 });
});

test("settings are kept and told", async () => {
  const { vmId } = await freestyle.vms.create({
    persistence: { type: "sticky", priority: 7 },
    idleTimeoutSeconds: null,
    recreate: true,
  });
  const { vms } = await freestyle.vms.list();
  const { persistence } = vms.find(({ id }) => id === vmId);
  assert.deepEqual(persistence, { type: "sticky", priority: 7 });
  assert.deepEqual(await freestyle.vms.delete({ vmId }), { id: vmId, recreate: true });
});

test("VMs made at the same time are different machines", async () => {
  const created = await Promise.all([1, 2, 3].map(() => freestyle.vms.create()));
  const ask = "hostname; cat /etc/machine-id; head -c 32 /dev/urandom | sha256sum";
  const answers = await Promise.all(created.map(({ vm }) => sh(vm, ask)));
  const lines = answers.flatMap((answer) => answer.trim().split("\n"));
  assert.equal(lines.length, 9);
  assert.equal(new Set(lines).size, 9, lines.join("\n"));
  assert.deepEqual(
    answers.map((answer) => answer.split("\n")[0]),
    created.map(({ vmId }) => vmId),
  );
});

test("the newest VM is listed first", async () => {
  const { vmId } = await freestyle.vms.create();
  const { vms } = await freestyle.vms.list();
  assert.equal(vms[0].id, vmId);
});

async function memoryMib(vm) {
  return Number(await sh(vm, "awk '/^MemTotal/ { print $2 }' /proc/meminfo")) / 1024;
}

async function diskMib(vm) {
  return Number(await sh(vm, "df --output=size -BM / | tail -n 1 | tr -d M"));
}

function assertBetween(value, low, high) {
  assert(value >= low && value <= high, `${value} is not between ${low} and ${high}`);
}
