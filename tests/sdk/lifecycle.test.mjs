// Starting, stopping, killing, waiting for and deleting VMs.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as host from "../support/host.mjs";
import { DATA_DIR, Errors, eventually, failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("lifecycle");

async function state(vm) {
  return (await vm.getInfo()).state;
}

const isTyped = (error) => error.body?.code in Errors.FREESTYLE_ERROR_CODE_MAP;

test("stop keeps the disk and not the memory; start boots a new instance", async () => {
  const { vm, vmId } = await freestyle.vms.create();
  await sh(vm, "echo disk > /root/kept; echo memory > /dev/shm/lost");
  const first = await vm.getInfo();

  const ended = vm.waitForExit();
  assert.deepEqual(await vm.stop(), { vmId, vmInstanceId: first.vmInstanceId });
  assert.equal((await ended).id, vmId);
  assert.equal(await state(vm), "stopped");
  const { vms } = await freestyle.vms.list();
  assert.equal(vms.find(({ id }) => id === vmId).state, "stopped");

  assert.equal((await vm.start()).id, vmId);
  const second = await vm.getInfo();
  assert.equal(second.state, "running");
  assert.notEqual(second.vmInstanceId, first.vmInstanceId);
  assert.equal(await sh(vm, "cat /root/kept; ls /dev/shm; hostname"), `disk\n${vmId}\n`);
});

test("kill ends a VM at once, exec starts it again", async () => {
  const { vm, vmId } = await freestyle.vms.create();
  await sh(vm, "echo disk > /root/kept; sync");

  assert.deepEqual(await vm.kill(), { id: vmId });
  assert.equal(await state(vm), "stopped");
  const { id, exitStatus } = await vm.waitForExit();
  assert.equal(id, vmId);
  assert.equal(typeof exitStatus, "string");

  assert.equal(await sh(vm, "cat /root/kept"), "disk\n");
  assert.equal(await state(vm), "running");
});

test("a guest that powers itself off is stopped", async () => {
  const { vm } = await freestyle.vms.create();
  const ended = vm.waitForExit();
  // The guest may be gone before the command's end is told.
  await vm.exec("systemctl poweroff").catch(() => undefined);
  await ended;
  await eventually("the VM is stopped", async () => (await state(vm)) === "stopped");
});

test("starting a running VM changes only its settings", async () => {
  const { vm, vmId } = await freestyle.vms.create();
  const before = await vm.getInfo();
  assert.equal((await vm.start({ idleTimeoutSeconds: 600 })).id, vmId);
  assert.equal((await vm.start({ idleTimeoutSeconds: null })).id, vmId);
  assert.equal((await vm.getInfo()).vmInstanceId, before.vmInstanceId);
});

test("stopping and killing a stopped VM is no error", async () => {
  const { vm } = await freestyle.vms.create();
  await vm.kill();
  await vm.kill();
  await vm.stop();
  assert.equal(await state(vm), "stopped");
  await vm.delete();
});

test("an ephemeral VM goes when it stops", async () => {
  const { vm, vmId } = await freestyle.vms.create({ persistence: { type: "ephemeral" } });
  await vm.kill();
  await assert.rejects(vm.getInfo(), failsWith("VM_NOT_FOUND", { vmId }));
});

test("a VM can be deleted while a command runs in it, which ends the command", async () => {
  const { vm, vmId } = await freestyle.vms.create();
  const command = assert.rejects(vm.exec("touch /tmp/started; sleep 1000"));
  await eventually("the command runs", () => vm.fs.exists("/tmp/started"));

  const deletions = [vm.delete(), freestyle.vms.delete({ vmId })];
  const outcomes = (await Promise.allSettled(deletions)).map(({ status }) => status);

  assert(outcomes.includes("fulfilled"), outcomes.join());
  await command;
  await assert.rejects(vm.getInfo(), failsWith("VM_NOT_FOUND", { vmId }));
});

test("a VM whose guest does not answer can be killed and deleted", async () => {
  const [withoutAgent, frozen] = await Promise.all([
    freestyle.vms.create(),
    freestyle.vms.create(),
  ]);
  const answers = ({ vm }) =>
    vm.exec({ command: "true", timeoutMs: 2000 }).then(
      () => true,
      (error) => {
        assert(isTyped(error), error.stack);
        return false;
      },
    );

  // Not by the command that the agent's end cuts off: that is killed when its time is over.
  await sh(withoutAgent.vm, "(sleep 2; systemctl stop freestyle-agent) > /dev/null 2>&1 &");
  await assert.rejects(withoutAgent.vm.exec({ command: "sleep 1000", timeoutMs: 4000 }), isTyped);
  await eventually("the agent is gone", async () => !(await answers(withoutAgent)));
  const { vmInstanceId } = await frozen.vm.getInfo();
  process.kill(host.processes(DATA_DIR).get(vmInstanceId), "SIGSTOP");
  assert.equal(await answers(frozen), false);

  await withoutAgent.vm.kill();
  assert.equal(await state(withoutAgent.vm), "stopped");
  await Promise.all([withoutAgent.vm.delete(), frozen.vm.delete()]);
});

test("calls that contradict each other end in a state that is true", async () => {
  const { vm } = await freestyle.vms.create();
  const calls = [vm.stop(), vm.exec("true"), vm.kill(), vm.start(), vm.kill(), vm.exec("true")];
  for (const { reason } of await Promise.allSettled(calls)) {
    if (reason) assert(isTyped(reason), reason.stack);
  }
  const { state: told, vmInstanceId } = await vm.getInfo();
  const isAlive = host.processes(DATA_DIR).has(vmInstanceId);
  assert.equal(told, isAlive ? "running" : "stopped");
});

test("deletion is final for every operation", async () => {
  const { vm, vmId } = await freestyle.vms.create();
  await vm.delete();
  const operations = {
    getInfo: () => vm.getInfo(),
    exec: () => vm.exec("true"),
    readFile: () => vm.fs.readFile("/etc/hostname"),
    writeFile: () => vm.fs.writeTextFile("/tmp/x", "x"),
    start: () => vm.start(),
    stop: () => vm.stop(),
    kill: () => vm.kill(),
    waitForExit: () => vm.waitForExit(),
    delete: () => vm.delete(),
  };
  for (const [name, operation] of Object.entries(operations)) {
    await assert.rejects(operation, failsWith("VM_NOT_FOUND", { vmId }), name);
  }
});
