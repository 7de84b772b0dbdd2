// A certificate authority that speaks ACME: `pebble`.

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

export class Pebble {
  /** An authority that has an address and a certificate for its own server, and does not run yet. */
  static async prepare() {
    const pebble = new Pebble();
    pebble.port = await freePort();
    pebble.management = await freePort();
    pebble.directory = `https://127.0.0.1:${pebble.port}/dir`;
    pebble.dir = mkdtempSync(join(tmpdir(), "fse2e-acme-"));
    atExit(pebble.stop);
    pebble.certificate = join(pebble.dir, "own.pem");
    const config = join(pebble.dir, "openssl.cnf");
    // A server's certificate, which by default is made as one of an authority.
    writeFileSync(
      config,
      "[req]\ndistinguished_name=name\nx509_extensions=server\nprompt=no\n[name]\nCN=pebble\n" +
        "[server]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n",
    );
    const { code, stderr } = await run("openssl", [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
      ...["-keyout", join(pebble.dir, "own.key"), "-out", pebble.certificate, "-days", "2"],
      ...["-config", config],
    ]);
    assert.equal(code, 0, stderr);
    return pebble;
  }

  /** Runs it: it asks this DNS server where hosts are, and looks for proof at these ports of theirs. */
  async start({ dns, httpPort, httpsPort }) {
    const config = join(this.dir, "config.json");
    const pebble = {
      listenAddress: `127.0.0.1:${this.port}`,
      managementListenAddress: `127.0.0.1:${this.management}`,
      certificate: this.certificate,
      privateKey: join(this.dir, "own.key"),
      httpPort,
      tlsPort: httpsPort,
    };
    writeFileSync(config, JSON.stringify({ pebble }));
    this.process = spawn("pebble", ["-config", config, "-dnsserver", dns], {
      stdio: ["ignore", "pipe", "ignore"],
      env: { ...process.env, PEBBLE_VA_NOSLEEP: "1" },
    });
    const ended = once(this.process, "exit").then(() => assert.fail("pebble ended"));
    ended.catch(() => {});
    const ready = (async () => {
      for await (const line of createInterface(this.process.stdout))
        if (line.includes("ACME directory available")) return;
    })();
    await Promise.race([ready, ended]);
    this.process.stdout.resume();
  }

  /** A file with its root certificate. */
  async root() {
    const file = join(this.dir, "root.pem");
    const url = `https://127.0.0.1:${this.management}/roots/0`;
    const { code, stderr } = await run("curl", ["-sSfk", "--noproxy", "*", "-o", file, url]);
    assert.equal(code, 0, stderr);
    return file;
  }

  stop = () => {
    this.process?.kill("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.stop);
  };
}
