//! Tap and TUN devices: the only module with `unsafe`, for the ioctls of `/dev/net/tun`.
//!
//! All functions act on the calling thread's network namespace.
#![expect(unsafe_code, reason = "the ioctls of /dev/net/tun have no safe wrapper")]

use std::{
    ffi::c_void,
    fs::{File, OpenOptions},
    io,
    os::fd::OwnedFd,
};

use rustix::{
    fs::OFlags,
    ioctl::{self, Ioctl, IoctlOutput, Opcode, opcode},
};

/// The tap's name in every VM's namespace.
pub(crate) const NAME: &str = "tap0";

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<i32>(b'T', 203);
const TUNSETOWNER: Opcode = opcode::write::<i32>(b'T', 204);

const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

/// `struct ifreq` with the `ifr_flags` arm of its union, padded to the size of the whole.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    padding: [u8; 22],
}

/// Makes the tap and lets it outlive this call. Harmless while the tap is in use.
pub(crate) fn ensure() -> io::Result<()> {
    match attach() {
        Ok(tap) => {
            // Without an owner the kernel lets any user attach who can open /dev/net/tun.
            set_integer::<TUNSETOWNER>(&tap, 0)?;
            set_integer::<TUNSETPERSIST>(&tap, 1)
        }
        // Held by a running QEMU: it was made persistent before that could open it.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        Err(error) => Err(error),
    }
}

/// Opens the tap's only queue; `ResourceBusy` while another process has it.
pub(crate) fn open() -> io::Result<OwnedFd> {
    attach().map(OwnedFd::from)
}

fn attach() -> io::Result<File> {
    make(NAME, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
}

/// Makes a TUN device that is gone when it is closed: one read or write is one IP packet, and a
/// read never waits. `ResourceBusy` while there is another of that name.
pub(crate) fn open_tun(name: &str) -> io::Result<OwnedFd> {
    let tun = make(name, IFF_TUN | IFF_NO_PI)?;
    rustix::fs::fcntl_setfl(&tun, OFlags::NONBLOCK)?;
    Ok(tun.into())
}

/// Opens a device, making it if needed.
fn make(device: &str, flags: u16) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    let mut name = [0; 16];
    name[..device.len()].copy_from_slice(device.as_bytes());
    let request = SetInterface(InterfaceRequest { name, flags, padding: [0; 22] });
    // SAFETY: `SetInterface` describes TUNSETIFF as the kernel defines it, and `tun` is a tun file.
    unsafe { ioctl::ioctl(&tun, request) }?;
    Ok(tun)
}

fn set_integer<const OPCODE: Opcode>(tun: &File, value: usize) -> io::Result<()> {
    // SAFETY: both callers name an operation that takes its argument by value.
    let request = unsafe { ioctl::IntegerSetter::<OPCODE>::new_usize(value) };
    // SAFETY: the operation reads no memory, and `tun` is a tun file.
    unsafe { ioctl::ioctl(tun, request) }?;
    Ok(())
}

/// TUNSETIFF: attach the file to a device, making it if needed.
struct SetInterface(InterfaceRequest);

// SAFETY: TUNSETIFF reads a `struct ifreq` at the pointer and writes one of the same size back; its
// number is encoded as for an `int` for historical reasons.
unsafe impl Ioctl for SetInterface {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        TUNSETIFF
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}
