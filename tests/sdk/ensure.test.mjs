// Snapshots that are built from a spec, and VMs that are created from one.

import assert from "node:assert/strict";
import { test } from "node:test";

import { VmSpec } from "freestyle";

import { failsWith, fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("ensure");
const { snapshots } = freestyle.vms;

function small() {
  return new VmSpec().vcpuCount(1).memSizeGb(1);
}

async function ensure(spec, options = {}) {
  const { snapshotId } = await snapshots.ensure({ spec, ...options });
  assert.match(snapshotId, /^sc-[a-z0-9]{20}$/);
  return snapshotId;
}

async function createFrom(snapshotId) {
  const { vm } = await freestyle.vms.create({ snapshotId });
  return vm;
}

test("a spec is built once, and found again by its content", async () => {
  const spec = () => small().runCommands("date +%N > /root/built", "cp /root/built /root/second");
  const first = await ensure(spec(), { name: "built" });
  assert.equal((await snapshots.get({ snapshotId: first })).name, "built");

  assert.equal(await ensure(spec()), first);
  const others = [
    await ensure(spec().skipCache()),
    await ensure(spec().discriminator("other")),
    await ensure(spec().runCommands("true")),
  ];
  assert.equal(new Set([first, ...others]).size, 4);
  // What was built without looking is found afterwards like any other.
  assert([first, others[0]].includes(await ensure(spec())));

  const vm = await createFrom(first);
  assert.match(await sh(vm, "cmp /root/built /root/second && cat /root/built"), /^\d+\n$/);
  await vm.delete();

  await Promise.all([first, ...others].map((snapshotId) => snapshots.delete({ snapshotId })));
  const rebuilt = await ensure(spec());
  assert(![first, ...others].includes(rebuilt), "what was deleted is built again");
});

test("the same spec asked for at once is built once", async () => {
  const spec = () => small().runCommands("echo at once > /root/built");
  const ids = await Promise.all([1, 2, 3].map(() => ensure(spec())));
  assert.equal(new Set(ids).size, 1, ids.join());
});

test("an inner layer is shared by all that stand on it", async () => {
  const inner = () => small().runCommands("date +%N > /root/inner").snapshot();
  const [one, other] = [
    await ensure(inner().runCommands("echo one > /root/outer")),
    await ensure(inner().runCommands("echo other > /root/outer")),
  ];
  assert.notEqual(one, other);
  const vms = [await createFrom(one), await createFrom(other)];
  const [first, second] = await Promise.all(
    vms.map((vm) => sh(vm, "cat /root/inner /root/outer")),
  );
  const [built, outer] = first.split("\n");
  assert.equal(outer, "one");
  assert.equal(second, `${built}\nother\n`);
});

test("a VM is created from a spec on a snapshot, with users, files, services and a repository", async () => {
  const spec = small()
    .groups([{ name: "builders" }])
    .users([{ name: "alice", uid: 1234, groups: ["builders"], shell: "/bin/sh" }])
    .runCommands(
      "git init -q /srv/repo && cd /srv/repo && git config user.name a && git config user.email a@b",
      "cd /srv/repo && echo content > file && git add file && git commit -q -m first",
    )
    .snapshot()
    .additionalFiles({
      "/etc/app/greeting": { content: "hello from a file\n" },
      "/etc/app/bytes": { content: "AAEC", encoding: "base64" },
    })
    .repo("file:///srv/repo", "/workspace/app")
    .systemdService({
      name: "app",
      exec: ["/bin/sh -c 'cat /etc/app/greeting > /run/greeted; exec sleep infinity'"],
      user: "root",
      env: { APP: "1" },
    })
    .waitFor("test -s /run/greeted");
  const { vm } = await freestyle.vms.create({ name: "from a spec", spec });

  const says = {
    "id -u alice; id -Gn alice | tr ' ' '\\n' | grep builders": "1234\nbuilders\n",
    "od -An -tx1 /etc/app/bytes": " 00 01 02\n",
    "cat /workspace/app/file; git -C /workspace/app log --format=%s": "content\nfirst\n",
    "systemctl is-active app; cat /run/greeted": "active\nhello from a file\n",
    hostname: `${vm.vmId}\n`,
  };
  for (const [command, output] of Object.entries(says)) {
    assert.equal(await sh(vm, command), output, command);
  }
  assert.equal((await vm.user({ username: "alice" }).exec("whoami")).stdout, "alice\n");

  const build = await vm.getBuild();
  const { state } = await build.get();
  assert.equal(state, "succeeded");
});

test("a running service is part of what is built", async () => {
  const spec = small()
    .systemdService({
      name: "counter",
      mode: "service",
      bash: "n=0; while :; do n=$((n + 1)); echo $n > /dev/shm/count; sleep 0.1; done",
    })
    .waitFor("test -s /dev/shm/count", { intervalSeconds: 1 });
  const vm = await createFrom(await ensure(spec));
  assert.equal(await sh(vm, "systemctl is-active counter"), "active\n");
  assert(Number(await sh(vm, "cat /dev/shm/count")) > 0);
});

test("a setup that fails says what failed, and the snapshot is listed as failed", async () => {
  const failing = () => small().runCommands("echo what went wrong >&2; exit 3");
  let told;
  await assert.rejects(snapshots.ensure({ spec: failing(), name: "failing" }), (error) => {
    told = error.body;
    return failsWith("SNAPSHOT_SETUP_FAILED")(error);
  });
  assert.match(told.failedReason, /freestyle-run-command/);
  const logs = told.diagnostics.failedServiceLogs.map(({ log }) => log).join("\n");
  assert.match(logs, /what went wrong/);
  assert(told.diagnostics.serviceStates.some(({ activeState }) => activeState === "failed"));

  const { snapshots: listed, failedCount } = await snapshots.list();
  const record = listed.find(({ snapshotId }) => snapshotId === told.snapshotId);
  assert.equal(failedCount, 1);
  assert.deepEqual([record.state, record.failed, record.name], ["failed", true, "failing"]);
  assert.match(record.failureReason, /freestyle-run-command/);
  const hidden = await snapshots.list({ includeFailed: false });
  assert(!hidden.snapshots.some(({ snapshotId }) => snapshotId === told.snapshotId));

  // It is tried again, and a VM of such a spec is not made either.
  await assert.rejects(snapshots.ensure({ spec: failing() }), failsWith("SNAPSHOT_SETUP_FAILED"));
  const { totalCount } = await freestyle.vms.list();
  await assert.rejects(freestyle.vms.create({ spec: failing() }), (error) =>
    failsWith("VM_SETUP_FAILED")(error),
  );
  assert.equal((await freestyle.vms.list()).totalCount, totalCount);
});

test("a build tells its phases", async () => {
  const spec = small().additionalFiles({ "/etc/x": { content: "x" } }).runCommands("true");
  const snapshotId = await ensure(spec.discriminator("phases"));
  const build = await snapshots.ref({ snapshotId }).getBuild();
  const { buildId, state, plannedPhases } = await build.get();
  assert.match(buildId, /^bld-[a-z0-9]{20}$/);
  assert.equal(state, "succeeded");
  const phases = await build.phases();
  assert.deepEqual(
    phases.map(({ name }) => name),
    plannedPhases,
  );
  assert.equal((await build.wait()).state, "succeeded");
});

test("a caller with a logger is told how it goes", async () => {
  const lines = [];
  const logger = (line) => lines.push(line);
  const spec = small().runCommands("echo slowly; sleep 7").discriminator("logged");
  const { snapshotId } = await snapshots.ensure({ spec, logger });
  assert.equal((await snapshots.get({ snapshotId })).state, "ready");
  assert(lines.length > 0, "nothing was logged");

  const failing = small().runCommands("sleep 7; exit 1");
  await assert.rejects(
    snapshots.ensure({ spec: failing, logger }),
    failsWith("SNAPSHOT_SETUP_FAILED", {}, { traced: false }),
  );
});

test("specs that make no sense are refused", async () => {
  const cases = {
    CREATE_SNAPSHOT_BAD_REQUEST: small().baseImage({ dockerfileContent: "FROM debian" }),
    GROUP_NAME_RESERVED: small().groups([{ name: "root" }]),
    USER_SHELL_INVALID: small().users([{ name: "alice", shell: "bash" }]),
    CREATE_VM_VCPU_NOT_POWER_OF_TWO: new VmSpec().vcpuCount(3),
    NON_LEAF_LAYER_FIELD_ERROR: small().snapshot().vcpuCount(2),
    SNAPSHOT_NOT_FOUND: new VmSpec().snapshotId(`sc-${"0".repeat(20)}`),
    INVALID_SNAPSHOT_ID: new VmSpec().snapshotId("x"),
  };
  for (const [code, spec] of Object.entries(cases)) {
    await assert.rejects(snapshots.ensure({ spec }), failsWith(code), code);
  }
});
