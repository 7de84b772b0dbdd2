#!/usr/bin/env node
// What git's own tests take for Apache (`LIB_HTTPD_PATH`): it answers the URLs that their apache.conf
// has with repositories of a server of ours.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, existsSync, lstatSync, readFileSync } from "node:fs";
import { renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, request } from "node:http";
import { join } from "node:path";

const { UPSTREAM_API_URL, UPSTREAM_API_KEY, UPSTREAM_HOST, UPSTREAM_REPOSITORIES } = process.env;
const basic = (user, password) => `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
/** Whom the tests let in, and who that is at our server. */
const THEIR_USER = basic("user@host", "pass@host");
const OUR_USER = basic("x-access-token", UPSTREAM_API_KEY);
/** Who may read without a credential. */
const PUBLIC = ["auth-push", "half-auth-complete"];
const SITE = new RegExp(
  "^/(?:(auth|auth-push|auth-fetch|half-auth-complete)/)?smart/" +
    "(.+?)(/(?:info/refs|git-upload-pack|git-receive-pack|HEAD|objects/).*)$",
);

async function api(method, path, body) {
  const answer = await fetch(`${UPSTREAM_API_URL}/git/v1/repo${path}`, {
    method,
    headers: { authorization: `Bearer ${UPSTREAM_API_KEY}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

/** Where the server keeps a repository. */
const folderOf = (repoId) => join(UPSTREAM_REPOSITORIES, repoId.slice(0, 2), `${repoId}.git`);

const known = new Map();

/** The repository that a test has made in `documents`. It is moved to where the server has its own. */
async function repository(documents, name, isPublic) {
  const made = [name, `${name}.git`].map((each) => join(documents, each)).find(existsSync);
  if (!made) return undefined;
  const here = existsSync(join(made, ".git")) ? join(made, ".git") : made;
  if (!known.has(made) || !lstatSync(here).isSymbolicLink()) {
    const { repoId } = await api("POST", "", { public: isPublic });
    const folder = folderOf(repoId);
    rmSync(folder, { recursive: true });
    renameSync(here, folder);
    symlinkSync(folder, here);
    known.set(made, { repoId, isPublic });
  }
  const found = known.get(made);
  if (found.isPublic !== isPublic) {
    const visibility = isPublic ? "public" : "private";
    await api("PUT", `/${found.repoId}/visibility`, { visibility });
    found.isPublic = isPublic;
  }
  return found.repoId;
}

function serve(root, port) {
  let last = Promise.resolve();
  const server = createServer(async (asked, answer) => {
    const end = (status) => {
      const line = `${asked.method} ${asked.url} HTTP/${asked.httpVersion}`;
      appendFileSync(join(root, "access.log"), `127.0.0.1 - - [] "${line}" ${status} 1\n`);
    };
    const refuse = (status, headers = {}) => {
      answer.writeHead(status, headers).end();
      end(status);
    };
    const [, kind, rest] = /^\/smart-redir-(perm|temp)\/(.*)$/.exec(asked.url) ?? [];
    if (kind) return refuse(kind === "perm" ? 301 : 302, { location: `/smart/${rest}` });
    const [, rights, name, path] = SITE.exec(asked.url) ?? [];
    if (!name) return refuse(404);
    // One after the other, so that two requests do not move the same repository.
    last = last.then(() => repository(join(root, "www"), name, PUBLIC.includes(rights)));
    const repoId = await last;
    if (!repoId) return refuse(404);
    const headers = { ...asked.headers };
    if (!rights || headers.authorization === THEIR_USER) headers.authorization = OUR_USER;
    const [host, ourPort] = UPSTREAM_HOST.split(":");
    const to = { host, port: ourPort, method: asked.method, path: `/${repoId}${path}`, headers };
    const passed = request(to, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
      end(got.statusCode);
    });
    passed.on("error", () => answer.destroy());
    asked.pipe(passed);
  });
  server.listen(port, "127.0.0.1", () => process.stdout.write("ready\n"));
}

const value = (flag) => process.argv[process.argv.lastIndexOf(flag) + 1];
const root = value("-d");
const pidFile = join(root, "httpd.pid");
if (process.argv.includes("-v")) {
  console.log("Server version: Apache/2.4.0 (a stand-in for it)");
} else if (value("-k") === "stop") {
  process.kill(Number(readFileSync(pidFile, "utf8")));
} else if (value("-k") === "start") {
  const [port] = /\d+$/.exec(value("-c"));
  const child = spawn(process.execPath, [import.meta.filename, "-d", root, "-k", "run", "-p", port], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  writeFileSync(pidFile, `${child.pid}`);
  process.exit(0);
} else {
  serve(root, Number(value("-p")));
}
