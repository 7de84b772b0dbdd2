//! `cargo xtask test`: everything.

use std::process::Command;

use crate::build::{self, Built};
use crate::packages;
use crate::run::{cargo, command, is_installed, root, run};

/// From the cheapest check to the dearest.
pub(crate) fn all() -> Result<(), String> {
    packages::install_platform()?;
    packages::install_clients()?;
    packages::install_browsers()?;
    run(cargo().args(["fmt", "--all", "--check"]))?;
    let lints = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run(cargo().args(lints))?;
    let built = build::release()?;
    built.image()?;
    packages::install_servers()?;
    run(rust_tests().env("FREESTYLE_GUEST_AGENT", &built.agent))?;
    run(clients(&built)?.arg("tests/run.mjs"))
}

/// What git's own tests say of our server. Their source is that of the git which is installed.
pub(crate) fn git_suite(source: &str) -> Result<(), String> {
    let source = std::path::absolute(source).map_err(|error| format!("{source}: {error}"))?;
    packages::install_platform()?;
    let built = build::release()?;
    run(clients(&built)?.arg("tests/upstream/run.mjs").arg(source))
}

/// The workspace's own tests; with nextest where it is installed, which runs them side by side.
fn rust_tests() -> Command {
    let mut tests = cargo();
    if is_installed("cargo-nextest") {
        tests.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    } else {
        tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    }
    tests
}

/// The Node of the npm package `node`, set up to run scripts that use the real SDK against `built`.
pub(crate) fn clients(built: &Built) -> Result<Command, String> {
    let mut command = node()?;
    command.env("FREESTYLE_BIN", &built.freestyle);
    Ok(command)
}

/// The same Node for scripts that need no platform.
pub(crate) fn node() -> Result<Command, String> {
    packages::install_clients()?;
    run(command("npm").args(["ci", "--prefix", "tests", "--no-audit", "--no-fund"]))?;
    Ok(command(&root().join("tests/node_modules/node/bin/node").to_string_lossy()))
}
