// What a server has on this host: QEMU processes, network namespaces, links, files. All of it is
// named by the instance (one run of a VM) it belongs to, and a server's instances are known by the
// block of uids and addresses it has claimed, so that what belongs to another server on the same
// host is never looked at, and never touched.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { run } from "./process.mjs";

const REGISTRY = "/run/freestyle/blocks";
const FIRST_UID = 900_000_000;
const UIDS_PER_BLOCK = 1024;

function list(dir) {
  return existsSync(dir) ? readdirSync(dir) : [];
}

/** The block that the server of this data directory holds, or undefined. */
export function blockOf(dataDir) {
  return list(REGISTRY).find((block) => {
    const owner = join(REGISTRY, block, "owner");
    return existsSync(owner) && readFileSync(owner, "utf8").includes(` ${dataDir}/network.json`);
  });
}

/** Instance and slot of every network the server of this data directory has made. */
export function networks(dataDir) {
  const block = blockOf(dataDir);
  return list(join(REGISTRY, `${block}`, "vms")).map((record) => {
    const [slot, instance] = record.split("-");
    return { instance, slot: Number(slot), link: `fs${block}-${slot}` };
  });
}

/** Names of the VPCs that the server of this data directory has on the host. */
export function vpcs(dataDir) {
  return list(join(REGISTRY, `${blockOf(dataDir)}`, "vpcs"));
}

function namespaces() {
  return list("/run/netns")
    .filter((name) => name.startsWith("fs-"))
    .map((name) => name.slice(3));
}

/** Pid of every QEMU by its instance, whoever started it. */
function allProcesses() {
  const found = new Map();
  for (const pid of list("/proc").filter((name) => /^\d+$/.test(name))) {
    let command, uid;
    try {
      command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      uid = Number(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
    } catch {
      continue; // It ended meanwhile.
    }
    const instance = /^freestyle-(.+)$/.exec(command[command.indexOf("-name") + 1])?.[1];
    if (instance) found.set(instance, { pid: Number(pid), uid });
  }
  return found;
}

/** Pid of every QEMU of the server of this data directory, by its instance. */
export function processes(dataDir) {
  const first = FIRST_UID + Number(blockOf(dataDir)) * UIDS_PER_BLOCK;
  const own = [...allProcesses()].filter(
    ([, { uid }]) => uid >= first && uid < first + UIDS_PER_BLOCK,
  );
  return new Map(own.map(([instance, { pid }]) => [instance, pid]));
}

/** CPU time that a process has used, in clock ticks. */
export function cpuTicks(pid) {
  // The name in parentheses may hold anything; user and system time are fields 14 and 15.
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Every instance of which anything is on the host. */
export function instances(dataDir) {
  return new Set([
    ...processes(dataDir).keys(),
    ...networks(dataDir).map(({ instance }) => instance),
    ...list(join(dataDir, "run")),
  ]);
}

/** Ids of the VMs that have files. */
export function vmDirs(dataDir) {
  return list(join(dataDir, "vms"));
}

/**
 * Checks the filesystem of a VM that does not run, on a copy of its disk: what a crash leaves in
 * the journal is replayed, and then there must be nothing to repair.
 */
export async function checkFilesystem(dataDir, vmId) {
  const dir = join(dataDir, "vms", vmId);
  const { disk, layers } = JSON.parse(readFileSync(join(dir, "manifest.json"), "utf8"));
  // Only the manifest knows what a layer stands on.
  const chain = [
    { driver: "qcow2", filename: join(dir, `${disk}.qcow2`) },
    ...layers.map(({ id, qcow2 }) => ({
      driver: qcow2 ? "qcow2" : "raw",
      filename: join(dataDir, "layers", `${id}.${qcow2 ? "qcow2" : "raw"}`),
    })),
  ];
  const image = chain.reduceRight((backing, { driver, filename }) => {
    const file = { driver: "file", filename };
    return { driver, file, "read-only": true, ...(backing && { backing }) };
  }, undefined);
  const copy = join(dataDir, `${vmId}.raw`);
  try {
    await succeeds("qemu-img", "convert", "-O", "raw", `json:${JSON.stringify(image)}`, copy);
    await succeeds("e2fsck", "-y", "-E", "journal_only", copy);
    await succeeds("e2fsck", "-f", "-n", copy);
  } finally {
    rmSync(copy, { force: true });
  }
}

async function succeeds(program, ...args) {
  const { code, stdout, stderr } = await run(program, args);
  assert.equal(code, 0, `${program} ${args.join(" ")}: ${stderr}${stdout}`);
}

/**
 * What is left of a server that has ended in order and whose VMs were all deleted: one line each.
 * `seen` are the instances it is known to have had.
 */
export function leftovers(dataDir, seen) {
  const block = blockOf(dataDir);
  const alive = new Set([...processes(dataDir).keys(), ...allProcesses().keys()]);
  const named = new Set(namespaces());
  return [
    ...(block === undefined ? [] : [`block ${block} is still claimed`]),
    ...[...seen].filter((id) => alive.has(id)).map((id) => `a QEMU of instance ${id} runs`),
    ...[...seen].filter((id) => named.has(id)).map((id) => `namespace fs-${id} exists`),
    ...["run", "vms"].flatMap((dir) =>
      list(join(dataDir, dir)).map((name) => `the data directory holds ${dir}/${name}`),
    ),
    ...snapshotFiles(dataDir).map((name) => `the data directory holds ${name}`),
  ];
}

/** Files of snapshots that are nobody's any more, if no VM and no snapshot is left. */
export function snapshotFiles(dataDir) {
  return ["layers", "snapshots"].flatMap((dir) =>
    list(join(dataDir, dir))
      .filter((name) => !isOfTemplate(dir, name))
      .map((name) => `${dir}/${name}`),
  );
}

/** Whether it belongs to the snapshot of a base image from which VMs are created. */
function isOfTemplate(dir, name) {
  const ofTemplates = {
    layers: /^[a-z0-9]{20}\.(qcow2|raw|initrd|vmlinuz)$/,
    snapshots: /^[a-z0-9]{20}$/,
  };
  return ofTemplates[dir].test(name);
}

/**
 * Ends and removes everything that a server which no longer runs has on this host, files included.
 * For a test that failed half-way; synchronous, so that it also works while this process exits.
 */
export function destroy(dataDir) {
  const block = blockOf(dataDir);
  if (block !== undefined) {
    for (const pid of processes(dataDir).values()) attempt(() => process.kill(pid, "SIGKILL"));
    for (const { instance, slot, link } of networks(dataDir)) {
      attempt(() => command("ip", "link", "delete", link));
      attempt(() => command("ip", "netns", "delete", `fs-${instance}`));
      rmSync(join(REGISTRY, block, "vms", `${slot}-${instance}`), { force: true });
    }
    for (const vpc of vpcs(dataDir)) {
      attempt(() => command("ip", "netns", "delete", `fs-${vpc}`));
      rmSync(join(REGISTRY, block, "vpcs", vpc), { force: true });
    }
    attempt(() => command("nft", "delete", "table", "ip", `freestyle_${block}`));
  }
  rmSync(dataDir, { recursive: true, force: true });
}

function command(program, ...args) {
  execFileSync(program, args, { stdio: "ignore" });
}

function attempt(action) {
  try {
    action();
  } catch {
    // It was not there.
  }
}
