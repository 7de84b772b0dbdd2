// The documentation's client session where it is meant to be: a web page of some product, in a real
// browser, uses a VM with a token of its own through the unmodified SDK.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { API_URL, fileAccount, session, SMALL } from "../support/sdk.mjs";

const LIMIT_MS = 120_000;
const SDK = readFileSync(fileURLToPath(import.meta.resolve("freestyle")));
const { freestyle, key } = await fileAccount("browser");

/** What a bundler does for the page: the SDK imports `path`, which browsers have not. */
const IMPORTS = {
  freestyle: "/sdk.mjs",
  path: "data:text/javascript,export default {}",
};

/** How the page makes its client. The SDK calls `fetch` as a method of its own, which browsers refuse. */
const client = (options) =>
  `new Freestyle({ ...${JSON.stringify({ ...options, baseUrl: API_URL })}, fetch: fetch.bind(window) })`;

/** Runs the text of a module in a page of its own origin; answers what it makes of `work`. */
async function inBrowser(work) {
  const page = `<!doctype html><title>A product</title>
    <script>globalThis.process = { env: {} }</script>
    <script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>
    <script type="module">
      const work = async () => { ${work} };
      const result = await work().catch((error) => ({ error: String(error) }));
      await fetch("/result", { method: "POST", body: JSON.stringify(result) });
    </script>`;
  const types = { "/": "text/html", "/sdk.mjs": "text/javascript" };
  const { promise, resolve } = Promise.withResolvers();
  const server = createServer(async (request, response) => {
    if (request.url === "/result") resolve(await json(request));
    response.setHeader("content-type", types[request.url] ?? "text/plain");
    response.end(request.url === "/sdk.mjs" ? SDK : request.url === "/" ? page : "");
  }).listen(0, "127.0.0.1");
  await once(server, "listening");

  const profile = mkdtempSync(join(tmpdir(), "fse2e-browser-"));
  const { port } = server.address();
  const browser = spawn(
    "chromium",
    ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${profile}`, `http://127.0.0.1:${port}/`],
    { stdio: "ignore" },
  );
  const limit = setTimeout(() => resolve({ error: "the page said nothing" }), LIMIT_MS);
  try {
    return await promise;
  } finally {
    clearTimeout(limit);
    browser.kill();
    await once(browser, "exit");
    server.close();
    server.closeAllConnections();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

test("a web page operates the VM it was given, and nothing else", async () => {
  const { vm, vmId } = await freestyle.vms.create(SMALL);
  after(() => vm.delete());
  const { identity } = await freestyle.identities.create();
  await identity.permissions.vms.grant({ vmId });
  const { token } = await identity.tokens.create();

  const result = await inBrowser(`
    const { Freestyle } = await import("freestyle");
    const freestyle = ${client({ accessToken: token })};
    const { vm } = await freestyle.vms.get({ vmId: "${vmId}" });
    const { stdout } = await vm.exec("pwd; echo hello | tee /srv/from-a-page");
    const refused = await freestyle.vms.create().then(() => "created", (error) => error.name);
    return { stdout, refused };
  `);
  assert.equal(result.error, undefined);
  assert.equal(result.stdout, "/\nhello\n");
  assert.equal(await vm.fs.readTextFile("/srv/from-a-page"), "hello\n");
  const elsewhere = await session(token).vms.create().then(
    () => "created",
    (error) => error.name,
  );
  assert.equal(result.refused, elsewhere);
  assert.notEqual(result.refused, "created");
});

test("a page cannot use an API key, which is not for pages", async () => {
  const result = await inBrowser(`
    const { Freestyle } = await import("freestyle");
    return { vms: await ${client({ apiKey: key.secret })}.vms.list() };
  `);
  assert.match(result.error, /Failed to fetch/);
});
