//! `cargo xtask bench`: figures, never verdicts.

use crate::build;
use crate::packages;
use crate::run::run;
use crate::test::{clients, node};

/// Create, exec, files, memory: through the real SDK, against plain QEMU in the same run.
pub(crate) fn vm() -> Result<(), String> {
    with_platform("tests/bench/vm.mjs")
}

/// Forks, snapshots, suspend and wake: against what plain QEMU has for it in the same run.
pub(crate) fn fork() -> Result<(), String> {
    with_platform("tests/bench/fork.mjs")
}

/// Commits, reads and searches of repositories: against git on the same disk.
pub(crate) fn git() -> Result<(), String> {
    with_platform("tests/bench/git.mjs")
}

/// Clone, fetch and push with native git: against nginx and git's own `http-backend` in the same run.
pub(crate) fn git_transfers() -> Result<(), String> {
    with_platform("tests/bench/git-transfers.mjs")
}

/// Terminal sessions: keystrokes, throughput, how many fit and what they cost.
pub(crate) fn pty() -> Result<(), String> {
    with_platform("tests/bench/pty.mjs")
}

/// Requests through the edge: against nginx as the proxy of the same server, first one in a network
/// namespace and then one in a guest, in the same run.
pub(crate) fn net() -> Result<(), String> {
    packages::install_net_peers()?;
    let edge = build::example("freestyle-edge", "proxy")?;
    run(node()?.env("BENCH_EDGE", edge).arg("tests/bench/net.mjs"))?;
    with_platform("tests/bench/net-guest.mjs")
}

/// VPCs and their VPN: against a bridge and wireguard-go in the same run.
pub(crate) fn net_vpc() -> Result<(), String> {
    packages::install_platform()?;
    packages::install_clients()?;
    packages::install_peers()?;
    let example = build::example("freestyle-vpc", "vpc_without_guests")?;
    let built = build::release()?;
    run(clients(&built)?.arg("tests/bench/net-vpc.mjs").arg(example))
}

fn with_platform(script: &str) -> Result<(), String> {
    packages::install_platform()?;
    packages::install_peers()?;
    let built = build::release()?;
    built.image()?;
    run(clients(&built)?.arg(script))
}
