// Runs the end-to-end suites: `node_modules/.bin/node run.mjs [test file...]`.
//
// Starts a server, runs the tests with the addresses of it in their environment, and ends with an
// error if a test failed or if anything is left on the host. Needs root, like the server. The guides
// have a server of their own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { Server } from "./support/server.mjs";

const TEST_LIMIT_MS = 1_800_000;
/** The guests are emulated: more at a time are not faster. */
const FILES_AT_A_TIME = 2;

/** What takes longest begins first, so that it does not go on alone in the end. */
const FOLDERS = [".", "ssh", "sdk", "cli", "edge", "git", "guides"];
/** What an emulated guest would install for many minutes, the image of the guides' server has. */
const GUIDES_PACKAGES = "gccgo,nodejs,postgresql,python3,python3-terminado,redis-server";
// Servers of tests that are told of pushes, or imported from, are on the loopback.
const ENV = { FREESTYLE_ALLOW_TARGET: "127.0.0.0/8" };

const named = process.argv.slice(2).map((file) => resolve(file));
const all = FOLDERS.flatMap((folder) =>
  globSync(`${folder}/*.test.mjs`, { cwd: import.meta.dirname }).map((file) =>
    join(import.meta.dirname, file),
  ),
);
const files = named.length > 0 ? named : all;
const isGuide = (file) => basename(dirname(file)) === "guides";

await runTests(files.filter((file) => !isGuide(file)), ENV);
await runTests(files.filter(isGuide), { ...ENV, FREESTYLE_PACKAGE: GUIDES_PACKAGES });

/** Runs these files on a server with this environment. Ends the process if a test fails. */
async function runTests(files, env) {
  if (files.length === 0) return;
  const server = await Server.start({ env });
  const tests = spawn(
    process.execPath,
    [
      "--test",
      "--test-reporter=spec",
      // A test that failed may have left a terminal or a server open.
      "--test-force-exit",
      `--test-concurrency=${FILES_AT_A_TIME}`,
      `--test-timeout=${TEST_LIMIT_MS}`,
      ...files,
    ],
    {
      stdio: "inherit",
      env: {
        ...process.env,
        FREESTYLE_API_URL: server.url,
        FREESTYLE_API_KEY: server.apiKey,
        E2E_GIT_URL: server.gitUrl,
        E2E_DATA_DIR: server.dataDir,
        E2E_SSH_ADDRESS: server.sshAddress,
        E2E_EDGE_HTTP_URL: server.edgeHttpUrl,
        E2E_EDGE_HTTPS_URL: server.edgeHttpsUrl,
        E2E_CA_CERTIFICATE: server.caCertificate,
      },
    },
  );
  const endTests = () => tests.kill("SIGTERM");
  process.once("exit", endTests);
  const [code] = await once(tests, "exit");
  process.off("exit", endTests);
  if (code !== 0) {
    console.error(server.logTail());
    process.exit(1); // Which also removes the server and whatever VMs it has.
  }
  await server.stopAndCheckNothingIsLeft();
}
