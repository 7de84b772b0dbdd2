// Requests that are refused: always with an error class of the SDK, never with a repeated create.

import assert from "node:assert/strict";
import { test } from "node:test";

import { VmSpec } from "freestyle";

import { client, failsWith, fileAccount } from "../support/sdk.mjs";

const { freestyle, id: accountId } = await fileAccount("errors");
const BAD = "CREATE_VM_BAD_REQUEST";

function refuses(code, options, fields) {
  return assert.rejects(
    freestyle.vms.create(options),
    failsWith(code, fields),
    JSON.stringify(options),
  );
}

test("sizes out of range", async () => {
  await refuses("CREATE_VM_VCPU_OUT_OF_RANGE", { vcpuCount: 0 }, { got: 0, max: 32 });
  await refuses("CREATE_VM_VCPU_OUT_OF_RANGE", { vcpuCount: 64 }, { got: 64, max: 32 });
  await refuses("CREATE_VM_VCPU_NOT_POWER_OF_TWO", { vcpuCount: 3 }, { got: 3 });
  await refuses("CREATE_VM_VCPU_NOT_POWER_OF_TWO", { vcpuCount: 1.5 }, { got: 1.5 });
  await refuses("CREATE_VM_MEM_NOT_POWER_OF_TWO", { memSizeGb: 3 }, { got: 3072 });
  await refuses(
    "CREATE_VM_MEM_OUT_OF_RANGE",
    { memSizeGb: 0.25 },
    { got: 256, min: 512, max: 65536 },
  );
  await refuses("CREATE_VM_MEM_OUT_OF_RANGE", { memSizeGb: 1024 });
  await refuses(
    "CREATE_VM_ROOTFS_OUT_OF_RANGE",
    { rootfsSizeGb: 1 },
    { got: 1024, min: 4096, max: 524288 },
  );
  await refuses("CREATE_VM_ROOTFS_OUT_OF_RANGE", { rootfsSizeGb: 100_000 });
});

test("values of the wrong kind", async () => {
  for (const options of [
    { name: "" },
    { name: "x".repeat(256) },
    { name: "a\nb" },
    { name: 5 },
    { vcpuCount: "two" },
    { idleTimeoutSeconds: -1 },
    { idleTimeoutSeconds: "soon" },
    { persistence: { type: "eternal" } },
    { persistence: { type: "sticky", priority: 11 } },
  ]) {
    await refuses(BAD, options);
  }
});

test("what this server cannot do is named, not left out", async () => {
  const cases = {
    "spec.baseImage": { spec: new VmSpec().baseImage({ dockerfileContent: "FROM debian" }) },
  };
  for (const [field, options] of Object.entries(cases)) {
    await assert.rejects(
      freestyle.vms.create(options),
      (error) => {
        return failsWith(BAD)(error) && error.message.includes(field);
      },
      field,
    );
  }
});

test("snapshots that are not there", async () => {
  const snapshotId = `sc-${"0".repeat(20)}`;
  await refuses("SNAPSHOT_NOT_FOUND", { snapshotId }, { snapshotId });
  await refuses("INVALID_SNAPSHOT_ID", { snapshotId: "../../etc" });
});

test("packages that are none", async () => {
  for (const name of ["", "-o=x", "a b", "$(reboot)", "x;y", "x".repeat(300)]) {
    await refuses(BAD, { spec: new VmSpec().aptDeps(name) });
  }
});

test("nothing was made by any of these", async () => {
  assert.equal((await freestyle.vms.list()).totalCount, 0);
});

test("ids that are no ids of VMs", async () => {
  for (const vmId of [
    "x",
    "UPPERCASE0123456789a",
    "../../v1/vms",
    "a".repeat(21),
    "ä".repeat(20),
    "%00",
  ]) {
    await assert.rejects(freestyle.vms.ref({ vmId }).getInfo(), failsWith("INVALID_VM_ID"), vmId);
  }
});

test("VMs that are not there", async () => {
  const vmId = "0".repeat(20);
  await assert.rejects(freestyle.vms.delete({ vmId }), failsWith("VM_NOT_FOUND", { vmId }));
  await assert.rejects(
    freestyle.vms.ref({ vmId }).exec("true"),
    failsWith("VM_NOT_FOUND", { vmId }),
  );
});

test("features of later versions answer an error the SDK knows", async () => {
  const { vm } = await freestyle.vms.create();
  await assert.rejects(vm.terminals.list(), failsWith("BAD_REQUEST"));
  await assert.rejects(vm.systemd.list(), failsWith("BAD_REQUEST"));
  assert.equal((await vm.exec("echo unharmed")).stdout, "unharmed\n");
});

test("credentials", async () => {
  assert.equal((await freestyle.whoami()).accountId, accountId);
  for (const apiKey of ["wrong", "fs_wrong", "fs_".padEnd(5000, "x")]) {
    await assert.rejects(client(apiKey).vms.list(), failsWith("UNAUTHORIZED_ERROR"), apiKey);
    await assert.rejects(client(apiKey).vms.create(), failsWith("UNAUTHORIZED_ERROR"), apiKey);
  }
});
