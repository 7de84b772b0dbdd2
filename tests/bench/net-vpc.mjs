// `cargo xtask bench vpc`: what a VPC and its VPN carry, next to a plain bridge and to wireguard-go at
// both ends, in the same run. All of it is network namespaces of this host: emulated guests would only
// measure the emulation. Prints figures, judges none.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit } from "../support/cleanup.mjs";
import { head, row } from "./report.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 5);
const SECONDS = Number(process.env.BENCH_SECONDS ?? 5);
const HOST = "198.51.100.209";
const LAPTOP = "198.51.100.210";
const dir = mkdtempSync(join(tmpdir(), "fsbench-"));
const places = [];
const links = [];

atExit(() => {
  for (const link of links) spawnSync("ip", ["link", "delete", link]);
  for (const place of places) spawnSync("ip", ["netns", "delete", place]);
  rmSync(dir, { recursive: true, force: true });
});

const ip = (line) => execFileSync("ip", line.split(" "), { stdio: ["ignore", "ignore", "inherit"] });
const inside = (place, ...command) => ["netns", "exec", place, ...command];

function addPlace(name) {
  const place = `fsbench-${process.pid}-${name}`;
  ip(`netns add ${place}`);
  places.push(place);
  ip(`-n ${place} link set lo up`);
  return place;
}

/** Something that sends and receives behind a VM's network. */
function guest(vm, name) {
  const place = addPlace(name);
  ip(`-n ${vm.namespace} link delete tap0`);
  ip(`-n ${vm.namespace} link add tap0 type veth peer name eth0 netns ${place}`);
  ip(`-n ${vm.namespace} address add 10.0.0.1/30 dev tap0`);
  ip(`-n ${vm.namespace} link set tap0 up`);
  ip(`-n ${vm.namespace} route add ${vm.address}/32 via 10.0.0.2 dev tap0`);
  ip(`-n ${place} address add 10.0.0.2/30 dev eth0`);
  ip(`-n ${place} link set eth0 up`);
  ip(`-n ${place} address add ${vm.address}/32 dev eth0`);
  ip(`-n ${place} route add default via 10.0.0.1 dev eth0 src ${vm.address}`);
  return place;
}

/** Two places on one bridge of the host's. */
function onABridge() {
  const bridge = `fsb${process.pid % 100_000}`;
  ip(`link add ${bridge} type bridge`);
  links.push(bridge);
  ip(`link set ${bridge} up`);
  return [1, 2].map((last) => {
    const place = addPlace(`bridged-${last}`);
    const link = `fsb${process.pid % 100_000}p${last}`;
    ip(`link add ${link} type veth peer name eth0 netns ${place}`);
    ip(`link set ${link} master ${bridge}`);
    ip(`link set ${link} up`);
    ip(`-n ${place} address add 192.168.77.${last}/24 dev eth0`);
    ip(`-n ${place} link set eth0 up`);
    return place;
  });
}

function addLaptop(name, host, own) {
  const place = addPlace(name);
  const link = `fsl${process.pid % 100_000}${name[0]}`;
  ip(`link add ${link} type veth peer name eth0 netns ${place}`);
  links.push(link);
  ip(`address add ${host}/30 dev ${link}`);
  ip(`link set ${link} up`);
  ip(`-n ${place} address add ${own}/30 dev eth0`);
  ip(`-n ${place} link set eth0 up`);
  ip(`-n ${place} route add default via ${host}`);
  return place;
}

function wgQuick(place, name, config) {
  const file = join(dir, `${name}.conf`);
  writeFileSync(file, config, { mode: 0o600 });
  const { status } = spawnSync("ip", inside(place, "wg-quick", "up", file), { stdio: "ignore" });
  if (status !== 0) throw new Error(`wg-quick up ${file}`);
}

/** Megabits per second that arrive over one TCP connection. */
async function throughput(from, to, address) {
  const server = spawn("ip", inside(to, "iperf3", "-s", "-1", "--forceflush"), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(server.stdout, "data");
  const args = ["iperf3", "-J", "-t", `${SECONDS}`, "-c", address];
  const client = spawnSync("ip", inside(from, ...args), { encoding: "utf8" });
  const result = JSON.parse(client.stdout);
  if (result.error) throw new Error(`iperf3 to ${address}: ${result.error}`);
  return result.end.sum_received.bits_per_second / 1e6;
}

async function measure(name, from, to, address) {
  const samples = [];
  for (let run = 0; run < RUNS; run++) samples.push(await throughput(from, to, address));
  return row(name, samples, "Mbit/s");
}

const platform = spawn(process.argv[2], [HOST], { stdio: ["pipe", "pipe", "inherit"] });
const [line] = await once(createInterface({ input: platform.stdout }), "line");
const { vms, config } = JSON.parse(line);
const [one, two] = vms.map((vm, index) => guest(vm, `vm-${index}`));
const laptop = addLaptop("laptop", HOST, LAPTOP);
wgQuick(laptop, `fsw${process.pid % 100_000}`, config);

// The peer: the same way, with wireguard-go at both ends, and the server's in a place of its own.
const keys = [1, 2].map(() => {
  const secret = execFileSync("wg", ["genkey"], { encoding: "utf8" }).trim();
  return { secret, open: execFileSync("wg", ["pubkey"], { input: secret, encoding: "utf8" }).trim() };
});
const far = addLaptop("far", "198.51.100.213", "198.51.100.214");
wgQuick(
  far,
  `fsf${process.pid % 100_000}`,
  `[Interface]\nAddress = 10.99.0.1/32\nPrivateKey = ${keys[0].secret}\nListenPort = 51999\n` +
    `[Peer]\nPublicKey = ${keys[1].open}\nAllowedIPs = 10.99.0.2/32\n`,
);
const near = addLaptop("near", "198.51.100.217", "198.51.100.218");
wgQuick(
  near,
  `fsn${process.pid % 100_000}`,
  `[Interface]\nAddress = 10.99.0.2/32\nPrivateKey = ${keys[1].secret}\n` +
    `[Peer]\nPublicKey = ${keys[0].open}\nAllowedIPs = 10.99.0.1/32\nEndpoint = 198.51.100.214:51999\n`,
);
const bridged = onABridge();

head();
const inVpc = await measure("VM to VM in a VPC", one, two, vms[1].address);
const plain = await measure("peer: over a plain bridge", bridged[0], bridged[1], "192.168.77.2");
const up = await measure("laptop to VM, over the VPN", laptop, one, vms[0].address);
const tunnel = config.match(/^Address = (.*)\/32$/m)[1];
const down = await measure("VM to laptop, over the VPN", one, laptop, tunnel);
const go = await measure("peer: wireguard-go to wireguard-go", near, far, "10.99.0.1");
console.log(
  `\nA VPC carries ${(inVpc / plain).toFixed(2)} of what a bridge does; the VPN ` +
    `${(up / go).toFixed(2)} (up) and ${(down / go).toFixed(2)} (down) of what wireguard-go does.`,
);
for (const [place, name] of [[laptop, "fsw"], [far, "fsf"], [near, "fsn"]]) {
  spawnSync("ip", ["-n", place, "link", "delete", `${name}${process.pid % 100_000}`]);
}
platform.stdin.end();
await once(platform, "exit");
