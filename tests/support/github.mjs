// A stand-in for GitHub: the calls of its API that an app needs, checked as GitHub checks them, and
// repositories served by git's own http-backend, which tell the app's webhook of every push.

import { spawn } from "node:child_process";
import crypto from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { jwtVerify } from "jose";

import { run } from "./process.mjs";

export class GitHub {
  appId = "123456";
  webhookSecret = crypto.randomBytes(20).toString("hex");
  /** Where pushes are told; nowhere until it is set. */
  webhookUrl = null;
  /** How many tokens were given out: one for each sync. */
  tokens = 0;
  /** Answers nothing but 503. */
  isAway = false;
  #valid = new Map();
  #installed = new Map();

  static async start() {
    const github = new GitHub();
    github.dir = mkdtempSync(join(tmpdir(), "fse2e-github-"));
    const { privateKey, publicKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    github.privateKey = privateKey.export({ type: "pkcs1", format: "pem" });
    github.publicKey = publicKey;
    github.server = createServer((request, response) => {
      github.#serve(request, response).catch((error) => response.writeHead(500).end(`${error}`));
    }).listen(0, "127.0.0.1");
    await once(github.server, "listening");
    github.origin = `http://127.0.0.1:${github.server.address().port}`;
    // As at a GitHub Enterprise Server.
    github.url = `${github.origin}/api/v3`;
    return github;
  }

  close = () => {
    this.server.close();
    this.server.closeAllConnections();
    rmSync(this.dir, { recursive: true, force: true });
  };

  /** A repository on which the app is installed. */
  async create(name, branch = "main") {
    const path = this.path(name);
    mkdirSync(join(path, ".."), { recursive: true });
    await run("git", ["init", "-q", "--bare", `--initial-branch=${branch}`, path]);
    // A bare repository may have any branch deleted, as GitHub allows but for the default one.
    await run("git", ["--git-dir", path, "config", "receive.denyDeleteCurrent", "ignore"]);
    this.#installed.set(name, this.#installed.size + 1);
  }

  /** Has pushes refused, all of each, that are to a ref: as for a file that is too large. */
  refusePushesTo(name, ref) {
    const hook = `#!/bin/sh\n! grep -q ' ${ref}$'\n`;
    writeFileSync(join(this.path(name), "hooks/pre-receive"), hook, { mode: 0o755 });
  }

  path(name) {
    return join(this.dir, `${name}.git`);
  }

  /** Its branches and tags. */
  async refs(name) {
    const format = "--format=%(refname) %(objectname)";
    const { stdout } = await run("git", ["--git-dir", this.path(name), "for-each-ref", format]);
    return Object.fromEntries(stdout.trim().split("\n").filter(Boolean).map((line) => line.split(" ")));
  }

  /** Tells the webhook, as GitHub does after a push by whomever. */
  async tell(name, { secret = this.webhookSecret, appId = this.appId } = {}) {
    const body = JSON.stringify({ ref: "refs/heads/main", repository: { full_name: name } });
    const digest = crypto.createHmac("sha256", secret).update(body).digest("hex");
    return fetch(this.webhookUrl, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-hook-installation-target-id": appId,
        "x-hub-signature-256": `sha256=${digest}`,
      },
      body,
    });
  }

  async #serve(request, response) {
    if (this.isAway) return response.writeHead(503).end("<html>a unicorn</html>");
    let { pathname } = new URL(request.url, this.origin);
    const isApi = pathname.startsWith("/api/v3/");
    if (isApi) pathname = pathname.slice("/api/v3".length);
    const json = (status, body) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    const bearer = request.headers.authorization?.replace(/^Bearer /, "");
    let match;
    if (isApi && (match = /^\/repos\/([^/]+\/[^/]+)\/installation$/.exec(pathname))) {
      if (!(await this.#isApp(bearer))) return json(401, { message: "Bad credentials" });
      const id = this.#installed.get(match[1]);
      return id ? json(200, { id }) : json(404, { message: "Not Found" });
    }
    if (isApi && (match = /^\/app\/installations\/(\d+)\/access_tokens$/.exec(pathname))) {
      if (!(await this.#isApp(bearer))) return json(401, { message: "Bad credentials" });
      const name = [...this.#installed].find(([, id]) => `${id}` === match[1])[0];
      const token = `ghs_${crypto.randomBytes(16).toString("hex")}`;
      this.#valid.set(token, name);
      this.tokens++;
      return json(201, { token, expires_at: new Date(Date.now() + 3_600_000).toISOString() });
    }
    if (isApi && (match = /^\/repos\/([^/]+\/[^/]+)$/.exec(pathname))) {
      if (this.#valid.get(bearer) !== match[1]) return json(404, { message: "Not Found" });
      const { stdout } = await run("git", ["--git-dir", this.path(match[1]), "symbolic-ref", "HEAD"]);
      const default_branch = stdout.trim().slice("refs/heads/".length);
      return json(200, { clone_url: `${this.origin}/git/${match[1]}.git`, default_branch });
    }
    if (!isApi && (match = /^\/git\/([^/]+\/[^/]+)\.git\//.exec(pathname))) {
      const basic = request.headers.authorization?.replace(/^Basic /, "") ?? "";
      const [user, token] = Buffer.from(basic, "base64").toString().split(":");
      if (user !== "x-access-token" || this.#valid.get(token) !== match[1]) {
        return response.writeHead(401, { "www-authenticate": "Basic" }).end();
      }
      return this.#git(request, response, match[1]);
    }
    return json(404, { message: "Not Found" });
  }

  /** Whether a token is the app's own, and not too long-lived. */
  async #isApp(token) {
    try {
      const { payload } = await jwtVerify(token, this.publicKey, {
        algorithms: ["RS256"],
        issuer: this.appId,
        maxTokenAge: "10m",
      });
      return payload.exp - payload.iat <= 600;
    } catch {
      return false;
    }
  }

  async #git(request, response, name) {
    const { pathname, search } = new URL(request.url, this.origin);
    const isPush = request.method === "POST" && pathname.endsWith("git-receive-pack");
    const before = isPush && JSON.stringify(await this.refs(name));
    const backend = spawn("git", ["http-backend"], {
      env: {
        PATH: process.env.PATH,
        HOME: this.dir,
        GIT_PROJECT_ROOT: this.dir,
        GIT_HTTP_EXPORT_ALL: "1",
        PATH_INFO: pathname.slice("/git".length),
        QUERY_STRING: search.slice(1),
        REQUEST_METHOD: request.method,
        REMOTE_USER: "app",
        CONTENT_TYPE: request.headers["content-type"] ?? "",
        HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
        GIT_PROTOCOL: request.headers["git-protocol"] ?? "",
      },
      stdio: ["pipe", "pipe", "inherit"],
    });
    request.pipe(backend.stdin);
    const chunks = [];
    for await (const chunk of backend.stdout) chunks.push(chunk);
    const output = Buffer.concat(chunks);
    const end = output.indexOf("\r\n\r\n");
    const headers = Object.fromEntries(
      output.subarray(0, end).toString().split("\r\n").map((line) => line.split(": ")),
    );
    const status = Number(headers.Status?.split(" ")[0] ?? 200);
    delete headers.Status;
    response.writeHead(status, headers).end(output.subarray(end + 4));
    const hasChanged = isPush && JSON.stringify(await this.refs(name)) !== before;
    if (hasChanged && this.webhookUrl) await this.tell(name);
  }
}
