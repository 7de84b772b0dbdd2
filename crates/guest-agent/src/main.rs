//! Runs the agent on the VM's virtio-serial port.

use std::error::Error;
use std::sync::Arc;

use freestyle_guest_agent::{LinuxMachine, Port, serve};

/// The name the host gives the port.
const PORT: &str = "freestyle.agent";

fn main() -> Result<(), Box<dyn Error>> {
    // The journal adds the time.
    tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(std::io::stderr).init();
    let path = Port::wait_for(PORT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tracing::info!(port = %path.display(), "serving");
        serve(Port::open(&path)?, Arc::new(LinuxMachine)).await
    })?;
    Ok(())
}
