// What the benchmarks print, and how they look at the host.

import { readFileSync, readdirSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";

export const MIB = 1024 * 1024;

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export async function milliseconds(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** How busy the host is: what else runs on it shows in every figure. */
export const load = () => loadavg()[0].toFixed(1);

/** The machine, and the head of the table. */
export function head() {
  console.log(machine());
  console.log("\n| what | p50 | p95 | max | unit | runs |\n|---|---:|---:|---:|---|---:|");
}

/** What the figures are of. */
export function machine() {
  const cpu = readFileSync("/proc/cpuinfo", "utf8").match(/model name\s*: (.*)/)?.[1];
  const memory = `${Math.round(totalmem() / 1024 ** 3)} GiB`;
  return `${cpus().length} cores of ${cpu}, ${memory}, load ${load()}; Node ${process.version}`;
}

/** A line of the table. Answers its median. */
export function row(name, samples, unit = "ms") {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const shown = [at(0.5), at(0.95), sorted.at(-1)].map((value) => value.toFixed(value < 10 ? 1 : 0));
  console.log(`| ${name} | ${shown.join(" | ")} | ${unit} | ${samples.length} |`);
  return at(0.5);
}

/** Memory of a process in MiB: `Pss`, or `Rss`, which counts what it shares in full. */
export function memoryMib(pid, kind = "Pss") {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(rollup.match(new RegExp(`^${kind}:\\s+(\\d+)`, "m"))[1]) / 1024;
}

/** Follows what processes and their descendants have in memory; `stop` answers the most, in MiB. */
export function peakMemoryMib(roots) {
  let peak = 0;
  const look = () => {
    const total = family(roots).reduce((sum, pid) => {
      try {
        return sum + memoryMib(pid);
      } catch {
        return sum; // It has ended meanwhile.
      }
    }, 0);
    peak = Math.max(peak, total);
  };
  look();
  const timer = setInterval(look, 100);
  return {
    stop: () => {
      clearInterval(timer);
      return peak;
    },
  };
}

/** Processes and all their descendants. */
function family(roots) {
  const children = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), pid]);
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [...roots];
  for (const pid of found) found.push(...(children.get(pid) ?? []));
  return found;
}
