// OpenSSH's clients, which know the gateway by the key that the API tells.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { atExit } from "./cleanup.mjs";
import { run } from "./process.mjs";
import { API_URL, sh } from "./sdk.mjs";

/** A guest that boots in software emulation on a busy host takes its time. */
const LIMIT_MS = 300_000;

/**
 * Makes logins cheaper in a guest of the tests: in software emulation half of what one costs is the
 * session that systemd keeps of it, which these tests are not about.
 */
export function withoutSystemdSessions(vm) {
  return sh(vm, "sed -i '/pam_systemd/d' /etc/pam.d/common-session");
}

/** Clients that log in with one account's tokens. */
export class SshClient {
  /** `apiKey` is any key of the server. */
  static async create(apiKey, { baseUrl = API_URL, address = process.env.E2E_SSH_ADDRESS } = {}) {
    const headers = { authorization: `Bearer ${apiKey}` };
    const answer = await fetch(`${baseUrl}/v1/ssh`, { headers });
    assert.equal(answer.status, 200);
    const { hostKey, port } = await answer.json();
    assert.equal(address.split(":").at(-1), `${port}`);
    return new SshClient(address, hostKey);
  }

  constructor(address, hostKey) {
    const [host, port] = address.split(":");
    this.dir = mkdtempSync(join(tmpdir(), "fse2e-ssh-"));
    atExit(() => rmSync(this.dir, { recursive: true, force: true }));
    writeFileSync(join(this.dir, "known_hosts"), `freestyle-vm ${hostKey}\n`);
    const config = [
      "Host vm",
      `HostName ${host}`,
      `Port ${port}`,
      "HostKeyAlias freestyle-vm",
      `UserKnownHostsFile ${this.dir}/known_hosts`,
      "GlobalKnownHostsFile /dev/null",
      "StrictHostKeyChecking yes",
      "IdentityFile none",
      "BatchMode yes",
    ];
    writeFileSync(join(this.dir, "config"), `${config.join("\n")}\n`);
  }

  /** A file in this client's own folder. */
  file(name) {
    return join(this.dir, name);
  }

  options(login) {
    return ["-F", this.file("config"), "-o", `User=${login}`];
  }

  /** Runs a client to its end; the host is `vm` among its arguments. */
  run(program, login, args, options = {}) {
    return run(program, [...this.options(login), ...args], { timeoutMs: LIMIT_MS, ...options });
  }

  /** Runs a client that must succeed; answers what it printed. */
  async succeeds(program, login, args, options) {
    const { code, stdout, stderr } = await this.run(program, login, args, options);
    assert.equal(code, 0, `${program} ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** Runs a command in the VM; it must succeed. */
  sh(login, command, options) {
    return this.succeeds("ssh", login, ["vm", command], options);
  }

  /** Starts a client that stays; whoever started it ends it. */
  start(login, args) {
    const child = spawn("ssh", [...this.options(login), ...args], { stdio: "pipe" });
    atExit(() => child.kill("SIGKILL"));
    child.messages = text(child.stderr);
    return child;
  }
}
