// `cargo xtask up --once`: the quickstart of the documentation, word for word, against a server
// with a data directory of its own.

import assert from "node:assert/strict";

import { Server } from "./support/server.mjs";

const server = await Server.start();
process.env.FREESTYLE_API_URL = server.url;
process.env.FREESTYLE_API_KEY = server.apiKey;
console.log(`FREESTYLE_API_URL=${server.url}`);

const { freestyle } = await import("freestyle");
const { vm } = await freestyle.vms.create();
const result = await vm.exec("echo 'hello from freestyle'");
console.log(result);

assert.deepEqual(result, { stdout: "hello from freestyle\n", stderr: "", statusCode: 0 });
await vm.delete();
await server.stopAndCheckNothingIsLeft();
