//! What this host offers: a QEMU binary and a way to run guest code.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use crate::QemuError;

/// Oldest QEMU whose behaviour is known to fit.
const OLDEST: (u32, u32) = (7, 2);

/// How guest code is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// Software emulation: works everywhere, about 30 times slower inside the guest.
    Tcg,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        })
    }
}

/// The operator's choice of accelerator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AcceleratorChoice {
    /// KVM where it is usable, else TCG.
    #[default]
    Auto,
    /// This one or none.
    Force(Accelerator),
}

impl FromStr for AcceleratorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "kvm" => Ok(Self::Force(Accelerator::Kvm)),
            "tcg" => Ok(Self::Force(Accelerator::Tcg)),
            other => Err(format!("{other:?} is not an accelerator: use auto, kvm or tcg")),
        }
    }
}

/// Why KVM cannot be used, or nothing.
///
/// A `/dev/kvm` alone proves nothing: some hosts expose one that cannot run an ordinary kernel, so
/// the CPU has to show the extension too.
fn kvm_problem() -> Option<&'static str> {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return Some("/dev/kvm cannot be opened");
    }
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_extension = cpu
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"));
    (!has_extension).then_some("the CPU shows neither vmx nor svm")
}

/// A QEMU that was found to fit, and how it will run guests.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The binary.
    pub path: PathBuf,
    /// As it says itself, for example `7.2.22`. Memory snapshots are bound to it.
    pub version: String,
    /// How guest code is executed.
    pub accelerator: Accelerator,
}

impl Qemu {
    /// Asks the binary for its version and checks the accelerator. Runs one child process.
    pub fn probe(path: &Path, choice: AcceleratorChoice) -> Result<Self, QemuError> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .map_err(|source| QemuError::Missing { path: path.to_owned(), source })?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = parse_version(&text).ok_or_else(|| QemuError::TooOld {
            path: path.to_owned(),
            found: text.lines().next().unwrap_or("silent").to_owned(),
        })?;
        let accelerator = match (choice, kvm_problem()) {
            (AcceleratorChoice::Auto, None) => Accelerator::Kvm,
            (AcceleratorChoice::Auto, Some(_)) => Accelerator::Tcg,
            (AcceleratorChoice::Force(Accelerator::Kvm), Some(problem)) => {
                return Err(QemuError::NoKvm(problem));
            }
            (AcceleratorChoice::Force(forced), _) => forced,
        };
        Ok(Self { path: path.to_owned(), version, accelerator })
    }
}

/// The version, if the text is QEMU's and it is not too old.
fn parse_version(text: &str) -> Option<String> {
    let version = text.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let number = (parts.next()??, parts.next()??);
    (number >= OLDEST).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_old_ones_refused() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(parse_version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 10.0.2").as_deref(), Some("10.0.2"));
        assert_eq!(parse_version("QEMU emulator version 7.1.0"), None);
        assert_eq!(parse_version("bash 5.2"), None);
    }

    #[test]
    fn this_host_has_a_usable_qemu() {
        let qemu = Qemu::probe(Path::new("qemu-system-x86_64"), AcceleratorChoice::Auto).unwrap();
        assert!(!qemu.version.is_empty());
        let missing = Qemu::probe(Path::new("/nonexistent/qemu"), AcceleratorChoice::Auto);
        assert!(matches!(missing, Err(QemuError::Missing { .. })));
        let other = Qemu::probe(Path::new("/bin/true"), AcceleratorChoice::Auto);
        assert!(matches!(other, Err(QemuError::TooOld { .. })));
    }
}
