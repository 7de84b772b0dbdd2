//! `cargo xtask bench`: figures, never verdicts.

use crate::build;
use crate::packages;
use crate::run::run;
use crate::test::clients;

/// Create, exec, files, memory: through the real SDK, against plain QEMU in the same run.
pub(crate) fn vm() -> Result<(), String> {
    packages::install_platform()?;
    let built = build::release()?;
    built.image()?;
    run(clients(&built)?.arg("tests/bench/vm.mjs"))
}
