// The part of `cargo xtask bench pty` that is about SSH: what it costs through the gateway, next to
// OpenSSH that goes straight to the same guest, from inside its network namespace.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { SshClient } from "../support/ssh.mjs";
import { milliseconds, row } from "./report.mjs";

const RUNS = Number(process.env.BENCH_RUNS ?? 5);
const SSH_MIB = Number(process.env.BENCH_SSH_MIB ?? 50);
const GUEST = "10.0.0.2";
const LIMIT_MS = 600_000;

/** The gateway's way and the straight one into a VM, as command lines that a command is added to. */
export async function sshWays(server, freestyle, { vm, vmId }) {
  const ssh = await SshClient.create(server.apiKey, {
    baseUrl: server.url,
    address: server.sshAddress,
  });
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId });
  const { token } = await identity.tokens.create();
  const login = `${vmId}:${token}`;

  const key = ssh.file("key");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  await vm.fs.writeTextFile("/root/.ssh/authorized_keys", readFileSync(`${key}.pub`, "utf8"));
  const { vmInstanceId } = await vm.getInfo();
  const options = ["-F", "/dev/null", "-i", key, "-o", "StrictHostKeyChecking=no"];
  options.push("-o", `UserKnownHostsFile=${join(ssh.dir, "straight_hosts")}`, "-o", "LogLevel=ERROR");
  // The same cipher: what is compared is the way.
  options.push("-c", "aes128-gcm@openssh.com");
  const straight = ["netns", "exec", `fs-${vmInstanceId}`, "ssh", ...options, `root@${GUEST}`];
  const ways = {
    "by SSH through the gateway": ["ssh", ...ssh.options(login), "vm"],
    "peer: OpenSSH straight to the guest": ["ip", ...straight],
  };
  // The first connection makes the guest's host key.
  for (const way of Object.values(ways)) await succeeds(way, "true");
  return ways;
}

/** Runs a command and throws its output away. */
async function succeeds([program, ...args], command) {
  const stdio = ["ignore", "ignore", "inherit"];
  const child = spawn(program, [...args, command], { stdio, signal: AbortSignal.timeout(LIMIT_MS) });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`${command}: exit code ${code}`);
}

/** Prints rows about logins and throughput of one VM that runs, by each of `sshWays`. */
export async function benchSsh(vm, ways) {
  const bytes = SSH_MIB * 1024 * 1024;
  await vm.exec({ command: `head -c ${bytes} /dev/urandom > /dev/shm/data`, timeoutMs: LIMIT_MS });
  const entries = Object.entries(ways);
  const [logins, rates] = [new Map(), new Map()];
  // In turns, so that what else the host does is the same for both.
  for (let turn = 0; turn < RUNS; turn++) {
    for (const [name, way] of entries) {
      const login = await milliseconds(() => succeeds(way, "true"));
      const read = await milliseconds(() => succeeds(way, "cat /dev/shm/data"));
      logins.set(name, [...(logins.get(name) ?? []), login]);
      rates.set(name, [...(rates.get(name) ?? []), SSH_MIB / ((read - login) / 1000)]);
    }
  }
  for (const [name, samples] of logins) row(`log in and run \`true\`, ${name}`, samples);
  for (const [name, samples] of rates) {
    row(`\`cat\` of ${SSH_MIB} MiB without a terminal, ${name}`, samples, "MiB/s");
  }
}
