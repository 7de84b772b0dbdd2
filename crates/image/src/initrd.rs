//! The initial RAM disk: what the kernel cannot do without modules, and nothing else.
//!
//! Debian's own initrd brings udev and a framework of scripts to find any disk on any hardware.
//! Here disk and filesystem are known, so the modules are loaded in order, uncompressed (the guest
//! would decompress them on every boot), and the root is mounted.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use crate::ImageError;
use crate::command::Tool;
use crate::site::Site;

/// PID 1 of the initrd.
pub(crate) const INIT_SCRIPT: &str = include_str!("initrd-init.sh");

/// What the root filesystem needs, and the NIC's driver, so that the network need not wait for
/// udev; what these need in turn is found out.
pub(crate) const MODULES: &[&str] = &["virtio_blk", "ext4", "virtio_net"];

const LIMIT: Duration = Duration::from_secs(60);
const MAX_MODULE_BYTES: usize = 16 << 20;
const MAX_LIST_BYTES: usize = 64 << 10;

/// Writes the kernel and the initrd of the system in `tree`.
pub(crate) async fn build(site: &Site, tree: &Path) -> Result<(), ImageError> {
    let all_modules = tree.join("usr/lib/modules");
    let release = site.blocking(move || kernel_release(&all_modules)).await?;
    let modprobe = Tool::in_tree(tree, "modprobe", LIMIT)
        .args(["--set-version", &release, "--show-depends", "--all"])
        .args(MODULES)
        .capture(MAX_LIST_BYTES);
    let list = String::from_utf8_lossy(&site.run(modprobe, |_| ()).await?).into_owned();
    let mut modules = Vec::new();
    for path in in_load_order(&list)? {
        let xz = Tool::in_tree(tree, "xz", LIMIT)
            .args(["--decompress", "--stdout", path])
            .capture(MAX_MODULE_BYTES);
        let content = site.run(xz, |_| ()).await?;
        let name = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".xz");
        modules.push((name.to_owned(), content));
    }

    let kernel = tree.join(format!("boot/vmlinuz-{release}"));
    let busybox = tree.join("usr/bin/busybox");
    let (kernel_to, initrd_to) = (site.kernel(), site.initrd());
    site.blocking(move || {
        fs::copy(&kernel, &kernel_to).map_err(ImageError::io(&kernel))?;
        let busybox = fs::read(&busybox).map_err(ImageError::io(&busybox))?;
        let file = File::create(&initrd_to).map_err(ImageError::io(&initrd_to))?;
        write_initrd(file, &busybox, &modules).map_err(ImageError::io(&initrd_to))
    })
    .await
}

/// The one kernel in the tree.
fn kernel_release(modules: &Path) -> Result<String, ImageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(modules).map_err(ImageError::io(modules))? {
        names.push(entry.map_err(ImageError::io(modules))?.file_name());
    }
    match names.as_slice() {
        [name] => Ok(name.to_string_lossy().into_owned()),
        _ => Err(ImageError::UnexpectedOutput {
            tool: "mmdebstrap",
            problem: format!("{} kernels instead of one", names.len()),
        }),
    }
}

/// The files in `modprobe --show-depends` output, each once, in the order to load them.
fn in_load_order(list: &str) -> Result<Vec<&str>, ImageError> {
    let mut paths = Vec::new();
    for line in list.lines() {
        let mut words = line.split_whitespace();
        let path = match (words.next(), words.next()) {
            (Some("builtin"), _) => continue,
            (Some("insmod"), Some(path)) if path.ends_with(".ko.xz") => path,
            _ => {
                let problem = line.to_owned();
                return Err(ImageError::UnexpectedOutput { tool: "modprobe", problem });
            }
        };
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    Ok(paths)
}

fn write_initrd(to: impl Write, busybox: &[u8], modules: &[(String, Vec<u8>)]) -> io::Result<()> {
    let mut archive = Archive::new(BufWriter::new(to));
    for dir in ["bin", "dev", "modules", "proc", "root"] {
        archive.directory(dir)?;
    }
    archive.file("init", 0o755, INIT_SCRIPT.as_bytes())?;
    archive.file("bin/busybox", 0o755, busybox)?;
    let mut order = String::new();
    for (name, content) in modules {
        archive.file(&format!("modules/{name}"), 0o644, content)?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file("modules/order", 0o644, order.as_bytes())?;
    archive.finish()
}

/// Writes a cpio archive in the kernel's "newc" format (see initramfs-buffer-format in the kernel
/// documentation), owned by root and without times, so that equal content gives equal bytes.
struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, 0o040_755, &[])
    }

    fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(path, 0o100_000 | permissions, content)
    }

    fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
        self.entries += 1;
        let inode = self.entries;
        // inode, mode, uid, gid, links, mtime, size, device major and minor, special device major
        // and minor, name size, checksum
        let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.to.write_all(b"070701")?;
        for field in fields {
            write!(self.to, "{field:08X}")?;
        }
        self.to.write_all(path.as_bytes())?;
        self.to.write_all(&[0])?;
        const HEADER: usize = 6 + 13 * 8;
        self.pad(HEADER + path.len() + 1)?;
        self.to.write_all(content)?;
        self.pad(content.len())
    }

    /// Names and contents end on a multiple of four bytes.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_is_loaded_once_after_what_it_needs() {
        let list = "insmod /lib/modules/6/kernel/lib/crc16.ko.xz \n\
                    builtin mbcache\n\
                    insmod /lib/modules/6/kernel/fs/ext4.ko.xz option=1\n\
                    insmod /lib/modules/6/kernel/lib/crc16.ko.xz \n";
        assert_eq!(
            in_load_order(list).unwrap(),
            ["/lib/modules/6/kernel/lib/crc16.ko.xz", "/lib/modules/6/kernel/fs/ext4.ko.xz"]
        );
    }

    #[test]
    fn an_unknown_line_is_not_skipped() {
        for line in ["install /bin/true", "insmod", "insmod /lib/x.ko"] {
            assert!(in_load_order(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_archive_has_the_bytes_of_the_newc_format() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("ab", 0o755, b"hello").unwrap();
        archive.finish().unwrap();
        let expected = concat!(
            "070701",
            "00000001",
            "000081ED",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000003",
            "00000000",
            "ab\0\0\0\0",
            "hello\0\0\0",
            "070701",
            "00000002",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "0000000B",
            "00000000",
            "TRAILER!!!\0\0\0\0",
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
}
