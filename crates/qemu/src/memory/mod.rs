//! Guest memory: images that machines map, and what a machine wrote over one.
//!
//! To run clones of a machine, its memory is loaded once into an anonymous in-memory file that is
//! then sealed against every change ([`SealedMemory`]), and each QEMU maps that file privately.
//! This has three effects that the design rests on:
//!
//! * pages no clone wrote exist once on the host;
//! * the pages a clone did write are exactly the anonymous pages of its mapping, so a snapshot
//!   copies those and nothing else;
//! * QEMU before 8.2 can only open the backing file for writing. With a file on disk, a guest that
//!   takes over its QEMU could write into the memory of every future clone; a seal cannot be
//!   undone by anyone.
//!
//! The price is that a loaded image occupies RAM while something maps it or holds its descriptor.
//!
//! What a machine wrote is kept as a [`Delta`], made by a [`Capture`] or by [`merge`]. There are two
//! ways back: [`Delta::pour`] writes it into a new process that maps the same image, and
//! [`SealedMemory::compose`] makes it and the image one new image.

mod capture;
mod delta;
mod format;
mod guest;
mod image;
mod merge;
mod sys;
#[cfg(test)]
mod tests;
mod writer;

pub use capture::{Capture, Copied};
pub use delta::Delta;
pub use format::DeltaProblem;
pub(crate) use guest::ram_start;
pub use image::{SealedMemory, save};
pub use merge::merge;
pub use writer::Summary;
