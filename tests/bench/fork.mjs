// `cargo xtask bench fork`: what copying, saving and waking a running VM costs, by how much it has
// written, by the number of copies and by its size; next to what plain QEMU offers for it on the same
// image in the same run. Prints figures, judges none.

import { lstatSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { Freestyle } from "freestyle";

import * as host from "../support/host.mjs";
import { withServer } from "../support/server.mjs";
import { PeerImage, PlainQemu } from "./peer.mjs";
import { MIB, head, load, memoryMib, milliseconds, pause, row } from "./report.mjs";

const numbers = (text) => text.split(",").map(Number);
const RUNS = Number(process.env.BENCH_RUNS ?? 10);
const PEER_RUNS = Number(process.env.BENCH_PEER_RUNS ?? 3);
const LIVE_FORKS = Number(process.env.BENCH_LIVE_FORKS ?? 64);
const WRITTEN_MIB = numbers(process.env.BENCH_WRITTEN_MIB ?? "16,256,1024");
const CHILDREN = numbers(process.env.BENCH_CHILDREN ?? "1,4,16");
/** Sizes besides the default of 8 GB, with the least written. */
const SIZES_GB = numbers(process.env.BENCH_SIZES_GB ?? "16,32");
const QUIET_SECONDS = 15;
/** Between two captures, so that what the last one left to the background is done. */
const PAUSE_MS = 1000;
const DEFAULT = { vcpuCount: 4, memSizeGb: 8, idleTimeoutSeconds: null };

/** A shell command that fills so much memory, and none of it with zeros. */
const fill = (mib) =>
  `cd /dev/shm && head -c 4M /dev/urandom > part && ` +
  `for i in $(seq ${Math.ceil(mib / 4)}); do cat part; done > filled && rm part`;

/** Bytes that the files below a directory, or a file, have on the disk, in MiB. */
function diskMib(path) {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return 0;
  const inside = stat.isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [];
  return inside.map(diskMib).reduce((sum, each) => sum + each, (stat.blocks * 512) / MIB);
}

/**
 * How long each capture of a VM stood it still, as the server has measured: from before it asks QEMU to
 * stop until QEMU has answered that the guest runs on. The guest's own clocks stand still, too.
 */
function pauses(server, vmId) {
  const log = readFileSync(server.log, "utf8");
  const saved = log.matchAll(/saved a machine vm=(\S+) .*?paused_us=(\d+)/g);
  return [...saved].filter(([, vm]) => vm === vmId).map(([, , us]) => us / 1000);
}

/** A VM that has written so much since it was made. */
async function written(freestyle, options, mib) {
  const { vm, vmId } = await freestyle.vms.create(options);
  const { statusCode, stderr } = await vm.exec({ command: fill(mib), timeoutMs: 120_000 });
  if (statusCode !== 0) throw new Error(`filling memory: ${stderr}`);
  return { vm, vmId };
}

/** Forks until all children have answered a command. */
async function benchForks(server, { vm, vmId }, count, runs, what) {
  const ready = [];
  for (let run = 0; run < runs; run++) {
    await pause(PAUSE_MS);
    let forks;
    ready.push(
      await milliseconds(async () => {
        ({ forks } = await vm.fork({ count }));
        await Promise.all(forks.map((child) => child.vm.exec("true")));
      }),
    );
    await Promise.all(forks.map((child) => child.vm.delete()));
  }
  const children = count === 1 ? "1 child" : `${count} children`;
  const paused = row(`fork, ${what}: parent's pause, ${children}`, pauses(server, vmId));
  row(`fork, ${what}: ${children} answered`, ready);
  return { paused };
}

async function benchSnapshots(freestyle, server, { vm }, runs, what) {
  const [times, memory, disk] = [[], [], []];
  for (let run = 0; run < runs; run++) {
    await pause(PAUSE_MS);
    let snapshotId;
    times.push(await milliseconds(async () => ({ snapshotId } = await vm.snapshot())));
    memory.push(diskMib(join(server.dataDir, "snapshots", snapshotId)));
    disk.push(diskMib(join(server.dataDir, "layers", `${snapshotId}.qcow2`)));
    await freestyle.vms.snapshots.delete({ snapshotId });
  }
  row(`snapshot, ${what}: until it is durable`, times);
  const bytes = row(`snapshot, ${what}: its memory and devices`, memory, "MiB");
  row(`snapshot, ${what}: its layer of the disk`, disk, "MiB");
  return { bytes };
}

async function benchSuspend({ vm }, runs, what) {
  const [suspends, wakes] = [[], []];
  for (let run = 0; run < runs; run++) {
    await pause(PAUSE_MS);
    suspends.push(await milliseconds(() => vm.suspend()));
    await pause(PAUSE_MS);
    wakes.push(await milliseconds(() => vm.exec("true")));
  }
  row(`suspend, ${what}`, suspends);
  return { wake: row(`wake to first exec, ${what}`, wakes) };
}

/** Many copies of one VM that do nothing. */
async function benchLiveForks(server, { vm, vmId }) {
  const before = new Set(host.processes(server.dataDir).keys());
  let children;
  const ready = await milliseconds(async () => {
    ({ forks: children } = await vm.fork({ count: LIVE_FORKS }));
    await Promise.all(children.map((child) => child.vm.exec("true")));
  });
  row(`${LIVE_FORKS} live forks: all answered`, [ready]);
  row(`${LIVE_FORKS} live forks: parent's pause`, pauses(server, vmId).slice(-1));
  await pause(QUIET_SECONDS * 1000);
  const pids = [...host.processes(server.dataDir)]
    .filter(([instance]) => !before.has(instance))
    .map(([, pid]) => pid);
  const ticks = () => pids.map(host.cpuTicks).reduce((sum, each) => sum + each);
  const used = ticks();
  await pause(QUIET_SECONDS * 1000);
  row(`CPU of all ${pids.length} of them`, [(ticks() - used) / QUIET_SECONDS], "% of a core");
  const pss = pids.map((pid) => memoryMib(pid));
  row(`memory of each of ${pids.length} live forks (PSS)`, pss, "MiB");
  const rss = pids.map((pid) => memoryMib(pid, "Rss"));
  row("the same with what is shared in full (RSS)", rss, "MiB");
  const dirs = children.map((child) => join(server.dataDir, "vms", child.vmId));
  row("disk of each of them", dirs.map(diskMib), "MiB");
  await Promise.all(children.map((child) => child.vm.delete()));
}

/** What QEMU itself has for saving a running VM and going on from it. */
async function benchPeer(image, mib) {
  const disk = image.overlay(`${mib}.qcow2`);
  const stream = join(image.dir, `${mib}.stream`);
  const qemu = await PlainQemu.start(image, disk);
  await qemu.booted();
  await qemu.exec(fill(mib));
  await qemu.exec("sync");
  // 128 MiB/s by default, a limit meant for networks.
  await qemu.command("migrate-set-parameters", { "max-bandwidth": 2 ** 40 });
  const capabilities = [{ capability: "events", state: true }];
  await qemu.command("migrate-set-capabilities", { capabilities });

  const [saves, saved, downtimes, totals, streams] = [[], [], [], [], []];
  for (let run = 0; run < PEER_RUNS; run++) {
    await pause(PAUSE_MS);
    const before = diskMib(disk);
    saves.push(await milliseconds(() => qemu.humanCommand(`savevm saved${run}`)));
    saved.push(diskMib(disk) - before);
    await pause(PAUSE_MS);
    const migration = await migrate(qemu, stream);
    downtimes.push(migration.downtime);
    totals.push(migration["total-time"]);
    streams.push(diskMib(stream));
    if (run < PEER_RUNS - 1) await qemu.command("cont");
  }
  await qemu.end();

  const [fromStream, loads] = [[], []];
  for (let run = 0; run < PEER_RUNS; run++) {
    const incoming = ["-incoming", `exec:cat ${stream}`];
    fromStream.push(await restore(image, { disk, discard: true, args: incoming }));
    loads.push(await restore(image, { disk, args: ["-loadvm", "saved0"] }));
  }
  const what = `${mib} MiB written`;
  const figures = {
    paused: row(`peer, savevm, ${what}: guest's pause`, saves),
    bytes: row(`peer, savevm, ${what}: on the disk`, saved, "MiB"),
    wake: row(`peer, loadvm, ${what}: to first command`, loads),
    downtime: row(`peer, live migration to a file, ${what}: guest's pause`, downtimes),
  };
  row(`peer, live migration to a file, ${what}: in all`, totals);
  row(`peer, live migration to a file, ${what}: on the disk`, streams, "MiB");
  row(`peer, migration from a file, ${what}: to first command`, fromStream);
  return figures;
}

/** Saves a guest that runs on to a file, as a user who wants a short pause would. */
async function migrate(qemu, file) {
  const over = qemu.event(
    ({ event, data }) => event === "MIGRATION" && /completed|failed/.test(data.status),
  );
  qemu.send("migrate", { uri: `exec:cat > ${file}` });
  await over;
  // QEMU still tidies up, and refuses to go on until it has done so.
  while ((await qemu.command("query-status")).status !== "postmigrate") await pause(10);
  const migration = await qemu.command("query-migrate");
  if (migration.status !== "completed") throw new Error(JSON.stringify(migration));
  return migration;
}

/** From nothing to a guest that has run a command. */
async function restore(image, { disk, ...options }) {
  let qemu;
  const time = await milliseconds(async () => {
    qemu = await PlainQemu.start(image, disk, options);
    await qemu.exec("true");
  });
  await qemu.end();
  return time;
}

/** The server removes what nothing needs any more a moment after the last deletion. */
async function swept({ dataDir }) {
  const isLeft = () =>
    ["layers", "snapshots"].some((dir) =>
      readdirSync(join(dataDir, dir)).some((name) => name.startsWith("sc-")),
    );
  for (let waited = 0; isLeft() && waited < 100; waited++) await pause(100);
}

/** Figures of the platform by MiB written. */
const ours = {};

async function benchPlatform(server) {
  const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
  // Measures on a VM of its own: captures make the next one on the same VM dearer.
  const withVm = async (mib, options, work) => {
    const parent = await written(freestyle, options, mib);
    const figures = await work(parent);
    await parent.vm.delete();
    return figures;
  };
  // One first: a base image that was never booted in this shape is booted now.
  await (await freestyle.vms.create(DEFAULT)).vm.delete();
  head();

  const [least] = WRITTEN_MIB;
  for (const mib of WRITTEN_MIB) {
    const what = `${mib} MiB written`;
    const runs = mib < 1024 ? RUNS : Math.ceil(RUNS / 3);
    for (const count of mib === least ? CHILDREN : [1]) {
      const some = count < 16 ? runs : Math.ceil(runs / 2);
      const bench = (vm) => benchForks(server, vm, count, some, what);
      const figures = await withVm(mib, DEFAULT, bench);
      if (count === 1) ours[mib] = figures;
    }
    const rest = [
      (vm) => benchSnapshots(freestyle, server, vm, Math.ceil(runs / 2), what),
      (vm) => benchSuspend(vm, runs, what),
    ];
    for (const bench of rest) Object.assign(ours[mib], await withVm(mib, DEFAULT, bench));
  }
  await withVm(least, DEFAULT, (vm) => benchLiveForks(server, vm));

  for (const memSizeGb of SIZES_GB) {
    const options = { ...DEFAULT, memSizeGb };
    try {
      await (await freestyle.vms.create(options)).vm.delete();
    } catch (error) {
      console.log(`| ${memSizeGb} GB: not measured, ${error.message.split("\n")[0]} ||||||`);
      continue;
    }
    const what = `${least} MiB written, ${memSizeGb} GB`;
    await withVm(least, options, (vm) => benchForks(server, vm, 1, RUNS, what));
    await withVm(least, options, (vm) => benchSuspend(vm, RUNS, what));
  }
  await swept(server);
}

// No pool: nothing but what is measured runs.
await withServer({ poolSize: 0 }, benchPlatform);

const image = new PeerImage();
const peers = {};
for (const mib of WRITTEN_MIB) peers[mib] = await benchPeer(image, mib);
image.remove();

console.log(`\nThe load was ${load()} in the end.`);
for (const mib of WRITTEN_MIB) {
  const [our, peer] = [ours[mib], peers[mib]];
  const ratio = (a, b) => (a / b).toFixed(1);
  console.log(
    `With ${mib} MiB written the guest pauses ${ratio(peer.paused, our.paused)} times shorter than ` +
      `for savevm and ${ratio(peer.downtime, our.paused)} times shorter than for a live migration ` +
      `to a file, a snapshot is ${ratio(peer.bytes, our.bytes)} times smaller, and a first command ` +
      `runs ${ratio(peer.wake, our.wake)} times sooner than after loadvm.`,
  );
}
