//! Building what is run: the server and the guest agent.

use std::path::PathBuf;

use crate::run::{cargo, command, root, run};

/// The programs, built.
pub(crate) struct Built {
    /// Server and command line.
    pub(crate) freestyle: PathBuf,
    /// What runs inside every VM. The server finds it beside itself.
    pub(crate) agent: PathBuf,
}

/// Builds both for use, not for debugging: in an emulated guest the difference is felt.
pub(crate) fn release() -> Result<Built, String> {
    run(cargo().args(["build", "--release", "--locked", "--package", "freestyle"]))?;
    // Static, so that it runs whatever C library the guest has.
    run(cargo()
        .args(["rustc", "--release", "--locked", "--package", "freestyle-guest-agent"])
        .args(["--bin", "freestyle-guest-agent", "--", "-C", "target-feature=+crt-static"]))?;
    let dir = target_dir().join("release");
    Ok(Built { freestyle: dir.join("freestyle"), agent: dir.join("freestyle-guest-agent") })
}

/// Builds a program that only a benchmark runs.
pub(crate) fn example(package: &str, name: &str) -> Result<PathBuf, String> {
    run(cargo().args(["build", "--release", "--locked", "--package", package, "--example", name]))?;
    Ok(target_dir().join("release/examples").join(name))
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

impl Built {
    /// Builds the base image, or finds it in the cache.
    pub(crate) fn image(&self) -> Result<(), String> {
        run(command(&self.freestyle.to_string_lossy()).args(["image", "build"]))
    }
}
