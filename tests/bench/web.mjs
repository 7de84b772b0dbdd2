// Load on web servers, and nginx as one.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { cpus } from "node:os";
import { join } from "node:path";

import { load } from "./report.mjs";

const SECONDS = Number(process.env.BENCH_SECONDS ?? 10);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);

/** What is asked for: names, and bytes of the answers' bodies. */
export const BODIES = [
  ["small", 100],
  ["1 MB", 1_000_000],
];

/** Resolves when something takes connections there. */
export async function listens(port, host) {
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

/** The command that runs nginx with this inside its `http`. It keeps its files in `dir`. */
export function nginx(dir, name, http) {
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

/** What nginx is told of the request that it passes on, as the edge tells it. */
export const FORWARDED = `proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $http_host;`;

/**
 * Requests per second, and the milliseconds in which 99 of 100 are answered. They may be for another
 * host than the one of the URL, and be made in another network namespace.
 */
export async function measure(url, connections, { host = new URL(url).host, namespace } = {}) {
  const threads = Math.min(cpus().length, connections);
  const wrk = ["wrk", "-t", threads, "-c", connections, "-d", `${SECONDS}s`, "--latency"];
  const prefix = namespace ? ["ip", "netns", "exec", namespace] : [];
  const [program, ...args] = [...prefix, ...wrk, "-H", `Host: ${host}`, url];
  const child = spawn(program, args.map(String), { stdio: ["ignore", "pipe", "inherit"] });
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  const [, rate] = text.match(/Requests\/sec:\s+([\d.]+)/) ?? [];
  const [, p99, unit] = text.match(/99%\s+([\d.]+)(us|ms|s)/) ?? [];
  if (!rate || /Non-2xx|Socket errors: (?!connect 0, read 0)/.test(text)) throw new Error(text);
  return { rate: Number(rate), p99: Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit] };
}

/** Prints the head of a table of `compare`. */
export function compareHead() {
  console.log("| request | edge, 1/s | nginx, 1/s | ratio | edge, p99 ms | nginx, p99 ms | load |");
  console.log("|---|---:|---:|---:|---:|---:|---:|");
}

/** Measures both, taking turns, so that whatever else the host does is with both; prints medians. */
export async function compare(name, edge, nginx) {
  const results = { edge: [], nginx: [] };
  for (let round = 0; round < ROUNDS; round++) {
    results.edge.push(await edge());
    results.nginx.push(await nginx());
  }
  const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
  const of = (who, what) => median(results[who].map((result) => result[what]));
  const [ours, theirs] = [of("edge", "rate"), of("nginx", "rate")];
  const rates = [ours.toFixed(0), theirs.toFixed(0), (ours / theirs).toFixed(2)];
  const times = [of("edge", "p99").toFixed(1), of("nginx", "p99").toFixed(1)];
  console.log(`| ${[name, ...rates, ...times, load()].join(" | ")} |`);
}
