//! What an image is made from, and the hashes of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::{ImageError, bootstrap, initrd, rootfs};

/// The Debian release that images are made of unless told otherwise.
pub const DEFAULT_SUITE: &str = "trixie";

/// Raise this when the code that builds images changes what they contain; files that are embedded
/// in the program are hashed by themselves.
const BUILDER_VERSION: u32 = 1;

const MAX_AGENT_BYTES: u64 = 256 << 20;
const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;
const MAX_CERTIFICATES: usize = 64;
const MAX_PACKAGES: usize = 1000;

/// What to build. Two equal specifications with equal files behind them give one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    /// The guest agent's binary, which must run on the image's C library (or be static).
    pub agent: PathBuf,
    /// Debian release, for example `trixie`.
    pub suite: String,
    /// URL of a mirror of the Debian archive, ending in `/debian`; the security archive is taken
    /// from `debian-security` beside it. The build and the guests both use it. `None` leaves the
    /// choice to mmdebstrap: Debian's own servers.
    pub mirror: Option<String>,
    /// PEM files of certificate authorities that guests trust besides the public ones.
    pub extra_ca_certificates: Vec<PathBuf>,
    /// Debian packages that guests have besides the ones of every image. A secret that a package
    /// makes when it is installed is the same in all of them.
    pub packages: Vec<String>,
}

impl ImageSpec {
    /// The default image around the given agent.
    pub fn new(agent: impl Into<PathBuf>) -> Self {
        Self {
            agent: agent.into(),
            suite: DEFAULT_SUITE.to_owned(),
            mirror: None,
            extra_ca_certificates: Vec::new(),
            packages: Vec::new(),
        }
    }

    /// The name of the image this builds: 64 hex digits over all inputs. Reads the agent and the
    /// certificates (blocking).
    pub fn hash(&self) -> Result<String, ImageError> {
        Ok(self.read()?.hash())
    }

    /// Reads every input once, so that what is hashed is what is built.
    pub(crate) fn read(&self) -> Result<Inputs, ImageError> {
        let invalid =
            |what: &str, problem| Err(ImageError::InvalidSpec { what: what.to_owned(), problem });
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !self.suite.starts_with(|c: char| c.is_ascii_lowercase())
            || !self.suite.chars().all(is_name)
        {
            return invalid(&self.suite, "is not the name of a Debian release");
        }
        if let Some(mirror) = &self.mirror {
            let http = mirror.starts_with("http://") || mirror.starts_with("https://");
            if !http
                || !mirror.ends_with("/debian")
                || !mirror.chars().all(|c| c.is_ascii_graphic())
            {
                return invalid(mirror, "is not an HTTP URL of a Debian mirror ending in /debian");
            }
        }
        if self.extra_ca_certificates.len() > MAX_CERTIFICATES {
            return invalid("the list of CA certificates", "is too long");
        }
        if self.packages.len() > MAX_PACKAGES {
            return invalid("the list of packages", "is too long");
        }
        if let Some(name) = self.packages.iter().find(|name| !is_package(name)) {
            return invalid(name, "is not the name of a Debian package");
        }
        let agent = read_bounded(&self.agent, MAX_AGENT_BYTES)?;
        if !agent.starts_with(b"\x7fELF") {
            return invalid(&self.agent.display().to_string(), "is not an ELF binary");
        }
        let mut certificates = Vec::new();
        for path in &self.extra_ca_certificates {
            let pem = read_bounded(path, MAX_CERTIFICATE_BYTES)?;
            let begin = b"-----BEGIN CERTIFICATE-----";
            if !pem.windows(begin.len()).any(|window| window == begin) {
                return invalid(&path.display().to_string(), "holds no PEM certificate");
            }
            certificates.push(pem);
        }
        // A trust store is a set: neither the order nor the files' names make another image.
        certificates.sort();
        certificates.dedup();
        let packages = self.packages.iter().cloned().collect();
        let system = System { suite: self.suite.clone(), mirror: self.mirror.clone(), packages };
        Ok(Inputs { system, agent, certificates })
    }
}

/// Debian Policy 5.6.1.
fn is_package(name: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (2..=128).contains(&name.len())
        && name.starts_with(is_alphanumeric)
        && name.chars().all(|c| is_alphanumeric(c) || "+-.".contains(c))
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let file = File::open(path).map_err(ImageError::io(path))?;
    let metadata = file.metadata().map_err(ImageError::io(path))?;
    let invalid = |problem| ImageError::InvalidSpec { what: path.display().to_string(), problem };
    if !metadata.is_file() {
        return Err(invalid("is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content).map_err(ImageError::io(path))?;
    if content.len() as u64 > limit {
        return Err(invalid("is too large"));
    }
    Ok(content)
}

/// A specification with its files read.
pub(crate) struct Inputs {
    pub(crate) system: System,
    pub(crate) agent: Vec<u8>,
    pub(crate) certificates: Vec<Vec<u8>>,
}

impl Inputs {
    pub(crate) fn hash(&self) -> String {
        let mut hasher = FieldHasher::new("image");
        hasher.field(self.system.key().as_bytes());
        hasher.field(rootfs::CONFIGURE_SCRIPT.as_bytes());
        for file in rootfs::GUEST_FILES {
            hasher.field(file.path.as_bytes());
            hasher.field(&file.mode.to_le_bytes());
            hasher.field(file.content.as_bytes());
        }
        hasher.field(initrd::INIT_SCRIPT.as_bytes());
        hasher.field(initrd::MODULES.join("\n").as_bytes());
        hasher.field(&self.agent);
        for certificate in &self.certificates {
            hasher.field(certificate);
        }
        hasher.finish()
    }
}

/// The part of the inputs that decides which Debian packages are installed.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) suite: String,
    pub(crate) mirror: Option<String>,
    /// Besides [`bootstrap::PACKAGES`].
    pub(crate) packages: BTreeSet<String>,
}

impl System {
    /// The name of the installed system in the cache.
    pub(crate) fn key(&self) -> String {
        let mut hasher = FieldHasher::new("system");
        hasher.field(self.suite.as_bytes());
        hasher.field(self.mirror.as_deref().unwrap_or_default().as_bytes());
        for list in [
            bootstrap::ARGUMENTS,
            bootstrap::PACKAGES,
            bootstrap::EXCLUDED_PATHS,
            bootstrap::INCLUDED_PATHS,
        ] {
            hasher.field(list.join("\n").as_bytes());
        }
        for package in &self.packages {
            hasher.field(package.as_bytes());
        }
        hasher.finish()
    }
}

/// Hashes a sequence of byte strings such that no two sequences feed it the same bytes.
struct FieldHasher(Sha256);

impl FieldHasher {
    fn new(purpose: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.field(purpose.as_bytes());
        hasher.field(&BUILDER_VERSION.to_le_bytes());
        hasher
    }

    fn field(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a String cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n";

    struct Fixture {
        dir: tempfile::TempDir,
        spec: ImageSpec,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        fs::write(&agent, b"\x7fELF one").unwrap();
        Fixture { spec: ImageSpec::new(agent), dir }
    }

    impl Fixture {
        fn certificate(&self, name: &str, content: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }
    }

    #[test]
    fn equal_inputs_give_one_hash_wherever_they_lie() {
        let (one, two) = (fixture(), fixture());
        assert_ne!(one.spec.agent, two.spec.agent);
        assert_eq!(one.spec.hash().unwrap(), two.spec.hash().unwrap());
        assert_eq!(one.spec.hash().unwrap().len(), 64);
    }

    #[test]
    fn every_input_changes_the_hash() {
        let fixture = fixture();
        let mut hashes = vec![fixture.spec.hash().unwrap()];
        let mut changed = |spec: &ImageSpec| {
            let hash = spec.hash().unwrap();
            assert!(!hashes.contains(&hash), "{spec:?} has the hash of another specification");
            hashes.push(hash);
        };

        changed(&ImageSpec { suite: "forky".into(), ..fixture.spec.clone() });
        let mirror = Some("http://mirror.test/debian".into());
        changed(&ImageSpec { mirror, ..fixture.spec.clone() });
        let packages = |list: &[&str]| ImageSpec {
            packages: list.iter().map(ToString::to_string).collect(),
            ..fixture.spec.clone()
        };
        changed(&packages(&["jq"]));
        changed(&packages(&["jq", "tree"]));
        let one = fixture.certificate("one", CERTIFICATE);
        let two = fixture.certificate("two", &format!("{CERTIFICATE}two"));
        let with =
            |extra_ca_certificates| ImageSpec { extra_ca_certificates, ..fixture.spec.clone() };
        changed(&with(vec![one.clone()]));
        changed(&with(vec![two.clone()]));
        changed(&with(vec![one, two]));
        fs::write(&fixture.spec.agent, b"\x7fELF two").unwrap();
        changed(&fixture.spec);
    }

    #[test]
    fn order_and_repetition_of_packages_do_not_matter() {
        let fixture = fixture();
        let hash = |list: &[&str]| {
            let packages = list.iter().map(ToString::to_string).collect();
            ImageSpec { packages, ..fixture.spec.clone() }.hash().unwrap()
        };
        assert_eq!(hash(&["jq", "tree"]), hash(&["tree", "jq", "tree"]));
    }

    #[test]
    fn order_and_repetition_of_certificates_do_not_matter() {
        let fixture = fixture();
        let one = fixture.certificate("one", CERTIFICATE);
        let two = fixture.certificate("two", &format!("{CERTIFICATE}two"));
        let hash = |list: &[&PathBuf]| {
            let extra_ca_certificates = list.iter().map(|path| path.to_path_buf()).collect();
            ImageSpec { extra_ca_certificates, ..fixture.spec.clone() }.hash().unwrap()
        };
        assert_eq!(hash(&[&one, &two]), hash(&[&two, &one, &two]));
    }

    #[test]
    fn only_the_system_decides_what_is_installed() {
        let fixture = fixture();
        let before = fixture.spec.read().unwrap();
        fs::write(&fixture.spec.agent, b"\x7fELF two").unwrap();
        let after = fixture.spec.read().unwrap();
        assert_ne!(before.hash(), after.hash());
        assert_eq!(before.system.key(), after.system.key());
    }

    #[test]
    fn unusable_inputs_are_refused() {
        let fixture = fixture();
        let spec = &fixture.spec;
        let refused = |spec: ImageSpec| {
            assert!(matches!(spec.hash(), Err(ImageError::InvalidSpec { .. })), "{spec:?}");
        };
        for suite in ["", "Trixie", "-x", "trixie main", "../x"] {
            refused(ImageSpec { suite: suite.into(), ..spec.clone() });
        }
        for mirror in ["", "mirror.test/debian", "http://mirror.test", "http://m/ [x] /debian"] {
            refused(ImageSpec { mirror: Some(mirror.into()), ..spec.clone() });
        }
        for package in ["", "j", "Jq", "-y", "jq tree", "jq,tree", "jq=1.7", "jq/sid", "./jq"] {
            refused(ImageSpec { packages: vec![package.into()], ..spec.clone() });
        }
        let not_pem = fixture.certificate("bad", "no certificate");
        refused(ImageSpec { extra_ca_certificates: vec![not_pem], ..spec.clone() });
        refused(ImageSpec { agent: fixture.dir.path().to_owned(), ..spec.clone() });
        fs::write(&spec.agent, "#!/bin/sh").unwrap();
        refused(spec.clone());
    }

    #[test]
    fn a_missing_agent_is_named() {
        let fixture = fixture();
        let agent = fixture.dir.path().join("absent");
        let error = ImageSpec::new(&agent).hash().unwrap_err();
        assert!(matches!(error, ImageError::Io { path, .. } if path == agent));
    }
}
