// What a guest reaches and what it must not reach. Every refusal is checked against a server that
// does listen there, and that somebody else can reach.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { networkInterfaces } from "node:os";
import { after, test } from "node:test";

import * as host from "../support/host.mjs";
import { Outside } from "../support/outside.mjs";
import { run } from "../support/process.mjs";
import { DATA_DIR, fileAccount, sh } from "../support/sdk.mjs";

/** One of every range that is private or special. */
const DENIED = [
  "10.77.0.1",
  "100.64.77.1",
  "169.254.169.254",
  "172.31.77.1",
  "192.168.77.1",
  "192.0.0.192",
];

const { freestyle } = await fileAccount("network");
const { vm } = await freestyle.vms.create();
const outside = await Outside.start(DENIED);
after(outside.stop);

async function networkOf(vm) {
  const { vmInstanceId } = await vm.getInfo();
  return host.networks(DATA_DIR).find(({ instance }) => instance === vmInstanceId);
}

/** Asks an HTTP server from inside a guest; answers its text, or curl's exit code. */
async function ask(vm, address, port = 80) {
  const { stdout, statusCode } = await vm.exec(`curl -s -m 3 http://${address}:${port}/`);
  return statusCode === 0 ? stdout : statusCode;
}

async function askFromHost(address, port = 80) {
  return await (await fetch(`http://${address}:${port}/`)).text();
}

test("a guest has a name server and installs packages from the internet", async () => {
  const mirror = "sed -nE 's|^deb https?://([^/]+)/.*|\\1|p' /etc/apt/sources.list | head -n 1";
  assert.match(await sh(vm, `getent ahostsv4 $(${mirror})`), /^\d+\.\d+\.\d+\.\d+ /);
  await sh(vm, "apt-get update -qq", 240_000);
  assert.match(await sh(vm, "apt-cache policy hello"), /Candidate: \d/);
});

test("a guest reaches public addresses, and no private or special ones", async () => {
  assert.equal(await ask(vm, outside.address), "outside");
  for (const address of DENIED) {
    assert.equal(await askFromHost(address), "outside");
    assert.notEqual(await ask(vm, address), "outside", address);
  }
  assert.deepEqual(outside.visits, [outside.address, ...DENIED]);
});

test("a guest does not reach the host at any of its addresses", async () => {
  const { link } = await networkOf(vm);
  const server = createServer((_, response) => response.end("host")).listen(0, "0.0.0.0");
  await once(server, "listening");
  const { port } = server.address();
  try {
    const addresses = Object.entries(networkInterfaces())
      .filter(([name]) => name === link || !/^(lo|fs\d)/.test(name))
      .flatMap(([, list]) => list.filter(({ family }) => family === "IPv4"))
      .map(({ address }) => address);
    assert(addresses.length >= 2, `${addresses}`);
    for (const address of addresses) {
      assert.equal(await askFromHost(address, port), "host");
      assert.notEqual(await ask(vm, address, port), "host", address);
    }
    // What a guest may take for the host: its gateway.
    assert.notEqual(await ask(vm, "10.0.0.1", port), "host");
  } finally {
    server.close();
  }
});

test("a guest does not reach another VM, nor the API of the server", async () => {
  const { vm: neighbour } = await freestyle.vms.create();
  const { instance, link } = await networkOf(neighbour);
  // The first connection has sshd make its key.
  const banner = (address) => `timeout 30 bash -c 'exec 3<>/dev/tcp/${address}/22; head -c 3 <&3'`;
  const fromNamespace = ["netns", "exec", `fs-${instance}`, "sh", "-c", banner("10.0.0.2")];
  assert.equal((await run("ip", fromNamespace)).stdout, "SSH");

  const [{ address }] = networkInterfaces()[link];
  const other = address.replace(/\d+$/, (last) => `${Number(last) + 1}`);
  for (const target of [address, other]) {
    assert.equal((await vm.exec(banner(target))).stdout, "", target);
  }
  const { port } = new URL(process.env.FREESTYLE_API_URL);
  for (const target of ["10.0.0.1", address, other]) {
    assert.equal(typeof (await ask(vm, `${target}`, port)), "number", target);
  }
});

test("a guest that takes another address reaches nothing", async () => {
  const { vm: liar } = await freestyle.vms.create();
  assert.equal(await ask(liar, outside.address), "outside");
  const visits = outside.visits.length;
  await sh(
    liar,
    "ip addr flush dev eth0; ip addr add 10.0.0.6/24 dev eth0; ip route add default via 10.0.0.1",
  );
  assert.notEqual(await ask(liar, outside.address), "outside");
  assert.equal(outside.visits.length, visits);
  // The agent does not need the network.
  assert.equal(await sh(liar, "ip link set eth0 down; echo still here"), "still here\n");
});
