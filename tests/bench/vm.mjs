// `cargo xtask bench vm`: what a user waits for, through the real SDK, and what idle VMs cost; next
// to the same image booted by plain QEMU in the same run. Prints figures, judges none.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";

import { Freestyle } from "freestyle";

import { Server } from "../support/server.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 30);
const PEER_RUNS = Number(process.env.BENCH_PEER_RUNS ?? 3);
const IDLE_VMS = Number(process.env.BENCH_IDLE_VMS ?? 20);
const IDLE_SECONDS = 20;
/** Between two creates, so that the pool can be filled again as it would be between two users. */
const PAUSE_MS = 3000;
const MIB = 1024 * 1024;
const SMALL = { vcpuCount: 1, memSizeGb: 1 };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function milliseconds(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function row(name, samples, unit = "ms") {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const shown = [at(0.5), at(0.95), sorted.at(-1)].map((value) => value.toFixed(value < 10 ? 1 : 0));
  console.log(`| ${name} | ${shown.join(" | ")} | ${unit} | ${samples.length} |`);
  return at(0.5);
}

/** The QEMU processes of a server, by the descriptor of a file below its data directory. */
function machines(dataDir) {
  const data = realpathSync(dataDir);
  return readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "latin1");
      if (!command.includes("-name\0freestyle-")) return false;
      return readdirSync(`/proc/${pid}/fd`).some((fd) => {
        try {
          return realpathSync(`/proc/${pid}/fd/${fd}`).startsWith(data);
        } catch {
          return false;
        }
      });
    } catch {
      return false;
    }
  });
}

const pssMib = (pid) =>
  Number(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").match(/^Pss:\s+(\d+)/m)[1]) / 1024;

/** CPU seconds used so far. */
function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

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

const FIRST_COMMAND = `[Service]
Type=oneshot
ExecStart=/bin/sh -c 'echo first-command > /dev/ttyS0'
[Install]
WantedBy=multi-user.target
`;

/** A copy of the newest base image in which a unit runs a command as soon as ordinary units may. */
function peerImage(cacheDir, dir) {
  const images = join(cacheDir, "images");
  const ages = readdirSync(images)
    .filter((name) => /^[0-9a-f]{64}$/.test(name))
    .map((name) => join(images, name))
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  const [image] = ages;
  const disk = join(dir, "peer.raw");
  execFileSync("cp", ["--sparse=always", "--reflink=auto", join(image, "rootfs.raw"), disk]);
  chmodSync(disk, 0o600);
  const unit = join(dir, "first.service");
  writeFileSync(unit, FIRST_COMMAND);
  const units = "/etc/systemd/system";
  for (const command of [
    `write ${unit} ${units}/first.service`,
    `symlink ${units}/multi-user.target.wants/first.service ${units}/first.service`,
  ]) {
    execFileSync("debugfs", ["-w", "-R", command, disk], { stdio: "ignore" });
  }
  return { disk, kernel: join(image, "vmlinuz"), initrd: join(image, "initrd") };
}

/** Boots with plain QEMU until the first command has run. */
async function bootWithQemu({ disk, kernel, initrd }, { vcpus, memory }) {
  const qemu = spawn(
    "qemu-system-x86_64",
    [
      ...["-nodefaults", "-display", "none", "-M", "q35", "-no-reboot"],
      ...["-accel", process.env.BENCH_ACCEL ?? "tcg,thread=multi", "-cpu", "max"],
      ...["-smp", `${vcpus}`, "-m", `${memory}`, "-kernel", kernel, "-initrd", initrd],
      ...["-append", "root=/dev/vda rootfstype=ext4 rw console=ttyS0 quiet"],
      ...["-drive", `file=${disk},if=virtio,format=raw,snapshot=on`, "-serial", "stdio"],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = once(qemu, "exit");
  const limit = setTimeout(() => qemu.kill("SIGKILL"), 180_000);
  let printed = "";
  const time = await milliseconds(async () => {
    for await (const bytes of qemu.stdout) {
      printed += bytes;
      if (printed.includes("first-command")) break;
    }
  });
  clearTimeout(limit);
  qemu.kill("SIGKILL");
  await ended;
  if (!printed.includes("first-command")) throw new Error(`no first command:\n${printed}`);
  return time;
}

const server = await Server.start({ poolSize: 2 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
const cpu = readFileSync("/proc/cpuinfo", "utf8").match(/model name\s*: (.*)/)?.[1];
console.log(`${cpus().length} cores of ${cpu}, ${Math.round(totalmem() / 1024 ** 3)} GiB; Node ${process.version}`);
console.log("\n| what | p50 | p95 | max | unit | runs |\n|---|---:|---:|---:|---|---:|");

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
const pids = machines(server.dataDir);
const before = pids.map(cpuSeconds).reduce((sum, each) => sum + each);
await pause(IDLE_SECONDS * 1000);
const used = pids.map(cpuSeconds).reduce((sum, each) => sum + each) - before;
row(`memory of each of ${pids.length} idle VMs (PSS; ${IDLE_VMS} and the pool)`, pids.map(pssMib), "MiB");
row(`CPU of all ${pids.length} of them`, [(used / IDLE_SECONDS) * 100], "% of a core");
const serverRss = readFileSync(`/proc/${server.process.pid}/status`, "utf8").match(/VmRSS:\s+(\d+)/)[1];
row("memory of the server itself (RSS)", [serverRss / 1024], "MiB");
await Promise.all(idle.map((each) => each.delete()));
await server.stopAndCheckNothingIsLeft();

const boots = [];
const dir = mkdtempSync(join(tmpdir(), "fsbench-"));
try {
  const image = peerImage(process.env.FREESTYLE_CACHE_DIR ?? "/var/cache/freestyle", dir);
  for (let run = 0; run < PEER_RUNS; run++) {
    boots.push(await bootWithQemu(image, { vcpus: 4, memory: 8192 }));
  }
} finally {
  rmSync(dir, { recursive: true });
}
const plain = row("peer: plain QEMU boots the same image to its first command, 4 vCPU 8 GB", boots);
console.log(`\nA first command is ${(plain / pooled).toFixed(0)} times sooner than by booting.`);
