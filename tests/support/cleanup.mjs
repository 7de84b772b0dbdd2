// What must not outlive this process, however it ends (short of SIGKILL).

const pending = new Set();

process.once("exit", () => pending.forEach((undo) => undo()));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => process.exit(1));
}

/** Calls `undo`, which must be synchronous, when the process exits, unless `forget` has it. */
export function atExit(undo) {
  pending.add(undo);
}

/** What `undo` would undo has been undone. */
export function forget(undo) {
  pending.delete(undo);
}
