// Sites in guests, and visiting them by the names that they are mapped to.

import assert from "node:assert/strict";
import dns from "node:dns";
import { readFileSync } from "node:fs";
import tls from "node:tls";

import { run } from "./process.mjs";
import { eventually, sh } from "./sdk.mjs";

const PROGRAM = readFileSync(new URL("site.pl", import.meta.url), "utf8");
const HTTP = new URL(process.env.E2E_EDGE_HTTP_URL);
const HTTPS = new URL(process.env.E2E_EDGE_HTTPS_URL);
/** The root certificate of the server's own authority. */
export const CA = process.env.E2E_CA_CERTIFICATE;

// No name server knows the names below `localhost`; browsers take them for this host.
const lookup = dns.lookup;
dns.lookup = (name, options, done) =>
  lookup(name.endsWith(".localhost") ? "127.0.0.1" : name, options, done);
tls.setDefaultCACertificates([...tls.getCACertificates("default"), readFileSync(CA, "utf8")]);

/** A preview domain that nobody has. */
export const preview = () => `t-${crypto.randomUUID().slice(0, 8)}.style.localhost`;

/** Where a path of a host is, for clients that resolve names as browsers do. */
export function at(host, path = "/", scheme = "https") {
  const { port } = scheme === "http" || scheme === "ws" ? HTTP : HTTPS;
  return `${scheme}://${host}:${port}${path}`;
}

/** Runs the web server of the tests in a guest, as a service that starts with it. */
export async function serveIn(vm, port = 3000) {
  await vm.fs.writeTextFile("/srv/site.pl", PROGRAM);
  const unit = `[Service]\nExecStart=/usr/bin/perl /srv/site.pl ${port}\nRestart=always\n[Install]\nWantedBy=multi-user.target\n`;
  await vm.fs.writeTextFile("/etc/systemd/system/site.service", unit);
  await sh(vm, "systemctl daemon-reload && systemctl enable -q --now site");
  await eventually("the site listens", async () => {
    const { statusCode } = await vm.exec(`curl -s -o /dev/null http://127.0.0.1:${port}/`);
    return statusCode === 0;
  });
}

/**
 * A guide's server: a file on a VM of its own, prepared by a command, run by systemd, on a domain that
 * leads to its port 3000.
 */
export async function startServer(freestyle, snapshotId, { name, file, prepare, execStart }) {
  const { vm: server, vmId } = await freestyle.vms.create({
    name,
    snapshotId,
    idleTimeoutSeconds: null,
  });
  await server.fs.writeTextFile(...file);
  if (prepare) await sh(server, prepare, 300_000);
  await server.fs.writeTextFile(
    `/etc/systemd/system/${name}.service`,
    `[Unit]
Description=HTTP server
After=network.target
[Service]
ExecStart=${execStart}
WorkingDirectory=/srv
Restart=always
Environment=HOME=/root
[Install]
WantedBy=multi-user.target
`,
  );
  await sh(server, `systemctl daemon-reload && systemctl enable --now ${name}`);
  await eventually("the server answers", async () => {
    const probe = await server.exec(
      "curl -s -o /dev/null -w '%{http_code}' http://localhost:3000 || true",
    );
    return probe.stdout?.trim() === "200";
  });
  const domain = preview();
  await freestyle.domains.mappings.create({ domain, vmId, vmPort: 3000 });
  return { server, domain };
}

/** Asks a server from outside of its VM: status and text. */
export async function ask(domain) {
  const res = await fetch(at(domain));
  return [res.status, await res.text()];
}

/** What curl gets: the text, the status and the protocol's version. */
export async function curl(host, path = "/", { scheme = "https", options = [] } = {}) {
  const { port } = scheme === "http" ? HTTP : HTTPS;
  const got = await visit(port, host, { path, scheme, options, ca: CA });
  assert.notEqual(got.status, 0, got.error);
  return got;
}

/** The same at a port of this host. The status is 0, and there is an error, if nobody answered. */
export async function visit(port, host, { path = "/", scheme = "https", options = [], ca }) {
  const { stdout, stderr } = await run("curl", [
    ...["--silent", "--show-error", "--max-time", "120", "--noproxy", "*", "--cacert", ca],
    ...["--connect-to", `::127.0.0.1:${port}`, "--write-out", "\n%{http_code} %{http_version}"],
    ...options,
    `${scheme}://${host}:${port}${path}`,
  ]);
  const at = stdout.lastIndexOf("\n");
  const [status, version] = stdout.slice(at + 1).split(" ");
  return { text: stdout.slice(0, at), status: Number(status), version, error: stderr };
}
