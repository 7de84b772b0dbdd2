// The documentation's guide that drives an agent over a private network ("How to Run GitHub Copilot in
// a Sandbox"): JSON-RPC on a raw TCP port of a VM, called from another VM of its VPC and from a laptop
// over the VPN. The agent itself needs an account elsewhere: a service that frames the same way, and
// runs the same kind of tool, stands in for it.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Laptop } from "../support/laptop.mjs";
import { fileAccount, sh } from "../support/sdk.mjs";

const { freestyle } = await fileAccount("guide private");
/** For a Node to start: the guest is emulated. */
const START_LIMIT_MS = 120_000;
const connectionToken = "a-long-random-shared-secret";

const FRAMES = `
export const frame = (message) => {
  const body = Buffer.from(JSON.stringify(message));
  return Buffer.concat([Buffer.from(\`Content-Length: \${body.length}\\r\\n\\r\\n\`), body]);
};
export const onMessage = (socket, handle) => {
  let pending = Buffer.alloc(0);
  socket.on("data", (data) => {
    pending = Buffer.concat([pending, data]);
    for (;;) {
      const end = pending.indexOf("\\r\\n\\r\\n");
      if (end < 0) return;
      const from = end + 4;
      const to = from + Number(/Content-Length: (\\d+)/.exec(pending.subarray(0, end))[1]);
      if (pending.length < to) return;
      handle(JSON.parse(pending.subarray(from, to)));
      pending = pending.subarray(to);
    }
  });
};
`;
const SERVER = `
import { execSync } from "node:child_process";
import { createServer } from "node:net";
import { frame, onMessage } from "./frames.mjs";
createServer((socket) => {
  socket.on("error", () => {});
  onMessage(socket, ({ id, params: { token, command } }) => {
    const answer = token === process.env.CONNECTION_TOKEN
      ? { result: execSync(command, { encoding: "utf8", maxBuffer: 1 << 26 }) }
      : { error: { code: -32001, message: "no such client" } };
    socket.write(frame({ jsonrpc: "2.0", id, ...answer }));
  });
}).listen(4321, "0.0.0.0");
`;
const CLIENT = `
import { connect } from "node:net";
import { frame, onMessage } from "./frames.mjs";
const [address, command] = process.argv.slice(2);
const socket = connect(4321, address);
const token = process.env.CONNECTION_TOKEN;
socket.write(frame({ jsonrpc: "2.0", id: 1, method: "shell", params: { token, command } }));
onMessage(socket, ({ result, error }) => {
  socket.end();
  process.stdout.write(error ? error.message : result);
});
`;

let vpcId, vpc, agent, snapshotId;

before(async () => {
  ({ vpcId, vpc } = await freestyle.vpc.create({ name: "copilot-vpc", cidr: "192.168.10.0/24" }));
  ({ vm: agent } = await freestyle.vms.create({
    name: "copilot-agent",
    idleTimeoutSeconds: null,
    nics: [{ default: true, vpc: vpcId, mode: "routed", ipv4: "192.168.10.10" }],
  }));
  await sh(agent, "apt-get install -y nodejs");
  ({ snapshotId } = await agent.snapshot());

  await sh(agent, "mkdir -p /root/app");
  await agent.fs.writeTextFile("/root/app/frames.mjs", FRAMES);
  await agent.fs.writeTextFile("/root/app/server.mjs", SERVER);
  await agent.fs.writeTextFile("/etc/copilot.env", `CONNECTION_TOKEN=${connectionToken}\n`);
  await agent.exec("chmod 600 /etc/copilot.env");
  await agent.fs.writeTextFile(
    "/etc/systemd/system/copilot.service",
    `[Service]
Environment=HOME=/root
EnvironmentFile=/etc/copilot.env
ExecStart=/usr/bin/node /root/app/server.mjs
WorkingDirectory=/root
Restart=always
[Install]
WantedBy=multi-user.target`,
  );
  await agent.exec("systemctl daemon-reload && systemctl enable --now copilot");
  const check =
    `node -e "const s=require('net').connect(4321,'127.0.0.1');` +
    `s.on('connect',()=>{console.log('OPEN');process.exit(0)});` +
    `s.on('error',()=>process.exit(1))"`;
  for (let i = 0; i < 20; i++) {
    const r = await agent.exec({ command: check, timeoutMs: START_LIMIT_MS });
    if (r.stdout?.includes("OPEN")) return;
    await agent.exec("sleep 2");
  }
  assert.fail("the service does not serve");
});

test("another VM of the VPC drives it", async () => {
  const { vm: peer } = await freestyle.vms.create({
    name: "copilot-peer",
    snapshotId,
    idleTimeoutSeconds: null,
    nics: [{ default: true, vpc: vpcId, mode: "routed", ipv4: "192.168.10.11" }],
  });
  await sh(peer, "mkdir -p /root/app");
  await peer.fs.writeTextFile("/root/app/frames.mjs", FRAMES);
  await peer.fs.writeTextFile("/root/app/client.mjs", CLIENT);
  const drive = async (token) =>
    await peer.exec({
      command: `cd /root/app && CONNECTION_TOKEN='${token}' node client.mjs 192.168.10.10 hostname`,
      timeoutMs: 180_000,
    });
  assert.equal((await drive(connectionToken)).stdout, await sh(agent, "hostname"));
  assert.equal((await drive("a guess")).stdout, "no such client");
});

test("a laptop drives it over the VPN, until the session is closed", async () => {
  const dir = mkdtempSync(join(tmpdir(), "fse2e-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  writeFileSync(join(dir, "frames.mjs"), FRAMES);
  writeFileSync(join(dir, "client.mjs"), CLIENT);
  const laptop = await Laptop.start();
  after(laptop.stop);
  const connection = await vpc.wireguard.createEphemeral();
  await laptop.up(connection.clientConfig);
  const drive = (command) =>
    laptop.run(
      ...["env", `CONNECTION_TOKEN=${connectionToken}`, "timeout", "60", process.execPath],
      ...[join(dir, "client.mjs"), "192.168.10.10", command],
    );
  assert.equal((await drive("hostname")).stdout, await sh(agent, "hostname"));
  // More than fits into any packet or buffer on the way.
  const { stdout } = await drive("seq 1 500000");
  assert.equal(stdout.split("\n").length, 500_001);
  assert(stdout.endsWith("\n500000\n"));

  await connection.close();
  assert.notEqual((await drive("hostname")).code, 0);
  await laptop.down();
});
