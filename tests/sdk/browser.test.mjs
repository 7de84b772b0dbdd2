// The documentation's client session where it is meant to be: a web page of some product, in a real
// browser, uses a VM with a token of its own through the unmodified SDK.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Page, startServer } from "../support/chromium.mjs";
import { API_URL, fileAccount, session, SMALL } from "../support/sdk.mjs";

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

/** Runs the text of a function in a page of its own origin; answers what it returns. */
async function inBrowser(work) {
  const html = `<!doctype html><title>A product</title>
    <script>globalThis.process = { env: {} }</script>
    <script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>`;
  const files = { "/": ["text/html", html], "/sdk.mjs": ["text/javascript", SDK] };
  const { url, stop } = await startServer(files);
  let page;
  try {
    page = await Page.open(url);
    const result = `(async () => { ${work} })().catch((error) => ({ error: String(error) }))`;
    return await page.evaluate(result);
  } finally {
    await page?.close();
    stop();
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
