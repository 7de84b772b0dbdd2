// The peer of native git: nginx with git's own `http-backend` through fcgiwrap, as git's manual sets
// it up, on a directory of bare repositories.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { atExit, forget } from "../support/cleanup.mjs";
import { freePort } from "../support/ports.mjs";

/** As many as the server under test runs at one time on a small host. */
const PROCESSES = 16;

export class Nginx {
  static async start() {
    const nginx = new Nginx();
    await nginx.#start();
    return nginx;
  }

  constructor() {
    this.dir = mkdtempSync(join(tmpdir(), "fsbench-nginx-"));
    this.root = join(this.dir, "git");
    mkdirSync(this.root);
    atExit(this.stop);
  }

  /** A bare repository that may be pushed to. */
  create(name) {
    const path = join(this.root, name);
    execFileSync("git", ["init", "-q", "--bare", "--initial-branch=main", path]);
    execFileSync("git", ["--git-dir", path, "config", "http.receivepack", "true"]);
    execFileSync("git", ["--git-dir", path, "config", "uploadpack.allowFilter", "true"]);
    return { path, url: `${this.url}/${name}` };
  }

  async #start() {
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    const socket = join(this.dir, "fcgi");
    const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    writeFileSync(
      join(this.dir, "nginx.conf"),
      `daemon off; master_process off; worker_processes 1; user root;
pid ${this.dir}/pid; error_log ${this.dir}/error.log;
events { worker_connections 256; }
http {
  access_log off; client_max_body_size 0;
  ${temporary.map((name) => `${name}_temp_path ${this.dir}/${name};`).join("\n  ")}
  server {
    listen 127.0.0.1:${port};
    location / {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME ${execFileSync("git", ["--exec-path"]).toString().trim()}/git-http-backend;
      fastcgi_param GIT_PROJECT_ROOT ${this.root};
      fastcgi_param GIT_HTTP_EXPORT_ALL "";
      fastcgi_param PATH_INFO $uri;
      fastcgi_param GIT_PROTOCOL $http_git_protocol;
      fastcgi_read_timeout 600;
      fastcgi_pass unix:${socket};
    }
  }
}
`,
    );
    // Without the environment of whoever runs the benchmark; safe.directory is git's own check.
    const env = {
      PATH: process.env.PATH,
      HOME: this.dir,
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
    };
    const options = { stdio: ["ignore", "ignore", "inherit"], env };
    const ready = appears(this.dir, "fcgi");
    const wrap = ["-c", `${PROCESSES}`, "-s", `unix:${socket}`];
    // It leads a group: it leaves its children behind when it is ended alone.
    this.fcgi = spawn("fcgiwrap", wrap, { ...options, detached: true });
    await ready;
    const serving = appears(this.dir, "pid");
    const conf = ["-c", join(this.dir, "nginx.conf"), "-e", join(this.dir, "error.log")];
    this.nginx = spawn("/usr/sbin/nginx", conf, options);
    await serving;
  }

  /** Its processes; those of git are their children. */
  get pids() {
    return [this.nginx.pid, this.fcgi.pid];
  }

  stop = () => {
    this.nginx?.kill();
    if (this.fcgi?.pid && this.fcgi.exitCode === null) process.kill(-this.fcgi.pid);
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.stop);
  };
}

/** Resolves when the file is there. */
async function appears(dir, name) {
  const watcher = watch(dir);
  try {
    while (!existsSync(join(dir, name))) await once(watcher, "change");
  } finally {
    watcher.close();
  }
}
