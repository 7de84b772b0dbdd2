// The real SDK against the server that the run has started, with an account for each test file.

import assert from "node:assert/strict";
import { after } from "node:test";

import { Errors, Freestyle } from "freestyle";

import { freestyle as cli } from "./server.mjs";

export { Errors };

/** Where the server of this run keeps its data. */
export const DATA_DIR = process.env.E2E_DATA_DIR;
export const API_URL = process.env.FREESTYLE_API_URL;
/** Where native git finds repositories. */
export const GIT_URL = process.env.E2E_GIT_URL;

/** The smallest size whose guest is of use: what is written and restored is small, too. */
export const SMALL = { vcpuCount: 1, memSizeGb: 1 };

/** A new account with an SDK client. */
export async function account(name, { dataDir = DATA_DIR, baseUrl = API_URL } = {}) {
  assert(dataDir, "start the tests with run.mjs");
  const { id } = await admin(dataDir, "account", "create", name);
  const key = await admin(dataDir, "key", "create", "--account", id);
  const freestyle = client(key.secret, baseUrl);
  return { id, key, freestyle };
}

/** An account for the tests of this file; all that it has is deleted when they are over. */
export async function fileAccount(name) {
  const created = await account(name);
  after(() => deleteAll(created.freestyle));
  return created;
}

/** `freestyle admin ... --json` on the server's host. */
export async function admin(dataDir, ...args) {
  const result = await cli(["admin", ...args, "--json", "--data-dir", dataDir]);
  assert.equal(result.code, 0, result.stderr);
  return JSON.parse(result.stdout);
}

/** The SDK, as a program would construct it, except that no create is ever repeated. */
export function client(apiKey, baseUrl = API_URL) {
  return new Freestyle({ apiKey, baseUrl, fetch: fetchWithoutRepeats });
}

/** The same for an end user, who has an access token and no key. */
export function session(accessToken, baseUrl = API_URL) {
  return new Freestyle({ accessToken, baseUrl, fetch: fetchWithoutRepeats });
}

/**
 * The SDK repeats a create for ever unless the answer has an error code that it knows. A server
 * whose answer has none has a bug: here it fails the test instead of hanging it.
 */
async function fetchWithoutRepeats(url, init) {
  if (init?.method !== "POST" || !/\/v1\/vms(\/snapshots)?$/.test(`${url}`))
    return fetch(url, init);
  const answer = await fetch(url, init).catch((error) => error);
  if (answer.ok) return answer;
  const text = answer instanceof Response ? await answer.text() : `${answer.cause ?? answer}`;
  const isKnown = codeOf(text) in Errors.FREESTYLE_ERROR_CODE_MAP;
  const message = `the SDK would repeat this create for ever: ${text}`;
  const body = isKnown ? text : JSON.stringify({ code: "INTERNAL_ERROR", message });
  const headers = answer.headers ?? { "content-type": "application/json" };
  return new Response(body, { status: answer.status ?? 500, headers });
}

function codeOf(text) {
  try {
    return JSON.parse(text).code;
  } catch {
    return undefined;
  }
}

/** Deletes every snapshot of the client's account and every VM except those. */
export async function deleteAll(freestyle, except = []) {
  const { vms } = await freestyle.vms.list();
  const going = vms.map(({ id }) => id).filter((id) => !except.includes(id));
  await Promise.all(going.map((vmId) => freestyle.vms.delete({ vmId })));
  const { snapshots } = await freestyle.vms.snapshots.list({
    includeCancelled: true,
    includeLost: true,
  });
  await Promise.all(snapshots.map((snapshot) => freestyle.vms.snapshots.delete(snapshot)));
}

/** Runs a command that must succeed; answers what it printed. */
export async function sh(vm, command, timeoutMs = 60_000) {
  const { stdout, stderr, statusCode } = await vm.exec({ command, timeoutMs });
  assert.equal(statusCode, 0, `${command}: ${stderr || stdout}`);
  return stdout;
}

/**
 * The error class of a code, as the SDK has it, and fields that its body must hold. Not every call
 * of the SDK tells the trace id of its failure.
 */
export function failsWith(code, fields = {}, { traced = true } = {}) {
  const Class = Errors.FREESTYLE_ERROR_CODE_MAP[code];
  assert(Class, `the SDK knows no code ${code}`);
  return (error) => {
    assert(error instanceof Class, `expected ${code}, got: ${error.stack}`);
    assert.equal(error.body.code, code);
    assert.equal(error.body.error, code);
    if (traced) assert.match(error.traceId, /^[0-9a-f]{32}$/);
    for (const [field, value] of Object.entries(fields)) {
      assert.deepEqual(error.body[field], value, `field ${field} of ${JSON.stringify(error.body)}`);
    }
    return true;
  };
}

/** Waits until `done` answers something true, which no event announces. */
export async function eventually(what, done, limitMs = 60_000) {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const result = await done();
    if (result) return result;
    assert(Date.now() < deadline, `not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The documentation's way to a snapshot: of a VM that is prepared for it, and then deleted. */
export async function bake(freestyle, name, prepare) {
  const { vm } = await freestyle.vms.create({ name, idleTimeoutSeconds: null });
  await prepare(vm);
  const { snapshotId } = await vm.snapshot();
  await vm.delete();
  return snapshotId;
}
