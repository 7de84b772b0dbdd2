// `cargo xtask bench net`: requests through the edge, next to nginx as the proxy of the same server,
// which is in a network namespace of its own as guests are. Prints figures, judges none.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit } from "../support/cleanup.mjs";
import { load, machine } from "./report.mjs";

const SECONDS = Number(process.env.BENCH_SECONDS ?? 10);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const CONNECTIONS = (process.env.BENCH_CONNECTIONS ?? "16,128").split(",").map(Number);
const PROXY = process.env.BENCH_EDGE ?? "target/release/examples/proxy";
/** Of the range that is for benchmarks (RFC 2544). */
const [OURS, THEIRS] = ["198.18.77.1", "198.18.77.2"];
const HOST = "localhost";
/** Upgraded connections that are open and say nothing. */
const SOCKETS = 1000;
const ECHOES = 2000;
const BODIES = [
  ["small", 100],
  ["1 MB", 1_000_000],
];

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

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Resolves when something takes connections there. */
async function listens(port, host) {
  for (;;) {
    const socket = connect(port, host);
    const up = await Promise.race([
      once(socket, "connect").then(() => true),
      once(socket, "error").then(() => false),
    ]).catch(() => false);
    socket.destroy();
    if (up) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function nginx(name, http) {
  const config = join(dir, `${name}.conf`);
  writeFileSync(
    config,
    `daemon off; user root; worker_processes ${cpus().length}; pid ${dir}/${name}.pid; error_log ${dir}/${name}.log;
     events { worker_connections 4096; }
     http {
       access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000;
       client_body_temp_path ${dir}/${name}-body; proxy_temp_path ${dir}/${name}-proxy;
       fastcgi_temp_path ${dir}/${name}-f; uwsgi_temp_path ${dir}/${name}-u; scgi_temp_path ${dir}/${name}-s;
       ${http}
     }`,
  );
  return ["nginx", "-p", dir, "-c", config];
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
  const command = nginx("server", `server { listen 80; root ${dir}; }`);
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
    "peer",
    `upstream site { server ${THEIRS}:80; keepalive 128; }
     ssl_certificate ${certificate}; ssl_certificate_key ${key};
     server {
       listen 127.0.0.1:${http}; listen 127.0.0.1:${https} ssl;
       location / {
         proxy_pass http://site; proxy_http_version 1.1; proxy_set_header Connection "";
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
         proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;
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

/** Requests per second, and the milliseconds in which 99 of 100 are answered. */
async function measure(scheme, port, path, connections) {
  const threads = Math.min(cpus().length, connections);
  const args = ["-t", threads, "-c", connections, "-d", `${SECONDS}s`, "--latency"];
  const child = spawn("wrk", [...args, `${scheme}://${HOST}:${port}/${path}`].map(String), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  const [, rate] = text.match(/Requests\/sec:\s+([\d.]+)/) ?? [];
  const [, p99, unit] = text.match(/99%\s+([\d.]+)(us|ms|s)/) ?? [];
  if (!rate || /Non-2xx|Socket errors: (?!connect 0, read 0)/.test(text)) throw new Error(text);
  return { rate: Number(rate), p99: Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit] };
}

const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];

await startServer();
const edge = await startEdge();
const peer = await startPeer();
console.log(`${machine()}\n`);
console.log("| request | edge, 1/s | nginx, 1/s | ratio | edge, p99 ms | nginx, p99 ms | load |");
console.log("|---|---:|---:|---:|---:|---:|---:|");
for (const scheme of ["http", "https"]) {
  for (const [body] of BODIES) {
    for (const connections of CONNECTIONS) {
      const results = { edge: [], nginx: [] };
      // Taking turns, so that whatever else the host does is with both.
      for (let round = 0; round < ROUNDS; round++) {
        const path = body.replace(" ", "");
        results.edge.push(await measure(scheme, edge[scheme], path, connections));
        results.nginx.push(await measure(scheme, peer[scheme], path, connections));
      }
      const of = (who, what) => median(results[who].map((result) => result[what]));
      const [ours, theirs] = [of("edge", "rate"), of("nginx", "rate")];
      const cells = [
        `${scheme}, ${body}, ${connections} connections`,
        ours.toFixed(0),
        theirs.toFixed(0),
        (ours / theirs).toFixed(2),
        of("edge", "p99").toFixed(1),
        of("nginx", "p99").toFixed(1),
        load(),
      ];
      console.log(`| ${cells.join(" | ")} |`);
    }
  }
}

console.log(`\n| ${SOCKETS} upgraded connections | to open one, ms | KiB for one | echo, p50 ms | p99 ms |`);
console.log("|---|---:|---:|---:|---:|");
console.log(`| edge | ${(await sockets(await startEdge(81))).join(" | ")} |`);
console.log(`| nginx | ${(await sockets(peer)).join(" | ")} |`);
process.exit(0);
