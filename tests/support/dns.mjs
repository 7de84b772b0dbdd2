// An authoritative DNS server of a zone of its own: `knotd`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit, forget } from "./cleanup.mjs";
import { freePort } from "./ports.mjs";
import { run } from "./process.mjs";

export class Knot {
  /** Serves `zone` with these records, in the form of a zone file, besides those that all have. */
  static async start(zone, records) {
    const knot = new Knot();
    const port = await freePort();
    Object.assign(knot, { zone, serial: 0, address: `127.0.0.1:${port}` });
    knot.dir = mkdtempSync(join(tmpdir(), "fse2e-dns-"));
    atExit(knot.stop);
    knot.configure(`zone:
  - domain: ${zone}
    storage: ${knot.dir}
    file: zone
`);
    knot.write(records);
    knot.process = spawn("knotd", ["--config", knot.config], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const ended = once(knot.process, "exit").then(() => assert.fail("knotd ended"));
    ended.catch(() => {});
    const log = createInterface(knot.process.stderr);
    const loaded = (async () => {
      for await (const line of log) if (/zone loaded|loaded, serial/.test(line)) return;
    })();
    await Promise.race([loaded, ended]);
    knot.process.stderr.resume();
    return knot;
  }

  get config() {
    return join(this.dir, "knot.conf");
  }

  write(records) {
    this.serial += 1;
    writeFileSync(
      join(this.dir, "zone"),
      `$ORIGIN ${this.zone}.\n$TTL 3600\n@ SOA ns admin ${this.serial} 3600 600 86400 3600\n` +
        `@ NS ns\nns A 127.0.0.1\n${records}\n`,
    );
  }

  configure(rest) {
    const server = `server:
    rundir: ${this.dir}
    listen: ${this.address.replace(":", "@")}
database:
    storage: ${this.dir}/db
log:
  - target: stderr
    any: info
`;
    writeFileSync(this.config, server + rest);
  }

  /** From now on says of all names what another server does, as if they were delegated to that. */
  async delegate(address) {
    this.configure(`remote:
  - id: other
    address: ${address.replace(":", "@")}
mod-dnsproxy:
  - id: default
    remote: other
template:
  - id: default
    global-module: mod-dnsproxy/default
`);
    const { code, stderr } = await run("knotc", ["--config", this.config, "--blocking", "reload"]);
    assert.equal(code, 0, stderr);
  }

  /** Replaces the records. Answers have changed when this resolves. */
  async replace(records) {
    this.write(records);
    const args = ["--config", this.config, "--blocking", "zone-reload", this.zone];
    const { code, stderr } = await run("knotc", args);
    assert.equal(code, 0, stderr);
  }

  stop = () => {
    this.process?.kill("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.stop);
  };
}
