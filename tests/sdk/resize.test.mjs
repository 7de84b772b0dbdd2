// Resizing VMs: CPUs, memory, and a disk that only grows.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { account, eventually, failsWith, fileAccount, sh, SMALL } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("resize");

let vm, vmId;

before(async () => {
  ({ vm, vmId } = await freestyle.vms.create(SMALL));
  await sh(vm, "head -c 20M /dev/urandom > /root/data; sha256sum /root/data > /root/sum; sync");
});

/** What the guest has. */
async function sizes(vm) {
  const ask = `nproc; awk '/^MemTotal/ { print int($2 / 1024) }' /proc/meminfo
    df --output=size -BM / | tail -n 1 | tr -d M; sha256sum --quiet -c /root/sum`;
  const [cpus, memory, disk] = (await sh(vm, ask)).trim().split("\n").map(Number);
  return { cpus, memory, disk };
}

async function listedSizes() {
  const { vms } = await freestyle.vms.list();
  return vms.find(({ id }) => id === vmId).sizing;
}

function assertBetween(value, low, high) {
  assert(value >= low && value <= high, `${value} is not between ${low} and ${high}`);
}

test("a running VM is restarted with the new sizes, and its filesystem grows", async () => {
  const { vmInstanceId } = await vm.getInfo();
  await sh(vm, "echo memory > /dev/shm/lost");

  assert.deepEqual(await vm.resize({ cpu: 2, memory: 2, storage: 30 }), {});

  const info = await vm.getInfo();
  assert.equal(info.state, "running");
  assert.notEqual(info.vmInstanceId, vmInstanceId);
  const { cpus, memory, disk } = await sizes(vm);
  assert.equal(cpus, 2);
  assertBetween(memory, 1_900, 2_048);
  assertBetween(disk, 29_000, 30_720);
  assert.equal(await vm.fs.exists("/dev/shm/lost"), false);
  const sizing = { vcpuCount: 2, memSizeMib: 2048, rootfsSizeMb: 30_720 };
  assert.deepEqual(await listedSizes(), sizing);
});

test("a stopped VM stays stopped, and has the new sizes when it starts", async () => {
  await vm.stop();
  await vm.resize({ cpu: 1, storage: 31 });
  assert.equal((await vm.getInfo()).state, "stopped");
  const sizing = { vcpuCount: 1, memSizeMib: 2048, rootfsSizeMb: 31_744 };
  assert.deepEqual(await listedSizes(), sizing);

  await vm.start();

  const { cpus, memory, disk } = await sizes(vm);
  assert.equal(cpus, 1);
  assertBetween(memory, 1_900, 2_048);
  assertBetween(disk, 30_000, 31_744);
});

test("a suspended VM boots with the new sizes", async () => {
  await vm.suspend();
  await vm.resize({ memory: 1 });
  const { memory } = await sizes(vm);
  assertBetween(memory, 900, 1_024);
});

test("a snapshot of a resized VM has the sizes and the data", async () => {
  const { snapshotId } = await vm.snapshot();
  const { vm: made } = await freestyle.vms.create({ snapshotId });
  const { disk } = await sizes(made);
  assertBetween(disk, 30_000, 31_744);
  await made.delete();
});

test("sizes that cannot be are refused, and the VM runs on", async () => {
  const { vmInstanceId } = await vm.getInfo();
  const before = await listedSizes();
  const cases = [
    [{}, "RESIZE_VM_EMPTY_REQUEST", {}],
    [{ cpu: 3 }, "RESIZE_VM_VCPU_NOT_POWER_OF_TWO", { got: 3 }],
    [{ cpu: 1.5 }, "RESIZE_VM_VCPU_NOT_POWER_OF_TWO", { got: 1.5 }],
    [{ cpu: 0 }, "RESIZE_VM_VCPU_OUT_OF_RANGE", { got: 0, max: 32 }],
    [{ cpu: 64 }, "RESIZE_VM_VCPU_OUT_OF_RANGE", { got: 64, max: 32 }],
    [{ memory: 3 }, "RESIZE_VM_MEM_NOT_POWER_OF_TWO", { got: 3072 }],
    [{ memory: 0.25 }, "RESIZE_VM_MEM_OUT_OF_RANGE", { got: 256, min: 512, max: 65536 }],
    [{ memory: 128 }, "RESIZE_VM_MEM_OUT_OF_RANGE", { got: 131_072 }],
    [
      { storage: 10 },
      "RESIZE_VM_ROOTFS_SHRINK_NOT_SUPPORTED",
      { currentMb: before.rootfsSizeMb, requestedMb: 10_240 },
    ],
    [{ storage: 1 }, "RESIZE_VM_ROOTFS_SHRINK_NOT_SUPPORTED", { requestedMb: 1024 }],
    [{ storage: 100_000 }, "ROOTFS_SIZE_TOO_LARGE", { gotGb: 100_000 }],
    [{ cpu: "two" }, "BAD_REQUEST", {}],
    // One of them is wrong: none is changed.
    [{ cpu: 4, memory: 3 }, "RESIZE_VM_MEM_NOT_POWER_OF_TWO", { got: 3072 }],
  ];
  for (const [options, code, fields] of cases) {
    await assert.rejects(vm.resize(options), failsWith(code, fields), JSON.stringify(options));
  }
  assert.deepEqual(await listedSizes(), before);
  assert.equal((await vm.getInfo()).vmInstanceId, vmInstanceId);
});

test("a VM of nobody, or of somebody else, is not resized", async () => {
  const unknown = { vmId: "0".repeat(20) };
  const resize = (client, vm) => client.vms.ref(vm).resize({ cpu: 2 });
  await assert.rejects(resize(freestyle, unknown), failsWith("VM_NOT_FOUND", unknown));
  await assert.rejects(resize(freestyle, { vmId: "../x" }), failsWith("INVALID_VM_ID"));
  const { freestyle: other } = await account("resize other");
  await assert.rejects(resize(other, { vmId }), failsWith("VM_NOT_FOUND", { vmId }));
});

test("a VM can be deleted while it is resized", async () => {
  const { vm: going } = await freestyle.vms.create(SMALL);
  const resizing = going.resize({ cpu: 2 }).catch((error) => error);
  await eventually("the resize has stopped it", async () => {
    return (await going.getInfo()).state !== "running";
  });
  await going.delete();
  const { code } = (await resizing).body;
  assert.match(code, /^(VM_NOT_FOUND|VM_DELETED)$/);
  await assert.rejects(going.getInfo(), failsWith("VM_NOT_FOUND"));
});
