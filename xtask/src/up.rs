//! `cargo xtask up`.

use std::os::unix::process::CommandExt;

use crate::build::{self, Built};
use crate::packages;
use crate::run::{command, run};
use crate::test::clients;

/// Prepares everything and becomes the server.
pub(crate) fn serve() -> Result<(), String> {
    let built = prepare()?;
    let error = command(&built.freestyle.to_string_lossy()).arg("serve").exec();
    Err(format!("cannot start the server: {error}"))
}

/// Prepares everything, runs the quickstart of the documentation through the real SDK against a
/// server with a data directory of its own, and ends.
pub(crate) fn once() -> Result<(), String> {
    let built = prepare()?;
    run(clients(&built)?.arg("tests/quickstart.mjs"))
}

fn prepare() -> Result<Built, String> {
    packages::install_platform()?;
    let built = build::release()?;
    built.image()?;
    Ok(built)
}
