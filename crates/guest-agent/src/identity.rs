//! Who this guest is. A restored snapshot wakes up as its parent, with the parent's clock, names
//! and, worst, random numbers to come; it is told otherwise before anyone else talks to it.

use std::io;

use freestyle_guest_protocol::message::{Entropy, Hello, Nic};

/// A boot or a restore.
pub type Generation = [u8; 16];

/// A clock that is off by more than this is set, nanoseconds.
const MAX_SKEW: u64 = 500_000_000;

/// The system around the agent, as far as the agent changes it for the host. No method takes longer
/// than a few milliseconds unless it says so.
pub trait Machine: Send + Sync + 'static {
    /// The generation this system knows itself to be, if any.
    fn generation(&self) -> Option<Generation>;
    /// The kernel's boot id.
    fn boot_id(&self) -> String;
    /// Nanoseconds since 1970.
    fn clock(&self) -> u64;
    /// Sets the clock to nanoseconds since 1970.
    fn set_clock(&self, unix_nanos: u64) -> io::Result<()>;
    /// Makes the kernel's random numbers depend on this from now on.
    fn add_entropy(&self, entropy: &Entropy) -> io::Result<()>;
    /// Renames the system, now and for its next boot.
    fn set_hostname(&self, hostname: &str) -> io::Result<()>;
    /// Gives the system a new machine id: 32 hexadecimal digits.
    fn set_machine_id(&self, machine_id: &str) -> io::Result<()>;
    /// Makes this the only key, a line of `authorized_keys`, with which sshd lets the host in.
    fn set_login_key(&self, line: Option<&str>) -> io::Result<()>;
    /// Gives the system its place in a VPC, in place of what it was given before. May take tens of
    /// milliseconds where that is another.
    fn set_nic(&self, nic: Option<&Nic>) -> io::Result<()>;
    /// Makes the generation known to programs.
    fn publish_generation(&self, generation: &Generation) -> io::Result<()>;
    /// Grows the root filesystem to its device. May take seconds.
    fn grow_root(&self) -> io::Result<()>;
    /// Starts an orderly shutdown. May take seconds.
    fn begin_power_off(&self) -> io::Result<()>;
    /// Writes what is in memory to disk and powers off, orderly or not. May take seconds.
    fn power_off_now(&self) -> io::Result<()>;
}

/// Makes the system what the `Hello` says, unless it is that already. Answers what did not work:
/// a guest whose disk is full must be reachable nevertheless.
pub(crate) fn assume(
    machine: &dyn Machine,
    current: &mut Option<Generation>,
    hello: &Hello,
) -> Vec<String> {
    let identity = &hello.identity;
    let mut problems = Vec::new();
    let mut attempt = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot {what}");
            problems.push(format!("cannot {what}: {error}"));
        }
    };
    let is_new = *current != Some(identity.generation);
    // Also if it is the same guest: the host may have lost its keys.
    attempt("set the login key", machine.set_login_key(identity.login_key.as_deref()));
    if is_new || machine.clock().abs_diff(hello.unix_nanos) > MAX_SKEW {
        attempt("set the clock", machine.set_clock(hello.unix_nanos));
    }
    if is_new {
        attempt("add entropy", machine.add_entropy(&hello.entropy));
        attempt("set the hostname", machine.set_hostname(&identity.hostname));
        let machine_id = machine_id(&identity.generation);
        attempt("set the machine id", machine.set_machine_id(&machine_id));
        attempt("join the VPC", machine.set_nic(identity.nic.as_ref()));
        if identity.grow_root {
            attempt("grow the root filesystem", machine.grow_root());
        }
        // Last: who sees it may rely on the rest.
        attempt("publish the generation", machine.publish_generation(&identity.generation));
        *current = Some(identity.generation);
    }
    problems
}

/// systemd wants a version 4 UUID without dashes.
fn machine_id(generation: &Generation) -> String {
    let mut bytes = *generation;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    hex(&bytes)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
