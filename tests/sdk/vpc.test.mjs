// VPCs and VPNs as documented: VMs reach each other by private addresses, a laptop joins with the
// configuration that the SDK is given, and nobody else is let in.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Laptop } from "../support/laptop.mjs";
import { account, failsWith, fileAccount, sh } from "../support/sdk.mjs";

const CIDR = "192.168.10.0/24";
const API = "192.168.10.10";
const WORKER = "192.168.10.11";

const { freestyle } = await fileAccount("vpc");
let vpcId, vpc, api, worker, outsider;

const nic = (ipv4, more) => ({ default: true, vpc: vpcId, mode: "routed", ipv4, ...more });

before(async () => {
  ({ vpcId, vpc } = await freestyle.vpc.create({ name: "workspace-network", cidr: CIDR }));
  const create = (nics) => freestyle.vms.create({ nics, idleTimeoutSeconds: null });
  [api, worker, outsider] = await Promise.all([
    create([nic(API)]),
    create([nic(WORKER)]),
    create(undefined),
  ]);
  await serve(worker.vm);
  await serve(api.vm);
});

/** A service, from nothing but systemd, that answers the address of whoever asks. */
async function serve(vm) {
  await vm.fs.writeTextFile(
    "/etc/systemd/system/who.socket",
    "[Socket]\nListenStream=0.0.0.0:8080\nAccept=yes\n",
  );
  const answer = String.raw`printf "HTTP/1.0 200 OK\r\n\r\n%%s" "$REMOTE_ADDR"`;
  await vm.fs.writeTextFile(
    "/etc/systemd/system/who@.service",
    `[Service]\nStandardInput=socket\nExecStart=/bin/sh -c 'sed "/^.$/q" > /dev/null; ${answer}'\n`,
  );
  await sh(vm, "systemctl daemon-reload && systemctl start who.socket");
}

/** Asks from inside a guest; answers its text, or curl's exit code. */
async function ask(vm, address) {
  const { stdout, statusCode } = await vm.exec(`curl -s -m 10 http://${address}:8080/`);
  return statusCode === 0 ? stdout : statusCode;
}

test("VMs of a VPC reach each other by their addresses, and know each other by them", async () => {
  const { stdout, statusCode } = await api.vm.exec(`ping -c 3 ${WORKER}`);
  assert.equal(statusCode, 0, stdout);
  assert.match(stdout, /3 received/);
  assert.equal(await ask(api.vm, WORKER), API);
  assert.equal(await ask(worker.vm, API), WORKER);
  assert.match(await sh(api.vm, "hostname -I"), new RegExp(`(^| )${API} `));
  assert.match(await sh(api.vm, "ip route get 192.0.2.1"), new RegExp(`src ${API} `));
});

test("a VM of a VPC reaches the internet as every other does", async () => {
  const index =
    "sed -nE 's|^deb ([^ ]+) ([^ ]+) .*|\\1/dists/\\2/InRelease|p' /etc/apt/sources.list | head -n 1";
  assert.match(await sh(api.vm, `curl -fsS $(${index})`, 240_000), /^Suite: /m);
});

test("nobody else reaches them", async () => {
  assert.notEqual(await ask(outsider.vm, WORKER), API);
  // Not even one that gives itself an address of the VPC.
  await sh(outsider.vm, `ip address add 192.168.10.12/32 dev eth0`);
  await sh(outsider.vm, `ip route add ${CIDR} via 10.0.0.1 src 192.168.10.12`);
  assert.equal(typeof (await ask(outsider.vm, WORKER)), "number");
  // Nor one in another VPC of the same range.
  const other = await freestyle.vpc.create({ cidr: CIDR });
  const { vm } = await freestyle.vms.create({ nics: [{ ...nic(API), vpc: other.vpcId }] });
  assert.equal(typeof (await ask(vm, WORKER)), "number");
});

test("a laptop joins with wg-quick until its session is closed", async () => {
  const connection = await vpc.wireguard.createEphemeral();
  const { clientConfig, close, ...told } = connection;
  assert.deepEqual(
    Object.keys(told).sort(),
    [
      "clientAllowedIps",
      "clientPrivateKey",
      "clientPublicKey",
      "clientTunnelIp",
      "endpointHost",
      "endpointPort",
      "interfaceName",
      "listenPort",
      "serverPublicKey",
      "serverTunnelIp",
      "sessionId",
      "vpcCidr",
      "vpcId",
      "vpcIp",
    ].sort(),
  );
  assert.deepEqual([told.vpcId, told.vpcCidr, told.clientAllowedIps], [vpcId, CIDR, [CIDR]]);
  const expected = [
    "[Interface]",
    `Address = ${told.clientTunnelIp}/32`,
    `PrivateKey = ${told.clientPrivateKey}`,
    "",
    "[Peer]",
    `PublicKey = ${told.serverPublicKey}`,
    `AllowedIPs = ${CIDR}`,
    `Endpoint = ${told.endpointHost}:${told.endpointPort}`,
    "PersistentKeepalive = 25",
    "",
  ];
  assert.deepEqual(clientConfig.split("\n"), expected);

  const laptop = await Laptop.start();
  after(laptop.stop);
  assert.equal(await laptop.ask(`http://${API}:8080/`, 1000), undefined);
  await laptop.up(clientConfig);
  assert.equal(await laptop.ask(`http://${API}:8080/`), told.clientTunnelIp);
  assert.equal(await laptop.ask(`http://${WORKER}:8080/`), told.clientTunnelIp);

  await connection.close();
  assert.equal(await laptop.ask(`http://${API}:8080/`, 2000), undefined);
  await connection.close();
  await laptop.down();
});

test("a VM keeps its address when it sleeps and wakes", async () => {
  await worker.vm.suspend();
  assert.equal(typeof (await ask(api.vm, WORKER)), "number");
  await sh(worker.vm, "true");
  assert.equal(await ask(api.vm, WORKER), API);
  assert.equal(await ask(worker.vm, API), WORKER);
});

test("a VM keeps its address when it is stopped and started", async () => {
  await worker.vm.stop();
  await worker.vm.start();
  await sh(worker.vm, "systemctl start who.socket");
  assert.equal(await ask(api.vm, WORKER), API);
  assert.equal(await ask(worker.vm, API), WORKER);
});

test("a VM with a NIC is not forked, and what is made from its snapshot has the NIC it asks for", async () => {
  await assert.rejects(api.vm.fork({ count: 1 }), failsWith("VPC_FORK_UNSUPPORTED"));
  const { snapshotId } = await api.vm.snapshot();

  const [without, within] = await Promise.all([
    freestyle.vms.create({ snapshotId }),
    freestyle.vms.create({ snapshotId, nics: [nic(true, { default: false })] }),
  ]);

  assert.doesNotMatch(await sh(without.vm, "hostname -I"), /192\.168\./);
  assert.equal(typeof (await ask(without.vm, WORKER)), "number");
  const addresses = (await sh(within.vm, "hostname -I")).trim().split(" ");
  const [own] = addresses.filter((address) => address.startsWith("192.168.10."));
  assert.equal(addresses.filter((address) => address.startsWith("192.168.")).length, 1);
  assert.notEqual(own, API);
  assert.equal(await ask(within.vm, WORKER), own);
  assert.match(await sh(within.vm, "ip route get 192.0.2.1"), /src 10\.0\.0\.2 /);
});

test("a NIC that makes no sense is refused with its reason", async () => {
  const { freestyle: stranger } = await account("stranger");
  const foreign = { nics: [nic("192.168.10.99")] };
  await assert.rejects(stranger.vms.create(foreign), failsWith("CREATE_VM_BAD_REQUEST"));
  const refused = [
    [nic(API)],
    [nic("192.168.10.0")],
    [nic("192.168.11.1")],
    [nic("nonsense")],
    [nic(false)],
    [nic(true, { backend: "vlan" })],
    [nic(true), nic(true)],
    [{ ...nic(true), vpc: "vpc-abcdefghij0123456789" }],
  ];
  for (const nics of refused) {
    const create = freestyle.vms.create({ nics });
    await assert.rejects(create, failsWith("CREATE_VM_BAD_REQUEST"), JSON.stringify(nics));
  }
});

test("a VPC that makes no sense is refused, and a foreign one is none", async () => {
  for (const cidr of ["", "8.8.8.0/24", "192.168.10.1/24", "10.0.0.0/30"]) {
    await assert.rejects(freestyle.vpc.create({ cidr }), /400/, cidr);
  }
  const { freestyle: stranger } = await account("stranger");
  const theirs = (await stranger.vpc.create()).vpc;
  const session = await theirs.wireguard.createEphemeral();
  await assert.rejects(
    vpc.wireguard.deleteEphemeral({ sessionId: "nonsense" }),
    /400/,
  );
  // Nothing is closed through another VPC.
  await vpc.wireguard.deleteEphemeral({ sessionId: session.sessionId });
  await session.close();
});
