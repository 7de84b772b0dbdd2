// `cargo xtask bench vm`: what a user waits for, through the real SDK, and what idle VMs cost; next
// to the same image booted by plain QEMU in the same run. Prints figures, judges none.

import { readFileSync } from "node:fs";

import { Freestyle } from "freestyle";

import * as host from "../support/host.mjs";
import { Server } from "../support/server.mjs";
import { PeerImage, PlainQemu } from "./peer.mjs";
import { MIB, head, memoryMib, milliseconds, pause, row } from "./report.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 30);
const PEER_RUNS = Number(process.env.BENCH_PEER_RUNS ?? 3);
const IDLE_VMS = Number(process.env.BENCH_IDLE_VMS ?? 20);
const IDLE_SECONDS = 20;
/** Between two creates, so that the pool can be filled again as it would be between two users. */
const PAUSE_MS = 3000;
const SMALL = { vcpuCount: 1, memSizeGb: 1 };

async function createToFirstExec(freestyle, options) {
  const samples = [];
  for (let run = 0; run < RUNS; run++) {
    await pause(PAUSE_MS);
    let created;
    samples.push(
      await milliseconds(async () => {
        created = await freestyle.vms.create(options);
        await created.vm.exec("true");
      }),
    );
    await created.vm.delete();
  }
  return samples;
}

/** Boots with plain QEMU until the first command has run. */
async function bootWithQemu(image, run) {
  let qemu;
  const disk = image.overlay(`${run}.qcow2`);
  const time = await milliseconds(async () => {
    qemu = await PlainQemu.start(image, disk);
    await qemu.booted();
  });
  await qemu.end();
  return time;
}

const server = await Server.start({ poolSize: 2 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
head();

// One of each shape first: a base image that was never booted in it is booted now.
for (const options of [{}, SMALL]) await (await freestyle.vms.create(options)).vm.delete();

const pooled = row(
  "create to first exec, 4 vCPU 8 GB (from the pool)",
  await createToFirstExec(freestyle, {}),
);
row("create to first exec, 1 vCPU 1 GB (no pool)", await createToFirstExec(freestyle, SMALL));

const { vm } = await freestyle.vms.create();
const repeat = async (work) => {
  const samples = [];
  for (let run = 0; run < RUNS; run++) samples.push(await milliseconds(() => work(run)));
  return samples;
};
await pause(PAUSE_MS);
row("exec of `true`", await repeat(() => vm.exec("true")));
const content = Buffer.alloc(MIB, 7);
row("write a file of 1 MB", await repeat((run) => vm.fs.writeFile(`/tmp/f${run}`, content)));
row("read a file of 1 MB", await repeat((run) => vm.fs.readFile(`/tmp/f${run}`)));
await vm.delete();

const doomed = [];
for (let run = 0; run < RUNS; run++) doomed.push((await freestyle.vms.create(SMALL)).vm);
await pause(PAUSE_MS);
row("delete", await repeat((run) => doomed[run].delete()));

const idle = [];
for (let count = 0; count < IDLE_VMS; count++) idle.push((await freestyle.vms.create()).vm);
await Promise.all(idle.map((each) => each.exec("true")));
await pause(15_000);
const pids = [...host.processes(server.dataDir).values()];
const ticks = () => pids.map(host.cpuTicks).reduce((sum, each) => sum + each);
const before = ticks();
await pause(IDLE_SECONDS * 1000);
const used = ticks() - before;
const pss = pids.map((pid) => memoryMib(pid));
row(`memory of each of ${pids.length} idle VMs (PSS; ${IDLE_VMS} and the pool)`, pss, "MiB");
row(`CPU of all ${pids.length} of them`, [used / IDLE_SECONDS], "% of a core");
const serverRss = readFileSync(`/proc/${server.process.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1];
row("memory of the server itself (RSS)", [serverRss / 1024], "MiB");
await Promise.all(idle.map((each) => each.delete()));
await server.stopAndCheckNothingIsLeft();

const boots = [];
const image = new PeerImage();
for (let run = 0; run < PEER_RUNS; run++) boots.push(await bootWithQemu(image, run));
image.remove();
const plain = row("peer: plain QEMU boots the same image to its first command, 4 vCPU 8 GB", boots);
console.log(`\nA first command is ${(plain / pooled).toFixed(0)} times sooner than by booting.`);
