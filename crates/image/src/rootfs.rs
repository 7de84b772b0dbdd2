//! Stage two: the installed system becomes a freestyle guest.
//!
//! What is put in place lies in this crate's folder `rootfs/`, at the path it has in the guest;
//! what is switched on and off is in `configure.sh`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ImageError;
use crate::command::Tool;
use crate::site::Site;
use crate::spec::Inputs;

const AGENT_UNIT: &str = include_str!("../../guest-agent/freestyle-agent.service");
const CERTIFICATES_PATH: &str = "usr/local/share/ca-certificates";

const UNPACK_LIMIT: Duration = Duration::from_secs(600);
const CONFIGURE_LIMIT: Duration = Duration::from_secs(300);

/// Runs in the tree when all files are in place.
pub(crate) const CONFIGURE_SCRIPT: &str = include_str!("configure.sh");

/// A file that every guest has.
pub(crate) struct GuestFile {
    /// Without the leading slash.
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    pub(crate) content: &'static str,
}

macro_rules! guest_file {
    ($mode:literal, $path:literal) => {
        GuestFile { path: $path, mode: $mode, content: include_str!(concat!("../rootfs/", $path)) }
    };
}

pub(crate) const GUEST_FILES: &[GuestFile] = &[
    guest_file!(0o644, "etc/apt/apt.conf.d/99-freestyle"),
    guest_file!(0o644, "etc/freestyle/network"),
    guest_file!(0o644, "etc/fstab"),
    guest_file!(0o644, "etc/hostname"),
    guest_file!(0o644, "etc/hosts"),
    guest_file!(0o644, "etc/locale.conf"),
    guest_file!(0o644, "etc/resolv.conf"),
    guest_file!(0o644, "etc/ssh/sshd_config.d/10-freestyle.conf"),
    guest_file!(0o440, "etc/sudoers.d/10-freestyle"),
    guest_file!(0o644, "etc/sysctl.d/10-freestyle.conf"),
    guest_file!(0o644, "etc/systemd/journald.conf.d/10-freestyle.conf"),
    guest_file!(0o644, "etc/systemd/system/freestyle-network.service"),
    guest_file!(0o644, "etc/systemd/system/ssh.service.d/10-freestyle.conf"),
    guest_file!(0o644, "etc/systemd/system/systemd-udev-trigger.service.d/10-freestyle.conf"),
    guest_file!(0o755, "usr/local/bin/fetch-ssh-keys"),
    GuestFile {
        path: "etc/systemd/system/freestyle-agent.service",
        mode: 0o644,
        content: AGENT_UNIT,
    },
];

/// Where the agent goes, without the leading slash: its unit alone decides that.
fn agent_path() -> &'static str {
    let mut lines = AGENT_UNIT.lines();
    lines.find_map(|line| line.strip_prefix("ExecStart=/")).expect("a test looks at the unit")
}

/// Unpacks the installed system and returns its directory.
pub(crate) async fn unpack(site: &Site, archive: &Path) -> Result<PathBuf, ImageError> {
    let tree = site.scratch().join("tree");
    let created = tree.clone();
    site.blocking(move || fs::create_dir(&created).map_err(ImageError::io(&created))).await?;
    let tar = Tool::on_host("tar", UNPACK_LIMIT)
        .args(["--extract", "--numeric-owner", "--same-permissions", "--same-owner"])
        .args(["--xattrs", "--xattrs-include=*"])
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(&tree);
    let result = site.run(tar, |_| ()).await;
    if let Err(ImageError::Tool { .. }) = result {
        // Most likely the archive is damaged; the next build shall not meet it again.
        tracing::warn!(archive = %archive.display(), "removing an archive that does not unpack");
        let archive = archive.to_owned();
        site.blocking(move || fs::remove_file(&archive).map_err(ImageError::io(&archive))).await?;
    }
    result?;
    Ok(tree)
}

/// Puts the guest's files, the agent and the certificates in place and runs the script.
pub(crate) async fn configure(site: &Site, tree: &Path, inputs: &Inputs) -> Result<(), ImageError> {
    let root = tree.to_owned();
    let agent = inputs.agent.clone();
    let certificates = inputs.certificates.clone();
    site.blocking(move || {
        for file in GUEST_FILES {
            install(&root.join(file.path), file.mode, file.content.as_bytes())?;
        }
        install(&root.join(agent_path()), 0o755, &agent)?;
        for (index, certificate) in certificates.iter().enumerate() {
            let name = format!("freestyle-{index}.crt");
            install(&root.join(CERTIFICATES_PATH).join(name), 0o644, certificate)?;
        }
        Ok(())
    })
    .await?;
    let script = Tool::in_tree(tree, "sh", CONFIGURE_LIMIT).args(["-euc", CONFIGURE_SCRIPT]);
    site.run(script, |line| tracing::debug!(line, "configuring")).await?;
    Ok(())
}

/// Writes a file anew, whatever (a link, say) has its name now.
fn install(path: &Path, mode: u32, content: &[u8]) -> Result<(), ImageError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(ImageError::io(dir))?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ImageError::io(path)(error));
        }
        _ => fs::write(path, content).map_err(ImageError::io(path))?,
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(ImageError::io(path))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_unit_starts_the_agent_by_its_path() {
        assert!(super::agent_path().ends_with("/freestyle-guest-agent"));
    }
}
