// The second part of `cargo xtask bench net`: requests to a service in a guest, through the server as
// it is and through nginx beside it in the network namespace of the VM. Prints figures, judges none.

import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Freestyle } from "freestyle";

import { atExit } from "../support/cleanup.mjs";
import { processes } from "../support/host.mjs";
import { Server } from "../support/server.mjs";
import { machine, pause } from "./report.mjs";
import { BODIES, FORWARDED, compare, compareHead, measure, nginx } from "./web.mjs";

const CONNECTIONS = 8;
const DOMAIN = "bench.style.localhost";
const PORT = 3000;
/** Answers `/<bytes>`, on connections that stay open. */
const SERVICE = `
use strict; use warnings; use IO::Socket::INET; use Socket qw(IPPROTO_TCP TCP_NODELAY);
my $server = IO::Socket::INET->new(LocalPort => ${PORT}, Listen => 128, ReuseAddr => 1) or die $!;
$SIG{CHLD} = "IGNORE";
while (1) {
  my $client = $server->accept or next;
  if (fork) { close $client; next }
  setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
  local $/ = "\\r\\n\\r\\n";
  while (my $asked = <$client>) {
    my ($bytes) = $asked =~ m{^GET /(\\d+) } or exit;
    print $client "HTTP/1.1 200 OK\\r\\nContent-Length: $bytes\\r\\n\\r\\n" . "x" x $bytes;
    $client->flush;
  }
  exit;
}
`;

const server = await Server.start({ poolSize: 0 });
const freestyle = new Freestyle({ baseUrl: server.url, apiKey: server.apiKey });
const { vm } = await freestyle.vms.create({
  vcpuCount: 2,
  memSizeGb: 2,
  idleTimeoutSeconds: null,
  domains: [{ domain: DOMAIN, vmPort: PORT }],
});
await vm.fs.writeTextFile("/srv/service.pl", SERVICE);
await vm.exec("systemd-run --quiet perl /srv/service.pl");
const isUp = `curl -sf -o /dev/null http://127.0.0.1:${PORT}/1`;
while ((await vm.exec(isUp)).statusCode !== 0) await pause(100);

const dir = mkdtempSync(join(tmpdir(), "fsnet-"));
const [instance] = processes(server.dataDir).keys();
const namespace = `fs-${instance}`;
const inside = (...command) => ["netns", "exec", namespace, ...command];
// Such a namespace has no loopback, and lets nobody in.
execFileSync("ip", ["-n", namespace, "link", "set", "lo", "up"]);
for (const rule of ["antispoof iif lo", "input iif lo", "output oif lo"]) {
  const nft = ["nft", ..."insert rule ip freestyle".split(" "), ...rule.split(" "), "accept"];
  execFileSync("ip", inside(...nft));
}
const command = nginx(
  dir,
  "peer",
  `upstream site { server 10.0.0.2:${PORT}; keepalive 128; }
   server { listen 127.0.0.1:80; location / { proxy_pass http://site; ${FORWARDED} } }`,
);
const peer = spawn("ip", inside(...command), { stdio: ["ignore", "ignore", "inherit"] });
atExit(() => {
  peer.kill("SIGTERM");
  rmSync(dir, { recursive: true, force: true });
});
const isThere = inside("curl", "-sf", "-o", "/dev/null", "http://127.0.0.1/1");
while (spawnSync("ip", isThere).status !== 0) await pause(20);

console.log(`${machine()}\n`);
compareHead();
for (const [body, bytes] of BODIES) {
  const ours = `${server.edgeHttpUrl.replace("localhost", "127.0.0.1")}/${bytes}`;
  const theirs = `http://127.0.0.1/${bytes}`;
  await compare(
    `http, ${body} from a guest, ${CONNECTIONS} connections`,
    () => measure(ours, CONNECTIONS, { host: DOMAIN }),
    () => measure(theirs, CONNECTIONS, { host: DOMAIN, namespace }),
  );
}
peer.kill("SIGTERM");
await vm.delete();
await server.stopAndCheckNothingIsLeft();
process.exit(0);
