//! Builds a real image (or takes it from the cache) and looks inside without booting it.
//!
//! The cache is `$FREESTYLE_CACHE_DIR`, or `freestyle` in the user's cache directory. Needs root
//! and a Debian archive the first time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use freestyle_image::{Image, ImageSpec, ensure};
use tokio::sync::OnceCell;

/// The image and what is needed to look into it.
struct Fixture {
    image: Image,
}

async fn fixture() -> &'static Fixture {
    static FIXTURE: OnceCell<Fixture> = OnceCell::const_new();
    FIXTURE
        .get_or_init(async || {
            let inputs = tempfile::tempdir().unwrap();
            // Never run here, so it need not be one: it only has to arrive.
            let agent = inputs.path().join("agent");
            fs::write(&agent, AGENT).unwrap();
            let certificate = inputs.path().join("ca.pem");
            fs::write(&certificate, CERTIFICATE).unwrap();
            let spec =
                ImageSpec { extra_ca_certificates: vec![certificate], ..ImageSpec::new(agent) };
            let image = ensure(&cache_dir(), &spec, |_| ()).await.unwrap();
            assert_eq!(image.hash, spec.hash().unwrap());
            Fixture { image }
        })
        .await
}

fn cache_dir() -> PathBuf {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    var("FREESTYLE_CACHE_DIR").unwrap_or_else(|| {
        let base = var("XDG_CACHE_HOME").or_else(|| var("HOME").map(|home| home.join(".cache")));
        base.expect("HOME is set").join("freestyle")
    })
}

const AGENT: &str = "\x7fELF agent of the contents test";

/// A certificate of a key that no longer exists.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUT5IJdF8RSTacfotDpjVk4lzrfvEwCgYIKoZIzj0EAwIw
IjEgMB4GA1UEAwwXZnJlZXN0eWxlIGNvbnRlbnRzIHRlc3QwIBcNMjYxMTIzMjMw
MDE0WhgPMjEyNjEwMzAyMzAwMTRaMCIxIDAeBgNVBAMMF2ZyZWVzdHlsZSBjb250
ZW50cyB0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDj7BtoG/NI+N+yH
rPysbWqgMuMdgKOYJoVBSujZmTxe5g7CF4oXDrFaUSh05QLW6zlhes7h0PQTigfI
+pF5oKNTMFEwHQYDVR0OBBYEFBNej3h2BlILjONv/aTB6kPc6AlMMB8GA1UdIwQY
MBaAFBNej3h2BlILjONv/aTB6kPc6AlMMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDSQAwRgIhANv3pTC4gogH+RP1kFCfBQD4IxfFSi1JKUSwIeoqmHeoAiEA
uZotMqCAGrZTIQmUzSiVRW4C1Llk6vd2CPU4KXi0Cxg=
-----END CERTIFICATE-----
";

impl Fixture {
    /// Runs one debugfs request and returns what it prints.
    fn debugfs(&self, request: &str) -> String {
        let output = Command::new("debugfs")
            .args(["-R", request])
            .arg(&self.image.rootfs)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .output()
            .expect("debugfs (package e2fsprogs) is installed");
        assert!(output.status.success(), "debugfs {request}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Content of a file that must exist.
    fn read(&self, path: &str) -> String {
        assert!(self.exists(path), "{path} is not in the image");
        self.debugfs(&format!("cat {path}"))
    }

    fn exists(&self, path: &str) -> bool {
        self.debugfs(&format!("stat {path}")).contains("Inode:")
    }

    /// Names in a directory that must exist.
    fn list(&self, path: &str) -> Vec<String> {
        assert!(self.exists(path), "{path} is not in the image");
        // One line per entry: /inode/mode/uid/gid/name/size/
        let listing = self.debugfs(&format!("ls -p {path}"));
        let names = listing.lines().filter_map(|line| line.split('/').nth(5));
        names.filter(|name| !matches!(*name, "" | "." | "..")).map(str::to_owned).collect()
    }

    /// Permission bits and owner, as `0440 0:0`.
    fn owner(&self, path: &str) -> String {
        let stat = self.debugfs(&format!("stat {path}"));
        let field = |name: &str| {
            let rest = stat.split_once(name).expect("debugfs prints the field").1;
            rest.split_whitespace().next().expect("with a value").to_owned()
        };
        format!("{} {}:{}", field("Mode:"), field("User:"), field("Group:"))
    }

    /// Target of a symbolic link.
    fn link(&self, path: &str) -> Option<String> {
        let stat = self.debugfs(&format!("stat {path}"));
        let (_, target) = stat.split_once("Fast link dest: \"")?;
        Some(target.split('"').next()?.to_owned())
    }

    /// Directory of the only kernel's modules.
    fn modules(&self) -> String {
        let releases = self.list("/usr/lib/modules");
        assert_eq!(releases.len(), 1, "{releases:?}");
        format!("/usr/lib/modules/{}", releases[0])
    }
}

#[tokio::test]
async fn the_agent_is_in_place_and_starts_with_the_system() {
    let guest = fixture().await;
    let unit = guest.read("/etc/systemd/system/freestyle-agent.service");
    let agent = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_eq!(guest.read(agent), AGENT);
    assert_eq!(guest.owner(agent), "0755 0:0");
    let enabled = guest.list("/etc/systemd/system").into_iter().any(|name| {
        name.ends_with(".wants")
            && guest.exists(&format!("/etc/systemd/system/{name}/freestyle-agent.service"))
    });
    assert!(enabled, "no target wants the agent");
}

#[tokio::test]
async fn clones_share_no_secret_and_no_identity() {
    let guest = fixture().await;
    let ssh = guest.list("/etc/ssh");
    assert!(!ssh.iter().any(|name| name.starts_with("ssh_host_")), "{ssh:?}");
    assert_eq!(guest.read("/etc/machine-id"), "");
    assert!(!guest.exists("/var/lib/systemd/random-seed"));
    let shadow = guest.read("/etc/shadow");
    for line in shadow.lines() {
        let hash = line.split(':').nth(1).unwrap();
        assert!(hash.starts_with(['*', '!']), "{line} can log in with a password");
    }
}

#[tokio::test]
async fn sshd_takes_keys_only_and_starts_on_demand() {
    let guest = fixture().await;
    assert!(guest.read("/etc/ssh/sshd_config").contains("Include /etc/ssh/sshd_config.d/*.conf"));
    let config = guest.read("/etc/ssh/sshd_config.d/10-freestyle.conf");
    for line in [
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        "AuthorizedKeysCommand /usr/local/bin/fetch-ssh-keys",
        "AuthorizedKeysCommandUser root",
        "PerSourcePenalties no",
    ] {
        assert!(config.lines().any(|found| found == line), "{line}");
    }
    // sshd refuses a command that others could replace.
    assert_eq!(guest.owner("/usr/local/bin/fetch-ssh-keys"), "0755 0:0");
    assert!(guest.exists("/usr/lib/openssh/sftp-server"));
    assert!(guest.exists("/etc/systemd/system/sockets.target.wants/ssh.socket"));
    assert!(!guest.exists("/etc/systemd/system/multi-user.target.wants/ssh.service"));
}

#[tokio::test]
async fn the_kernel_has_what_the_platform_and_containers_need() {
    let guest = fixture().await;
    let release = guest.modules().rsplit('/').next().unwrap().to_owned();
    let config = guest.read(&format!("/boot/config-{release}"));
    for option in ["CONFIG_VMGENID=y", "CONFIG_VIRTIO_PCI=y", "CONFIG_VIRTIO_CONSOLE=y"] {
        assert!(config.lines().any(|found| found == option), "{option}");
    }
    let modules = guest.read(&format!("{}/modules.dep", guest.modules()));
    for module in [
        "fs/ext4/ext4.ko",
        "drivers/block/virtio_blk.ko",
        "drivers/net/virtio_net.ko",
        "fs/overlayfs/overlay.ko",
        "net/bridge/bridge.ko",
        "net/netfilter/nf_tables.ko",
        "drivers/net/veth.ko",
        "drivers/net/tun.ko",
    ] {
        let path = format!("kernel/{module}.xz");
        let line = modules.lines().find(|line| line.starts_with(&path));
        let line = line.unwrap_or_else(|| panic!("{module} is not in modules.dep"));
        // Everything the module needs is there too, though drivers were left out.
        for file in line.replace(':', "").split_whitespace() {
            assert!(guest.exists(&format!("{}/{file}", guest.modules())), "{file} for {module}");
        }
    }
}

#[tokio::test]
async fn the_network_is_static() {
    let guest = fixture().await;
    let commands = guest.read("/etc/freestyle/network");
    assert!(commands.contains("address replace 10.0.0.2/30 dev eth0"), "{commands}");
    assert!(commands.contains("route replace default via 10.0.0.1 metric 100"), "{commands}");
    assert_eq!(guest.read("/etc/resolv.conf"), "nameserver 10.0.0.1\n");
    assert_eq!(guest.read("/etc/hostname"), "freestyle\n");
    let wants = "/etc/systemd/system/multi-user.target.wants";
    assert!(guest.exists(&format!("{wants}/freestyle-network.service")));
}

#[tokio::test]
async fn nothing_wakes_an_idle_clone() {
    let guest = fixture().await;
    let timers = "/etc/systemd/system/timers.target.wants";
    assert!(!guest.exists(timers) || guest.list(timers).is_empty());
    let mask = "/etc/systemd/system/systemd-tmpfiles-clean.timer";
    assert_eq!(guest.link(mask).as_deref(), Some("/dev/null"));
}

#[tokio::test]
async fn apt_can_install_packages() {
    let guest = fixture().await;
    let sources = guest.read("/etc/apt/sources.list");
    for suite in ["trixie", "trixie-updates", "trixie-security"] {
        assert!(sources.contains(&format!(" {suite} main")), "{suite}");
    }
    assert!(guest.exists("/usr/share/keyrings/debian-archive-keyring.gpg"));
}

#[tokio::test]
async fn extra_certificate_authorities_are_trusted() {
    let guest = fixture().await;
    let body = CERTIFICATE.lines().nth(1).unwrap();
    assert!(guest.read("/usr/local/share/ca-certificates/freestyle-0.crt").contains(body));
    assert!(guest.read("/etc/ssl/certs/ca-certificates.crt").contains(body));
}

#[tokio::test]
async fn owners_and_modes_survive() {
    let guest = fixture().await;
    assert_eq!(guest.owner("/etc/sudoers.d/10-freestyle"), "0440 0:0");
    assert_eq!(guest.owner("/usr/bin/sudo"), "04755 0:0");
    assert_eq!(guest.owner("/root"), "0700 0:0");
    assert_eq!(guest.owner("/tmp"), "01777 0:0");
    assert!(guest.owner("/etc/shadow").ends_with("0:42"));
}

#[tokio::test]
async fn the_filesystem_is_clean_and_can_grow() {
    let guest = fixture().await;
    let image = &guest.image;
    let fsck = Command::new("e2fsck").args(["-f", "-n"]).arg(&image.rootfs).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
    assert_eq!(fs::metadata(&image.rootfs).unwrap().len(), image.disk_mib << 20);
    let stats = guest.debugfs("stats -h");
    assert!(stats.contains("resize_inode"), "{stats}");
    let reserved = stats.lines().find(|line| line.starts_with("Reserved GDT blocks:")).unwrap();
    let reserved: u64 = reserved.rsplit(' ').next().unwrap().parse().unwrap();
    // 64 group descriptors of 64 bytes in a block, 128 MiB in a group.
    assert!(reserved * 64 * 128 >= 500 * 1024, "room for {reserved} blocks of descriptors");
}
