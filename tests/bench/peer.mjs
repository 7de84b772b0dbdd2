// The peer: the base image of the platform in plain QEMU, as a user without us would run it. A unit in
// the guest runs the lines that come through its second serial port.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { atExit, forget } from "../support/cleanup.mjs";

const LIMIT_MS = 180_000;
const READY = "the shell is ready";

const SHELL = `exec < /dev/ttyS1 > /dev/ttyS1
stty raw -echo
echo ${READY}
while read -r line; do sh -c "$line"; done
`;
const UNIT = `[Service]
ExecStart=/bin/sh /usr/local/bin/peer-shell
[Install]
WantedBy=multi-user.target
`;

/** A copy of the newest base image in which a shell answers as soon as ordinary units may run. */
export class PeerImage {
  constructor(cacheDir = process.env.FREESTYLE_CACHE_DIR ?? "/var/cache/freestyle") {
    this.dir = mkdtempSync(join(tmpdir(), "fsbench-"));
    atExit(this.remove);
    const images = join(cacheDir, "images");
    const [image] = readdirSync(images)
      .filter((name) => /^[0-9a-f]{64}$/.test(name))
      .map((name) => join(images, name))
      .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
    this.kernel = join(image, "vmlinuz");
    this.initrd = join(image, "initrd");
    this.disk = join(this.dir, "peer.raw");
    const copy = ["--sparse=always", "--reflink=auto", join(image, "rootfs.raw"), this.disk];
    execFileSync("cp", copy);
    chmodSync(this.disk, 0o600);
    const units = "/etc/systemd/system";
    this.#write("/usr/local/bin/peer-shell", SHELL);
    this.#write(`${units}/peer-shell.service`, UNIT);
    const wants = `${units}/multi-user.target.wants/peer-shell.service`;
    this.#debugfs(`symlink ${wants} ${units}/peer-shell.service`);
  }

  #write(path, text) {
    const file = join(this.dir, "written");
    writeFileSync(file, text);
    this.#debugfs(`write ${file} ${path}`);
  }

  #debugfs(command) {
    execFileSync("debugfs", ["-w", "-R", command, this.disk], { stdio: "ignore" });
  }

  /** A new disk on top of the image. */
  overlay(name) {
    const path = join(this.dir, name);
    const create = ["create", "-q", "-f", "qcow2", "-b", this.disk, "-F", "raw", path];
    execFileSync("qemu-img", create);
    return path;
  }

  remove = () => {
    rmSync(this.dir, { recursive: true, force: true });
    forget(this.remove);
  };
}

/** A QEMU with 4 vCPUs, 8 GB and a disk in qcow2. */
export class PlainQemu {
  /**
   * Resolves when QEMU runs. With `discard` the disk stays as it is, and `args` are more of QEMU's
   * arguments.
   */
  static async start(image, disk, { discard = false, args = [] } = {}) {
    const qemu = new PlainQemu();
    const [serial, monitor] = [join(image.dir, "serial"), join(image.dir, "monitor")];
    const connections = [serial, monitor].map(accept);
    const drive = `file=${disk},if=virtio,format=qcow2,snapshot=${discard ? "on" : "off"}`;
    qemu.process = spawn(
      "qemu-system-x86_64",
      [
        ...["-nodefaults", "-display", "none", "-M", "q35", "-no-reboot"],
        ...["-accel", process.env.BENCH_ACCEL ?? "tcg,thread=multi", "-cpu", "max"],
        ...["-smp", "4", "-m", "8G", "-kernel", image.kernel, "-initrd", image.initrd],
        ...["-append", "root=/dev/vda rootfstype=ext4 rw console=ttyS0 quiet"],
        ...["-drive", drive, "-serial", "null"],
        ...["-serial", `unix:${serial}`, "-qmp", `unix:${monitor}`, ...args],
      ],
      { stdio: ["ignore", "ignore", "inherit"] },
    );
    atExit(qemu.kill);
    qemu.ended = once(qemu.process, "exit");
    qemu.dead = qemu.ended.then(() => Promise.reject(new Error("plain QEMU ended")));
    qemu.dead.catch(() => {}); // It does, when nobody waits for anything any more.
    const [shell, qmp] = await Promise.race([Promise.all(connections), qemu.dead]);
    qemu.shell = lines(shell);
    qemu.qmp = lines(qmp);
    await qemu.qmp.next(); // Its greeting.
    await qemu.command("qmp_capabilities");
    return qemu;
  }

  kill = () => {
    this.process.kill("SIGKILL");
    forget(this.kill);
  };

  /** Ends it as a power failure would. */
  async end() {
    this.kill();
    await this.ended;
  }

  /** Waits for the first command of a guest that boots. */
  booted() {
    return this.#until(this.shell, (line) => line === READY);
  }

  /** Runs a command in the guest to its end. */
  async exec(command) {
    this.shell.write(`${command}; echo done\n`);
    await this.#until(this.shell, (line) => line === "done");
  }

  /** A command of the monitor. */
  async command(execute, args = {}) {
    this.send(execute, args);
    const isAnswer = (line) => !("event" in JSON.parse(line));
    const answer = JSON.parse(await this.#until(this.qmp, isAnswer));
    if (answer.error) throw new Error(`${execute}: ${answer.error.desc}`);
    return answer.return;
  }

  /** A command of the monitor whose answer is not waited for. */
  send(execute, args) {
    this.qmp.write(`${JSON.stringify({ execute, arguments: args })}\n`);
  }

  /** A command of the monitor for people, where there is no other. */
  async humanCommand(line) {
    const printed = await this.command("human-monitor-command", { "command-line": line });
    if (printed.trim()) throw new Error(`${line}: ${printed}`);
  }

  /** Waits for an event of the monitor for which `test` is true. */
  event(test) {
    return this.#until(this.qmp, (line) => {
      const message = JSON.parse(line);
      return "event" in message && test(message);
    });
  }

  async #until(connection, test) {
    let timer;
    const limit = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("plain QEMU does not answer")), LIMIT_MS);
    });
    const read = async () => {
      for (;;) {
        const line = await connection.next();
        if (test(line)) return line;
      }
    };
    try {
      return await Promise.race([read(), limit, this.dead]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Listens at a path for the one connection that QEMU makes. */
async function accept(path) {
  rmSync(path, { force: true });
  const server = createServer().listen(path);
  const [socket] = await once(server, "connection");
  server.close();
  return socket;
}

function lines(socket) {
  socket.on("error", () => {}); // QEMU was killed.
  const read = createInterface({ input: socket })[Symbol.asyncIterator]();
  return {
    write: (text) => socket.write(text),
    next: async () => {
      const { value, done } = await read.next();
      if (done) throw new Error("plain QEMU hung up");
      return value.trim();
    },
  };
}
