// Running a program and waiting for it.

import { spawn } from "node:child_process";
import { text } from "node:stream/consumers";

/**
 * Runs a program to its end, with `input` as its standard input. Never rejects because of its exit
 * code.
 *
 * `timeoutMs` kills a program that hangs, and rejects then.
 */
export async function run(program, args = [], { env, cwd, input, timeoutMs = 120_000 } = {}) {
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    cwd,
    stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    signal: AbortSignal.timeout(timeoutMs),
    killSignal: "SIGKILL",
  });
  // A program that ends without reading it has no use for it.
  child.stdin?.on("error", () => {});
  child.stdin?.end(input);
  const ended = new Promise((resolve, reject) => {
    child.once("error", (error) => {
      const hung = error.name === "AbortError";
      const what = hung ? `did not end within ${timeoutMs} ms` : error.message;
      reject(new Error(`${[program, ...args].join(" ")}: ${what}`));
    });
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  const [stdout, stderr, { code, signal }] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    ended,
  ]);
  return { code, signal, stdout, stderr };
}
