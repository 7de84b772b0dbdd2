// Snapshots: memory, devices and disk of a VM, from which others go on.

import assert from "node:assert/strict";
import { closeSync, openSync, statSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { VmSpec } from "freestyle";

import { recall, remember, startMemo } from "../support/memo.mjs";
import { account, DATA_DIR, failsWith, fileAccount, sh, SMALL } from "../support/sdk.mjs";

const { freestyle, id: accountId } = await fileAccount("snapshots");
const { snapshots } = freestyle.vms;
const UNTRACED = { traced: false };
const IDENTITY = "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1";

/** A VM whose service knows something, and a snapshot of it. */
let vm, vmId, snapshotId;

before(async () => {
  ({ vm, vmId } = await freestyle.vms.create({ ...SMALL, idleTimeoutSeconds: null }));
  await startMemo(vm, "before");
  await sh(vm, "echo disk > /root/kept; sleep 100000 & echo $! > /run/sleeper");
  ({ snapshotId } = await vm.snapshot({ name: "with memo" }));
});

test("the VM runs on, and what it does afterwards is not in the snapshot", async () => {
  const { vmInstanceId } = await vm.getInfo();
  const taken = await vm.snapshot();
  assert.match(taken.snapshotId, /^sc-[a-z0-9]{20}$/);
  assert.deepEqual(taken, {
    snapshotId: taken.snapshotId,
    sourceVmId: vmId,
    sourceVmInstanceId: vmInstanceId,
  });

  assert.deepEqual(await remember(vm, "after"), ["before", "after"]);
  await sh(vm, "echo later > /root/kept");

  const { vm: other } = await freestyle.vms.create({ snapshotId: taken.snapshotId });
  assert.deepEqual(await recall(other), ["before"]);
  assert.equal(await sh(other, "cat /root/kept"), "disk\n");
  await sh(other, "kill -0 $(cat /run/sleeper)");
});

test("VMs of one snapshot are individuals, and nothing crosses over", async () => {
  const created = await Promise.all([1, 2].map(() => freestyle.vms.create({ snapshotId })));
  await Promise.all(created.map((one) => remember(one.vm, one.vmId)));
  for (const one of created) {
    assert.deepEqual(await recall(one.vm), ["before", one.vmId]);
  }

  const lines = [];
  for (const one of [...created, { vm, vmId }]) {
    const [hostname, ...others] = (await sh(one.vm, IDENTITY)).trim().split("\n");
    assert.equal(hostname, one.vmId);
    assert.equal(others.length, 2);
    lines.push(...others);
  }
  assert.equal(new Set(lines).size, 6, lines.join("\n"));
});

test("a VM can be made from a snapshot wherever the SDK lets one be named", async () => {
  const places = {
    "top level": { snapshotId },
    template: { snapshotId, ...SMALL },
    "template with a larger disk": { snapshotId, rootfsSizeGb: 25 },
    spec: { spec: new VmSpec().snapshotId(snapshotId) },
    "top level beside a spec": { snapshotId, spec: new VmSpec() },
    "a spec with a size": { spec: new VmSpec().snapshotId(snapshotId).vcpuCount(1) },
  };
  for (const [place, options] of Object.entries(places)) {
    const made = await freestyle.vms.create({ name: place, ...options });
    assert.equal(made.snapshotId, snapshotId, place);
    assert.deepEqual(await recall(made.vm), ["before"], place);
    if (options.rootfsSizeGb) {
      const mib = await sh(made.vm, "df --output=size -BM / | tail -n 1 | tr -d M");
      assert(Number(mib) > 24_000, mib);
    }
    await made.vm.delete();
  }
  const { vm: bare } = await freestyle.vms.create(new VmSpec().snapshotId(snapshotId));
  assert.deepEqual(await recall(bare), ["before"]);
  await bare.delete();
});

test("CPUs and memory are those of the snapshot, and its disk does not shrink", async () => {
  const { vm: made } = await freestyle.vms.create({ snapshotId });
  const { vms } = await freestyle.vms.list();
  const listed = vms.find(({ id }) => id === made.vmId);
  assert.deepEqual(listed.sizing, { vcpuCount: 1, memSizeMib: 1024, rootfsSizeMb: 20480 });
  for (const other of [{ vcpuCount: 2 }, { memSizeGb: 2 }]) {
    await assert.rejects(
      freestyle.vms.create({ snapshotId, ...other }),
      failsWith("CREATE_VM_BAD_REQUEST"),
    );
  }
  await assert.rejects(
    freestyle.vms.create({ snapshotId, rootfsSizeGb: 10 }),
    failsWith("CREATE_VM_ROOTFS_OUT_OF_RANGE", { got: 10_240, min: 20_480 }),
  );
});

test("a snapshot of a snapshot's VM has the memory of both", async () => {
  const { vm: child } = await freestyle.vms.create({ snapshotId });
  await remember(child, "child");
  const { snapshotId: second } = await child.snapshot();
  await child.delete();
  const { vm: grandchild } = await freestyle.vms.create({ snapshotId: second });
  assert.deepEqual(await recall(grandchild), ["before", "child"]);
  assert.equal(await sh(grandchild, "cat /root/kept"), "disk\n");
});

test("a suspended VM is not woken for a snapshot of it", async () => {
  const { vm: sleeper } = await freestyle.vms.create({ snapshotId });
  await remember(sleeper, "asleep");
  await sleeper.suspend();

  const { snapshotId: taken } = await sleeper.snapshot();

  assert.equal((await sleeper.getInfo()).state, "suspended");
  await sleeper.delete();
  const { vm: made } = await freestyle.vms.create({ snapshotId: taken });
  assert.deepEqual(await recall(made), ["before", "asleep"]);
});

test("a snapshot is told, listed, counted, renamed and deleted", async () => {
  const { freestyle: own, id } = await account("snapshot list");
  const { vm: source, vmId: sourceVmId } = await own.vms.create(SMALL);
  const first = await source.snapshot({ name: "Größe ☕" });
  const second = await source.snapshot({ persistence: { type: "sticky", priority: 7 } });

  const { createdAt, ...record } = await own.vms.snapshots.get(first);
  assert(Math.abs(Date.parse(createdAt) - Date.now()) < 60_000);
  assert.deepEqual(record, {
    snapshotId: first.snapshotId,
    name: "Größe ☕",
    state: "ready",
    sourceVmId,
    accountId: id,
    failed: false,
    cancelled: false,
    lost: false,
    deleted: false,
    failureReason: null,
    snapshotPersistence: { type: "persistent" },
    buildId: null,
    vcpuCount: 1,
    memSizeMib: 1024,
    rootfsSizeMb: 20480,
  });
  const { snapshotPersistence } = await own.vms.snapshots.get(second);
  assert.deepEqual(snapshotPersistence, { type: "sticky", priority: 7 });

  const { vm: made } = await own.vms.create({ snapshotId: first.snapshotId });
  await source.delete();
  const handle = own.vms.snapshots.ref(first);
  await handle.update({ name: "other" });
  assert.equal((await handle.get()).name, "other");
  await handle.update({ name: null });
  assert.equal((await handle.get()).name, null);

  const listed = async (flags) => {
    const { snapshots, ...counts } = await own.vms.snapshots.list(flags);
    return { ids: snapshots.map(({ snapshotId }) => snapshotId), counts };
  };
  const none = { buildingCount: 0, failedCount: 0, cancelledCount: 0, lostCount: 0 };
  assert.deepEqual(await listed(), {
    ids: [second.snapshotId, first.snapshotId],
    counts: { ...none, totalCount: 2, readyCount: 2, deletedCount: 0 },
  });

  assert.deepEqual(await handle.delete(), { snapshot_id: first.snapshotId });
  assert.deepEqual(await listed(), {
    ids: [second.snapshotId],
    counts: { ...none, totalCount: 1, readyCount: 1, deletedCount: 1 },
  });
  const { ids } = await listed({
    includeDeleted: true,
    includeFailed: false,
    includeBuilding: false,
    includeCancelled: false,
    includeLost: false,
  });
  assert.deepEqual(ids, [second.snapshotId, first.snapshotId]);
  assert.equal((await handle.get()).deleted, true);

  // Neither the VM it was taken of nor the snapshot is there any more: the VM made from it lives.
  assert.equal(await sh(made, "hostname"), `${made.vmId}\n`);
  await made.suspend();
  assert.equal(await sh(made, "hostname"), `${made.vmId}\n`);
  await made.delete();
  await own.vms.snapshots.delete(second);
});

test("a deleted snapshot is gone for good", async () => {
  const { snapshotId } = await vm.snapshot();
  await snapshots.delete({ snapshotId });
  await assert.rejects(
    snapshots.delete({ snapshotId }),
    failsWith("SNAPSHOT_ALREADY_DELETED", { snapshotId }, UNTRACED),
  );
  await assert.rejects(
    freestyle.vms.create({ snapshotId }),
    failsWith("SOURCE_SNAPSHOT_DELETED", { snapshotId }),
  );
});

test("a snapshot may be deleted while VMs are made from it", async () => {
  const { snapshotId } = await vm.snapshot();
  const creates = [1, 2, 3].map(() => freestyle.vms.create({ snapshotId }));
  const [, ...made] = await Promise.allSettled([snapshots.delete({ snapshotId }), ...creates]);
  for (const { value, reason } of made) {
    if (reason) failsWith("SOURCE_SNAPSHOT_DELETED", { snapshotId })(reason);
    else assert.deepEqual((await recall(value.vm))[0], "before");
  }
});

test("a snapshot whose files are damaged is never restored", async () => {
  const damages = {
    "cut off": (file) => truncateSync(file, statSync(file).size - 4096),
    changed: (file) => {
      const opened = openSync(file, "r+");
      writeSync(opened, "damaged", Math.floor(statSync(file).size / 2));
      closeSync(opened);
    },
  };
  for (const [what, damage] of Object.entries(damages)) {
    const { snapshotId } = await vm.snapshot();
    damage(join(DATA_DIR, "snapshots", snapshotId, "memory"));
    await assert.rejects(
      freestyle.vms.create({ snapshotId }),
      failsWith("SOURCE_SNAPSHOT_LOST", { snapshotId }),
      what,
    );
    await snapshots.delete({ snapshotId });
  }
});

test("what cannot be snapshotted is refused", async () => {
  const { vm: stopped } = await freestyle.vms.create({ snapshotId });
  await stopped.kill();
  await assert.rejects(stopped.snapshot(), failsWith("VM_NOT_RUNNING", { vmId: stopped.vmId }));
  await stopped.delete();
  await assert.rejects(stopped.snapshot(), failsWith("VM_NOT_FOUND", { vmId: stopped.vmId }));

  const unknown = freestyle.vms.ref({ vmId: "0".repeat(20) });
  await assert.rejects(unknown.snapshot(), failsWith("VM_NOT_FOUND"));
  const malformed = freestyle.vms.ref({ vmId: "../x" });
  await assert.rejects(malformed.snapshot(), failsWith("INVALID_VM_ID"));

  for (const options of [
    { name: "" },
    { name: 5 },
    { name: "a\nb" },
    { name: "x".repeat(256) },
    { persistence: { type: "ephemeral" } },
    { persistence: { type: "sticky", priority: 11 } },
    { persistence: { type: "sticky", priority: -1 } },
  ]) {
    await assert.rejects(
      vm.snapshot(options),
      failsWith("SNAPSHOT_VM_BAD_REQUEST"),
      JSON.stringify(options),
    );
  }
});

test("ids that are no ids of snapshots", async () => {
  for (const snapshotId of ["x", vmId, "sc-", "sc-UPPERCASE0123456789a", "../../etc", "%00", ""]) {
    await assert.rejects(
      freestyle.vms.create({ snapshotId }),
      failsWith("INVALID_SNAPSHOT_ID"),
      snapshotId,
    );
    if (snapshotId === "") continue; // Another path.
    const invalid = failsWith("INVALID_SNAPSHOT_ID", {}, UNTRACED);
    await assert.rejects(snapshots.delete({ snapshotId }), invalid, snapshotId);
    await assert.rejects(snapshots.get({ snapshotId }), /400/);
  }
  const handle = snapshots.ref({ snapshotId });
  for (const name of ["", "a\nb", "x".repeat(256), 5]) {
    await assert.rejects(handle.update({ name }), /400/);
  }
  assert.equal((await handle.get()).name, "with memo");
});

test("somebody else's snapshot and VM are not there", async () => {
  const { freestyle: other } = await account("snapshot other");
  const unknown = `sc-${"0".repeat(20)}`;
  for (const [who, id] of [
    [other, snapshotId],
    [freestyle, unknown],
  ]) {
    const notFound = failsWith("SNAPSHOT_NOT_FOUND", { snapshotId: id }, UNTRACED);
    await assert.rejects(who.vms.create({ snapshotId: id }), notFound);
    await assert.rejects(who.vms.snapshots.delete({ snapshotId: id }), notFound);
    await assert.rejects(who.vms.snapshots.get({ snapshotId: id }), /404/);
    const handle = who.vms.snapshots.ref({ snapshotId: id });
    await assert.rejects(handle.update({ name: "mine" }), /404/);
  }
  await assert.rejects(other.vms.ref({ vmId }).snapshot(), failsWith("VM_NOT_FOUND", { vmId }));
  assert.equal((await other.vms.snapshots.list({ includeDeleted: true })).totalCount, 0);
  const record = await snapshots.get({ snapshotId });
  assert.deepEqual([record.name, record.accountId], ["with memo", accountId]);
});
