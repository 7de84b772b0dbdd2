//! What neither `rustix` nor tokio wraps safely. All of this crate's unsafe code.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::ioctl::{NoArg, Setter, ioctl, opcode};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::users::Credentials;

/// `struct rand_pool_info` of linux/random.h with room for 64 bytes.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: i32,
    bytes: i32,
    data: [u8; 64],
}

/// `RNDADDENTROPY`: mixes random bytes into the kernel's generator and credits them.
pub(crate) fn add_entropy(random: impl AsFd, data: [u8; 64]) -> io::Result<()> {
    // The number encodes the size of two ints, not of the structure.
    const RNDADDENTROPY: u32 = opcode::write::<[i32; 2]>(b'R', 0x03);
    let info = RandPoolInfo { entropy_bits: 512, bytes: 64, data };
    // SAFETY: the request reads a `rand_pool_info` followed by as many bytes as it says: 64, which
    // the structure has. It writes nothing.
    unsafe { ioctl(random, Setter::<RNDADDENTROPY, _>::new(info)) }.map_err(io::Error::from)
}

/// `RNDRESEEDCRNG`: makes the kernel's generator use what was mixed in, now.
pub(crate) fn reseed(random: impl AsFd) -> io::Result<()> {
    const RNDRESEEDCRNG: u32 = opcode::none(b'R', 0x07);
    // SAFETY: the request has no argument.
    unsafe { ioctl(random, NoArg::<RNDRESEEDCRNG>::new()) }.map_err(io::Error::from)
}

/// `EXT4_IOC_RESIZE_FS`: grows a mounted ext4 filesystem to so many blocks.
pub(crate) fn resize_ext4(any_file: impl AsFd, blocks: u64) -> io::Result<()> {
    const EXT4_IOC_RESIZE_FS: u32 = opcode::write::<u64>(b'f', 16);
    // SAFETY: the request reads one u64; on another kind of filesystem it is unknown and refused.
    unsafe { ioctl(any_file, Setter::<EXT4_IOC_RESIZE_FS, _>::new(blocks)) }
        .map_err(io::Error::from)
}

/// Lets the command run as a user.
///
/// `CommandExt::uid` and `gid` would do, but they leave a user without supplementary groups.
pub(crate) fn run_as(command: &mut Command, credentials: Credentials) {
    // SAFETY: between fork and exec only system calls are made: nothing allocates or locks.
    unsafe { command.pre_exec(move || credentials.become_user()) };
}

/// Makes the command the leader of a session of its own, whose terminal is the command's standard
/// input.
pub(crate) fn lead_session(command: &mut Command) {
    let lead = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made: nothing allocates or locks.
    unsafe { command.pre_exec(lead) };
}

/// Lets the runtime watch a descriptor for being readable.
pub(crate) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watched(fd, Interest::READABLE)
}

/// Lets the runtime watch a descriptor for being readable and for being writable.
pub(crate) fn readable_and_writable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    watched(fd, Interest::READABLE | Interest::WRITABLE)
}

fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives, as is asked for.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}
