// `cargo xtask bench net`: requests through the edge, next to nginx as the proxy of the same server,
// which is in a network namespace of its own as guests are. Prints figures, judges none.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit } from "../support/cleanup.mjs";
import { freePort } from "../support/ports.mjs";
import { machine } from "./report.mjs";
import { BODIES, FORWARDED, compare, compareHead, listens, measure, nginx } from "./web.mjs";

const CONNECTIONS = (process.env.BENCH_CONNECTIONS ?? "16,128").split(",").map(Number);
const PROXY = process.env.BENCH_EDGE ?? "target/release/examples/proxy";
/** Of the range that is for benchmarks (RFC 2544). */
const [OURS, THEIRS] = ["198.18.77.1", "198.18.77.2"];
const HOST = "localhost";
/** Upgraded connections that are open and say nothing. */
const SOCKETS = 1000;
const ECHOES = 2000;

const dir = mkdtempSync(join(tmpdir(), "fsnet-"));
const namespace = `fsnet-${process.pid}`;
const [outside, inside] = [`fsn${process.pid}a`, `fsn${process.pid}b`];
const children = [];
atExit(() => {
  // Which nginx passes on to its workers.
  for (const child of children) child.kill("SIGTERM");
  ip("link", "del", outside);
  ip("netns", "del", namespace);
  rmSync(dir, { recursive: true, force: true });
});

function ip(...args) {
  execFileSync("ip", args, { stdio: "ignore" });
}

function start(program, args) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  return child;
}

/** A server of files, where a guest would be. */
async function startServer() {
  ip("netns", "add", namespace);
  ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace);
  ip("addr", "add", `${OURS}/30`, "dev", outside);
  ip("link", "set", outside, "up");
  ip("-n", namespace, "addr", "add", `${THEIRS}/30`, "dev", inside);
  ip("-n", namespace, "link", "set", inside, "up");
  for (const [name, bytes] of BODIES) {
    writeFileSync(join(dir, name.replace(" ", "")), Buffer.alloc(bytes, "x"));
  }
  const command = nginx(dir, "server", `server { listen 80; root ${dir}; }`);
  start("ip", ["netns", "exec", namespace, ...command]);
  await listens(80, THEIRS);
  start("ip", ["netns", "exec", namespace, process.execPath, "--eval", REPEATS]);
  await listens(81, THEIRS);
}

/** A server that agrees to go on with another protocol, in which it repeats what it hears. */
const REPEATS = `
  require("node:http").createServer().on("upgrade", (_, socket) => {
    socket.write("HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: repeat\\r\\n\\r\\n");
    socket.setNoDelay(true).on("error", () => {}).pipe(socket);
  }).listen(81);
`;

async function startEdge(port = 80) {
  const child = start(PROXY, [`${THEIRS}:${port}`, join(dir, `edge${port}`)]);
  const [line] = await once(createInterface(child.stdout), "line");
  return { ...JSON.parse(line), pids: [child.pid] };
}

async function startPeer() {
  const [http, https] = [await freePort(), await freePort()];
  const [key, certificate] = [join(dir, "peer.key"), join(dir, "peer.pem")];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"].concat(
      ["-keyout", key, "-out", certificate, "-subj", `/CN=${HOST}`, "-days", "1"],
    ),
    { stdio: "ignore" },
  );
  const command = nginx(
    dir,
    "peer",
    `upstream site { server ${THEIRS}:80; keepalive 128; }
     ssl_certificate ${certificate}; ssl_certificate_key ${key};
     server {
       listen 127.0.0.1:${http}; listen 127.0.0.1:${https} ssl;
       location / {
         proxy_pass http://site; ${FORWARDED}
       }
       location /repeat {
         proxy_pass http://${THEIRS}:81; proxy_http_version 1.1; proxy_read_timeout 1h;
         proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade;
       }
     }`,
  );
  const { pid } = start(command[0], command.slice(1));
  await listens(https, "127.0.0.1");
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8");
  return { http, https, pids: [pid, ...children.trim().split(" ").map(Number)] };
}

/** What these processes have of memory for themselves, in KiB. */
function memory(pids) {
  const own = (pid) => {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(text.match(/^Private_Dirty:\s+(\d+)/m)[1]);
  };
  return pids.map(own).reduce((a, b) => a + b);
}

/** Opens connections that go on with another protocol, and has some of them say something. */
async function sockets({ http, pids }) {
  const before = memory(pids);
  const began = performance.now();
  const open = async () => {
    const socket = connect(http, "127.0.0.1").setNoDelay(true);
    socket.write(
      `GET /repeat HTTP/1.1\r\nHost: ${HOST}\r\nConnection: upgrade\r\nUpgrade: repeat\r\n\r\n`,
    );
    const [head] = await once(socket, "data");
    if (!`${head}`.startsWith("HTTP/1.1 101")) throw new Error(`${head}`);
    return socket;
  };
  const all = [];
  for (let n = 0; n < SOCKETS; n += 50) {
    all.push(...(await Promise.all(Array.from({ length: 50 }, open))));
  }
  const opened = (performance.now() - began) / SOCKETS;
  const each = (memory(pids) - before) / SOCKETS;
  const times = [];
  for (let n = 0; n < ECHOES; n++) {
    const socket = all[(n * 7919) % all.length];
    const said = performance.now();
    socket.write("hello");
    await once(socket, "data");
    times.push(performance.now() - said);
  }
  times.sort((a, b) => a - b);
  for (const socket of all) socket.destroy();
  const [p50, p99] = [0.5, 0.99].map((part) => times[Math.floor(times.length * part)]);
  return [opened.toFixed(2), each.toFixed(0), p50.toFixed(2), p99.toFixed(2)];
}

await startServer();
const edge = await startEdge();
const peer = await startPeer();
console.log(`${machine()}\n`);
compareHead();
for (const scheme of ["http", "https"]) {
  for (const [body] of BODIES) {
    for (const connections of CONNECTIONS) {
      const load = ({ [scheme]: port }) => () =>
        measure(`${scheme}://${HOST}:${port}/${body.replace(" ", "")}`, connections);
      const name = `${scheme}, ${body}, ${connections} connections`;
      await compare(name, load(edge), load(peer));
    }
  }
}

console.log(`\n| ${SOCKETS} upgraded connections | to open one, ms | KiB for one | echo, p50 ms | p99 ms |`);
console.log("|---|---:|---:|---:|---:|");
console.log(`| edge | ${(await sockets(await startEdge(81))).join(" | ")} |`);
console.log(`| nginx | ${(await sockets(peer)).join(" | ")} |`);
process.exit(0);
