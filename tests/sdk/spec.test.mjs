// Creating VMs from a `VmSpec`.

import assert from "node:assert/strict";
import { test } from "node:test";

import { VmSpec } from "freestyle";

import { eventually, failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("spec");

test("packages of every layer are installed, and the VM is building meanwhile", async () => {
  const spec = new VmSpec().aptDeps("tree").snapshot().aptDeps("jq", "tree");
  const creating = freestyle.vms.create({ name: "with packages", spec });
  const isListed = async () => {
    const { vms, buildingCount } = await freestyle.vms.list();
    return buildingCount === 1 && vms[0].state === "building" && vms[0].name === "with packages";
  };
  // After the layer below it is made, by another VM.
  await eventually("the VM is listed as building", isListed, 300_000);

  const { vm } = await creating;

  assert.equal(
    await sh(vm, `echo '{"a": [1, 2]}' | jq -c .a; tree --version | head -c 4`),
    "[1,2]\ntree",
  );
  assert.equal((await vm.getInfo()).state, "running");
});

test("a package that does not exist fails the create, and leaves no VM", async () => {
  const spec = new VmSpec().aptDeps("no-such-package-anywhere");
  await assert.rejects(freestyle.vms.create({ name: "failing", spec }), (error) => {
    return (
      failsWith("VM_SETUP_FAILED")(error) &&
      /no-such-package-anywhere/.test(error.body.failedReason)
    );
  });
  const { vms } = await freestyle.vms.list();
  assert.deepEqual(
    vms.filter(({ name }) => name === "failing"),
    [],
  );
});

test("a spec gives sizes, and layers that ask for nothing are nothing", async () => {
  const spec = new VmSpec().vcpuCount(1).memSizeGb(1).snapshot().discriminator("v1").skipCache();
  const { vm } = await freestyle.vms.create(spec);
  assert.equal(await sh(vm, "nproc"), "1\n");
});

test("layers that contradict themselves are refused", async () => {
  const sized = new VmSpec().aptDeps("jq").snapshot().vcpuCount(2);
  const fields = { depth: 0, field: "vcpuCount" };
  await assert.rejects(
    freestyle.vms.create({ spec: sized }),
    failsWith("NON_LEAF_LAYER_FIELD_ERROR", fields),
  );
});
