// Forks: children that go on from where a VM is, each on its own.

import assert from "node:assert/strict";
import { before, test } from "node:test";

import { checkFilesystem } from "../support/host.mjs";
import { recall, remember, startMemo } from "../support/memo.mjs";
import {
  account,
  DATA_DIR,
  eventually,
  failsWith,
  fileAccount,
  sh,
  SMALL,
} from "../support/sdk.mjs";

const { freestyle } = await fileAccount("forks");
const IDENTITY = "hostname; cat /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1";

/** A VM whose service knows something. */
let parent;

before(async () => {
  const { vm } = await freestyle.vms.create({ ...SMALL, idleTimeoutSeconds: null });
  await startMemo(vm, "parent");
  parent = vm;
});

async function deleteAll(vms) {
  await Promise.all(vms.map((vm) => vm.delete()));
}

async function fork(vm, count) {
  const { forks } = await vm.fork({ count });
  assert.equal(forks.length, count);
  assert.deepEqual(new Set(forks.map(({ vmId }) => vmId)).size, count);
  return forks.map(({ vm }) => vm);
}

test("a child has memory, processes and disk of its parent, and nothing crosses over", async () => {
  await sh(parent, "echo parent > /root/kept; sleep 100000 & echo $! > /run/sleeper");
  const { vmInstanceId } = await parent.getInfo();
  const [child] = await fork(parent, 1);
  assert.equal((await parent.getInfo()).vmInstanceId, vmInstanceId);

  await Promise.all([
    sh(child, "kill -0 $(cat /run/sleeper) && kill $(cat /run/sleeper)"),
    sh(child, "grep parent /root/kept && echo child > /root/kept"),
  ]);
  assert.deepEqual(await remember(child, "child"), ["parent", "child"]);

  assert.deepEqual(await recall(parent), ["parent"]);
  assert.equal(await sh(parent, "kill -0 $(cat /run/sleeper); cat /root/kept"), "parent\n");
  await child.delete();
  assert.deepEqual(await recall(parent), ["parent"]);
});

test("four children at once are four different machines with the right time", async () => {
  const children = await fork(parent, 4);
  const lines = await Promise.all(
    [parent, ...children].map(async (vm) => {
      const [hostname, ...others] = (await sh(vm, IDENTITY)).trim().split("\n");
      assert.equal(hostname, vm.vmId);
      return others;
    }),
  );
  assert.equal(new Set(lines.flat()).size, 10, lines.join("\n"));
  for (const vm of children) {
    const asked = Date.now();
    const told = Number(await sh(vm, "date +%s%3N"));
    assert(told > asked - 1000 && told < Date.now() + 1000, `${told} at ${asked}`);
    assert.deepEqual(await recall(vm), ["parent"]);
  }
  await deleteAll(children);
});

test("a fork of a fork of a fork, whose ancestors are gone", async () => {
  const [child] = await fork(parent, 1);
  await remember(child, "child");
  await sh(child, "echo child > /root/generation");
  const [grandchild] = await fork(child, 1);
  await remember(grandchild, "grandchild");
  await sh(grandchild, "echo grandchild >> /root/generation");
  await child.delete();
  const [last] = await fork(grandchild, 1);
  await grandchild.delete();

  assert.deepEqual(await recall(last), ["parent", "child", "grandchild"]);
  assert.equal(await sh(last, "cat /root/generation"), "child\ngrandchild\n");
  await last.suspend();
  assert.deepEqual(await recall(last), ["parent", "child", "grandchild"]);
  assert.equal(await sh(last, "cat /root/generation"), "child\ngrandchild\n");
  await last.delete();
});

test("children of a writer have all that it had been told is on the disk", async () => {
  // Each line is written, synced, and only then counted in memory.
  const writer = `use IO::Handle;
open my $log, ">", "/root/log" or die;
open my $counter, ">", "/dev/shm/counter" or die;
for (my $n = 1; ; $n += 1) {
  print $log sprintf("%08d %s\\n", $n, "x" x 1000);
  $log->flush; $log->sync or die;
  seek $counter, 0, 0; print $counter $n; $counter->flush;
}
`;
  const [source] = await fork(parent, 1);
  await source.fs.writeTextFile("/srv/writer.pl", writer);
  await sh(source, "systemd-run --quiet --unit=writer perl /srv/writer.pl");
  await eventually("the writer writes", async () => {
    return Number(await sh(source, "cat /dev/shm/counter 2>/dev/null || echo 0")) > 20;
  });

  const children = await fork(source, 2);

  const counts = await Promise.all(
    [source, ...children].map(async (vm) => {
      const count = "cat /dev/shm/counter";
      // It goes on writing in each of them.
      const first = Number(await sh(vm, count));
      await eventually("it goes on", async () => Number(await sh(vm, count)) > first);
      await sh(vm, "systemctl stop writer && sync && echo 3 > /proc/sys/vm/drop_caches");
      const counted = Number(await sh(vm, count));
      const check = `perl -ne '/^(\\d{8}) x{1000}$/ && $1 == $. or die "line $.\\n"; END { print $. }'`;
      const written = Number(await sh(vm, `${check} /root/log`));
      assert(written === counted || written === counted + 1, `${written}, counted ${counted}`);
      return written;
    }),
  );
  assert.equal(counts.length, 3);
  await deleteAll([source, ...children]);
});

test("the filesystem of every child of a busy VM is whole", async () => {
  const [source] = await fork(parent, 1);
  const churn = "while :; do cp -r /etc /root/churn; sync; rm -r /root/churn; done";
  await sh(source, `systemd-run --quiet --unit=churn sh -c '${churn}'`);
  await eventually("files come and go", () => source.fs.exists("/root/churn/hosts"));

  const [crashed, ended] = await fork(source, 2);
  await crashed.kill();
  await sh(ended, "cp -r /etc /root/more");
  await ended.stop();

  await checkFilesystem(DATA_DIR, crashed.vmId);
  await checkFilesystem(DATA_DIR, ended.vmId);
  await deleteAll([source, crashed, ended]);
});

test("children of a VM that installs a package, and then of its database", async () => {
  const [source] = await fork(parent, 1);
  const isDone = async (vm) =>
    /^inactive/.test((await vm.exec("systemctl is-active apt-test")).stdout);
  await sh(source, "apt-get update -qq", 300_000);
  const install = "DEBIAN_FRONTEND=noninteractive apt-get install -y sqlite3 > /root/apt.log 2>&1";
  await sh(source, `systemd-run --quiet --unit=apt-test -p RemainAfterExit=no sh -c '${install}'`);
  // What was being downloaded would not arrive in a child, whose network is another.
  await eventually("apt unpacks", async () => {
    return (await source.exec("grep -q ^Unpacking /root/apt.log")).statusCode === 0;
  });
  const [installing] = await fork(source, 1);
  await source.delete();
  await eventually("apt is done", () => isDone(installing), 120_000);
  assert.equal(await sh(installing, "dpkg --audit; sqlite3 :memory: 'select 6 * 7'"), "42\n");

  const transactions = `
    i=0; while :; do i=$((i + 1)); echo "insert into t values ($i);"; echo "select $i;"; done |
    sqlite3 /root/db > /dev/shm/committed`;
  await sh(installing, "sqlite3 /root/db 'pragma journal_mode=wal; create table t (n integer)'");
  await installing.fs.writeTextFile("/srv/load.sh", transactions);
  await sh(installing, "systemd-run --quiet --unit=load sh /srv/load.sh");
  const committed = async (vm) =>
    Number(await sh(vm, "wc -l < /dev/shm/committed 2>/dev/null || echo 0"));
  await eventually("it commits", async () => (await committed(installing)) > 10);
  const children = await fork(installing, 2);
  for (const child of children) {
    await sh(child, "systemctl kill -s KILL load");
    const rows = Number(await sh(child, "sqlite3 /root/db 'select count(*) from t'"));
    assert(rows >= (await committed(child)), `${rows} rows`);
    const check = "pragma integrity_check; select count(*) = max(n) from t";
    assert.equal(await sh(child, `sqlite3 /root/db '${check}'`), "ok\n1\n");
  }
  await deleteAll([installing, ...children]);
});

test("a suspended VM is forked without waking it", async () => {
  const [sleeper] = await fork(parent, 1);
  await remember(sleeper, "asleep");
  await sleeper.suspend();

  const children = await fork(sleeper, 2);

  assert.equal((await sleeper.getInfo()).state, "suspended");
  for (const child of children) assert.deepEqual(await recall(child), ["parent", "asleep"]);
  assert.deepEqual(await recall(sleeper), ["parent", "asleep"]);
  await deleteAll([sleeper, ...children]);
});

test("a child keeps or is given how long it is kept", async () => {
  const [source] = await fork(parent, 1);
  const { forks } = await source.fork({ count: 1, persistence: { type: "ephemeral" } });
  const [{ vm: child, vmId }] = forks;
  const persistenceOf = async (id) =>
    (await freestyle.vms.list()).vms.find((vm) => vm.id === id).persistence.type;
  assert.equal(await persistenceOf(vmId), "ephemeral");
  assert.equal(await persistenceOf(source.vmId), "persistent");
  await child.kill();
  await assert.rejects(child.getInfo(), failsWith("VM_NOT_FOUND", { vmId }));
  await source.delete();
});

test("two forks and a resize at once on one VM", async () => {
  const [source] = await fork(parent, 1);
  await sh(source, "echo kept > /root/kept; sync");
  const [first, second, resized] = await Promise.allSettled([
    source.fork({ count: 1 }),
    source.fork({ count: 1 }),
    source.resize({ cpu: 2 }),
  ]);

  const children = [];
  for (const { value, reason } of [first, second]) {
    // It may come in the moment in which the resize has the VM stopped.
    if (reason) failsWith("VM_NOT_RUNNING")(reason);
    else children.push(...value.forks.map(({ vm }) => vm));
  }
  assert.equal(resized.status, "fulfilled", resized.reason?.stack);
  assert.equal(await sh(source, "nproc; cat /root/kept"), "2\nkept\n");
  for (const child of children) assert.equal(await sh(child, "cat /root/kept"), "kept\n");
  await deleteAll([source, ...children]);
});

test("a VM can be deleted while it is forked", async () => {
  const [source] = await fork(parent, 1);
  const [forked, deleted] = await Promise.allSettled([source.fork({ count: 2 }), source.delete()]);
  assert.equal(deleted.status, "fulfilled", deleted.reason?.stack);
  const children = forked.value?.forks.map(({ vm }) => vm) ?? [];
  for (const child of children) assert.deepEqual(await recall(child), ["parent"]);
  if (forked.reason) assert.match(forked.reason.body.code, /^(FORK_VM_NOT_FOUND|VM_DELETED)$/);
  await deleteAll(children);
});

test("what cannot be forked is refused, and nothing was made", async () => {
  const { totalCount } = await freestyle.vms.list();
  for (const count of [0, -1, 129, 10_000, 1.5, "x", {}]) {
    await assert.rejects(parent.fork({ count }), failsWith("BAD_REQUEST"), `${count}`);
  }
  await assert.rejects(
    parent.fork({ count: 1, persistence: { type: "eternal" } }),
    failsWith("BAD_REQUEST"),
  );
  const forkVmId = "0".repeat(20);
  const notFound = failsWith("FORK_VM_NOT_FOUND", { forkVmId });
  await assert.rejects(freestyle.vms.ref({ vmId: forkVmId }).fork({}), notFound);
  const { freestyle: other } = await account("forks other");
  const foreign = other.vms.ref({ vmId: parent.vmId });
  await assert.rejects(foreign.fork({}), failsWith("FORK_VM_NOT_FOUND", { forkVmId: parent.vmId }));
  const malformed = freestyle.vms.ref({ vmId: "../x" });
  await assert.rejects(malformed.fork({}), failsWith("INVALID_VM_ID"));
  assert.equal((await freestyle.vms.list()).totalCount, totalCount);

  const [stopped] = await fork(parent, 1);
  await stopped.kill();
  await assert.rejects(stopped.fork({}), failsWith("VM_NOT_RUNNING", { vmId: stopped.vmId }));
  await stopped.delete();
});
