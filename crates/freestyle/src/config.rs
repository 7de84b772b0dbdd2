//! Options of `serve` and of what else works on a server's files, and the layers they come from:
//! `freestyle.toml`, over it `FREESTYLE_*`, over it flags.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use freestyle_domains::{DomainError, DomainName};
use freestyle_image::ImageSpec;
use freestyle_outbound::{IpNet, WebUrl};
use freestyle_qemu::AcceleratorChoice;
use freestyle_vpc::VpnHost;
use serde::{Deserialize, Deserializer};

use crate::byte_size::ByteSize;
use crate::environment::Environment;
use crate::error::CliError;

/// Read from the working directory when `--config` names no other file.
const DEFAULT_FILE: &str = "freestyle.toml";
const DEFAULT_API_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_GIT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
const DEFAULT_WEBHOOK_RETRY_TIME: Duration = Duration::from_secs(8 * 3600);
const DEFAULT_SSH_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2222);
const DEFAULT_PREVIEW_DOMAIN: &str = "style.localhost";
const DNS_PORT: u16 = 53;
/// VMs kept ready where nothing else is said.
const DEFAULT_POOL_SIZE: usize = 2;
/// Each takes some ten files, so that even the smallest file system has room for as many.
const DEFAULT_REPOS_PER_ACCOUNT: u64 = 100_000;
/// Beside this program where nothing else is said.
const GUEST_AGENT: &str = "freestyle-guest-agent";

/// One layer. Every option is a flag, a variable `FREESTYLE_<NAME>` and a key of the file.
#[derive(Debug, Clone, Default, clap::Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Options {
    /// Where VMs and metadata are kept [default: /var/lib/freestyle]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where base images are kept, which can be built again [default: /var/cache/freestyle]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Address of the API; port 0 is any free port [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    api_listen: Option<SocketAddr>,
    /// Address of the git host; port 0 is any free port [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR:PORT")]
    git_listen: Option<SocketAddr>,
    /// URL under which clients reach the git host, where a proxy stands before it [default: that of
    /// --git-listen]
    #[arg(long, value_name = "URL")]
    git_url: Option<String>,
    /// Network that imports and webhooks may reach although it is not public, e.g. 10.1.0.0/16; repeat
    /// for more
    #[arg(long, value_name = "CIDR")]
    allow_target: Vec<IpNet>,
    /// How long a webhook that fails is tried again, in seconds [default: 28800, 8 hours]
    #[arg(long, value_name = "SECONDS")]
    webhook_retry_time: Option<u64>,
    /// Address of the SSH gateway; port 0 is any free port, and off is none [default: 127.0.0.1:2222]
    #[arg(long, value_name = "ADDR:PORT")]
    ssh_listen: Option<Listen>,
    /// Address of the HTTP server of sites; port 0 is any free port, and off is none
    /// [default: 127.0.0.1:8000, or any free port if that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    edge_http_listen: Option<Listen>,
    /// Address of the HTTPS server of sites; port 0 is any free port, and off is none
    /// [default: 127.0.0.1:8443, or any free port if that is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    edge_https_listen: Option<Listen>,
    /// Names right below this domain may be mapped without a verification; repeat for more
    /// [default: style.localhost]
    #[arg(long, value_name = "DOMAIN")]
    preview_domain: Vec<HostDomain>,
    /// Every VM is reached by its id and this domain, which leads to its port 3000
    /// [default: only by domains that are mapped to it]
    #[arg(long, value_name = "DOMAIN")]
    vm_domain: Option<HostDomain>,
    /// Sites are served beside this server itself: its API at api. and its git host at git. and this
    /// domain, and SSH by the HTTPS server too [default: only at their own addresses]
    #[arg(long, value_name = "DOMAIN")]
    platform_domain: Option<HostDomain>,
    /// Address of the DNS server, UDP and TCP, which answers for verified domains that are delegated to
    /// it; port 0 is any free port [default: off]
    #[arg(long, value_name = "ADDR:PORT")]
    dns_listen: Option<Listen>,
    /// Name of the DNS server in NS records; repeat for more [default: ns1. and the platform's domain,
    /// or else the first preview domain]
    #[arg(long, value_name = "NAME")]
    dns_name: Vec<HostDomain>,
    /// Address at which everybody reaches this server's sites, which the DNS server answers for hosts
    /// that are mapped; repeat for more
    #[arg(long, value_name = "IP")]
    public_address: Vec<IpAddr>,
    /// Directory of a certificate authority that browsers trust, to get certificates from by ACME
    /// [default: an authority of the server's own]
    #[arg(long, value_name = "URL")]
    acme_directory: Option<String>,
    /// UDP address of the VPN into VPCs; port 0 is any free port, and off is none [default:
    /// 127.0.0.1:51820, or a free port if that one is taken]
    #[arg(long, value_name = "ADDR:PORT")]
    wireguard_listen: Option<Listen>,
    /// Host name or address by which VPN clients reach it [default: the address it listens on, or
    /// the host that the API was called by]
    #[arg(long, value_name = "HOST")]
    wireguard_host: Option<String>,
    /// Write a JSON object with addresses and the API key here once everything answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// DNS server for verifying domains and, at port 53, for VMs; repeat for more [default: those of
    /// this host]
    #[arg(long, value_name = "ADDR[:PORT]")]
    dns_resolver: Vec<DnsServer>,
    /// VMs kept ready, so that creating one is quick [default: 2]
    #[arg(long, value_name = "N")]
    pool_size: Option<usize>,
    /// Size to which the data directory may grow before sticky VMs and snapshots are removed, e.g.
    /// 200GB [default: no limit]
    #[arg(long, value_name = "SIZE")]
    disk_budget: Option<ByteSize>,
    /// How VMs run: hardware (kvm), software (tcg), or whichever works (auto) [default: auto]
    #[arg(long, value_name = "HOW")]
    #[serde(deserialize_with = "accelerator")]
    accel: Option<AcceleratorChoice>,
    /// The git to use, 2.36 or newer [default: git of the PATH]
    #[arg(long, value_name = "PATH")]
    git: Option<PathBuf>,
    /// Repositories that one account may have [default: 100000]
    #[arg(long, value_name = "N")]
    repos_per_account: Option<u64>,
    /// The QEMU to use [default: qemu-system-x86_64 of the PATH]
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Agent to put into the base image [default: freestyle-guest-agent beside this program]
    #[arg(long, value_name = "FILE")]
    guest_agent: Option<PathBuf>,
    /// PEM file of a certificate authority that VMs trust; repeat for more
    #[arg(long, value_name = "FILE")]
    ca_certificate: Vec<PathBuf>,
    /// Debian mirror for the base image and VMs, ending in /debian [default: Debian's own]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Debian package that every VM has from the start; repeat for more
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
}

/// The options of a command that only builds the base image.
#[derive(Debug, clap::Args)]
pub(crate) struct ImageOptions {
    /// Where base images are kept [default: /var/cache/freestyle]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Agent to put into the image [default: freestyle-guest-agent beside this program]
    #[arg(long, value_name = "FILE")]
    guest_agent: Option<PathBuf>,
    /// PEM file of a certificate authority that VMs trust; repeat for more
    #[arg(long, value_name = "FILE")]
    ca_certificate: Vec<PathBuf>,
    /// Debian mirror for the image and VMs, ending in /debian [default: Debian's own]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
    /// Debian package that every VM has from the start; repeat for more
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
}

impl From<ImageOptions> for Options {
    fn from(options: ImageOptions) -> Self {
        let ImageOptions { cache_dir, guest_agent, ca_certificate, mirror, package } = options;
        Self { cache_dir, guest_agent, ca_certificate, mirror, package, ..Self::default() }
    }
}

fn accelerator<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<AcceleratorChoice>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// Where a part of the server that may be left out listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    /// Nowhere.
    Off,
    /// At this address; port 0 is any free port.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| "it is neither an address and port nor off".to_owned())
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A DNS server, by its address and the port, which is 53 where it is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DnsServer(SocketAddr);

impl FromStr for DnsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_default = || Some(SocketAddr::new(text.parse().ok()?, DNS_PORT));
        let server = text.parse().ok().or_else(with_default);
        server
            .map(Self)
            .ok_or_else(|| "it is neither an address nor an address and port".to_owned())
    }
}

impl<'de> Deserialize<'de> for DnsServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A domain or host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostDomain(DomainName);

impl FromStr for HostDomain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        DomainName::parse(text).map(Self)
    }
}

impl<'de> Deserialize<'de> for HostDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What `serve` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) api_listen: SocketAddr,
    pub(crate) git_listen: SocketAddr,
    pub(crate) git_url: Option<String>,
    pub(crate) allowed_targets: Vec<IpNet>,
    pub(crate) webhook_retry_time: Duration,
    pub(crate) ssh_listen: Listen,
    /// `None` is the default.
    pub(crate) edge_http_listen: Option<Listen>,
    /// `None` is the default.
    pub(crate) edge_https_listen: Option<Listen>,
    pub(crate) preview_domains: Vec<DomainName>,
    pub(crate) vm_domain: Option<DomainName>,
    pub(crate) platform_domain: Option<DomainName>,
    pub(crate) dns_listen: Listen,
    pub(crate) dns_names: Vec<DomainName>,
    pub(crate) public_addresses: Vec<IpAddr>,
    pub(crate) acme_directory: Option<String>,
    /// `None` where nothing is said.
    pub(crate) wireguard_listen: Option<Listen>,
    pub(crate) wireguard_host: Option<VpnHost>,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) dns_resolvers: Vec<SocketAddr>,
    pub(crate) pool_size: usize,
    /// Bytes.
    pub(crate) disk_budget: Option<u64>,
    pub(crate) accelerator: AcceleratorChoice,
    pub(crate) git: PathBuf,
    pub(crate) repos_per_account: u64,
    pub(crate) qemu: PathBuf,
    /// The base image of new VMs.
    pub(crate) image: ImageSpec,
}

impl Config {
    /// Puts the layers together. `file` must exist if it is given.
    pub(crate) fn load(
        flags: Options,
        environment: &Environment,
        file: Option<&Path>,
    ) -> Result<Self, CliError> {
        let file = match file {
            Some(path) => Some(path.to_owned()),
            None => environment.get("FREESTYLE_CONFIG")?.map(PathBuf::from),
        };
        let options = flags.or(from_environment(environment)?).or(from_file(file.as_deref())?);
        let wireguard_host = options.wireguard_host.map(|host| host.parse::<VpnHost>());
        let wireguard_host = wireguard_host
            .transpose()
            .map_err(|error| CliError::new(format!("wireguard-host: {error}")))?;
        let preview_domains = preview_domains(options.preview_domain)?;
        let vm_domain = options.vm_domain.map(|HostDomain(domain)| domain);
        if let Some(domain) = vm_domain.as_ref().filter(|it| preview_domains.contains(it)) {
            let message =
                format!("vm-domain: previews are below {domain}; VMs need another domain");
            return Err(CliError::new(message));
        }
        let guest_agent = match options.guest_agent {
            Some(agent) => agent,
            None => std::env::current_exe()?.with_file_name(GUEST_AGENT),
        };
        Ok(Self {
            data_dir: options.data_dir.unwrap_or_else(|| "/var/lib/freestyle".into()),
            cache_dir: options.cache_dir.unwrap_or_else(|| "/var/cache/freestyle".into()),
            api_listen: options.api_listen.unwrap_or(DEFAULT_API_LISTEN),
            git_listen: options.git_listen.unwrap_or(DEFAULT_GIT_LISTEN),
            git_url: options.git_url.map(git_url).transpose()?,
            allowed_targets: options.allow_target,
            webhook_retry_time: options
                .webhook_retry_time
                .map_or(DEFAULT_WEBHOOK_RETRY_TIME, Duration::from_secs),
            ssh_listen: options.ssh_listen.unwrap_or(Listen::At(DEFAULT_SSH_LISTEN)),
            edge_http_listen: options.edge_http_listen,
            edge_https_listen: options.edge_https_listen,
            preview_domains,
            vm_domain,
            platform_domain: options.platform_domain.map(|HostDomain(domain)| domain),
            dns_listen: options.dns_listen.unwrap_or(Listen::Off),
            dns_names: options.dns_name.into_iter().map(|HostDomain(name)| name).collect(),
            public_addresses: options.public_address,
            acme_directory: options.acme_directory.map(acme_directory).transpose()?,
            wireguard_listen: options.wireguard_listen,
            wireguard_host,
            ready_file: options.ready_file,
            dns_resolvers: options.dns_resolver.into_iter().map(|DnsServer(it)| it).collect(),
            pool_size: options.pool_size.unwrap_or(DEFAULT_POOL_SIZE),
            disk_budget: options.disk_budget.map(|ByteSize(bytes)| bytes),
            accelerator: options.accel.unwrap_or_default(),
            git: options.git.unwrap_or_else(|| "git".into()),
            repos_per_account: options.repos_per_account.unwrap_or(DEFAULT_REPOS_PER_ACCOUNT),
            qemu: options.qemu.unwrap_or_else(|| "qemu-system-x86_64".into()),
            image: ImageSpec {
                mirror: options.mirror,
                extra_ca_certificates: options.ca_certificate,
                packages: options.package,
                ..ImageSpec::new(guest_agent)
            },
        })
    }

    /// The private keys that webhooks are signed with.
    pub(crate) fn webhook_keys_file(&self) -> PathBuf {
        self.data_dir.join("webhook-keys.json")
    }

    /// The DNS servers that VMs can be sent to; none are those of this host.
    pub(crate) fn resolvers_of_vms(&self) -> Vec<IpAddr> {
        let usable = self.dns_resolvers.iter().filter(|server| server.port() == DNS_PORT);
        usable.map(SocketAddr::ip).collect()
    }

    /// The database with everything that is remembered.
    pub(crate) fn metadata_file(&self) -> PathBuf {
        self.data_dir.join("metadata.sqlite3")
    }
}

impl Options {
    /// The layer of a command that needs to know nothing but where the files are.
    pub(crate) fn with_data_dir(data_dir: Option<PathBuf>) -> Self {
        Self { data_dir, ..Self::default() }
    }

    fn or(self, below: Self) -> Self {
        fn or<T>(list: Vec<T>, below: Vec<T>) -> Vec<T> {
            if list.is_empty() { below } else { list }
        }
        Self {
            data_dir: self.data_dir.or(below.data_dir),
            cache_dir: self.cache_dir.or(below.cache_dir),
            api_listen: self.api_listen.or(below.api_listen),
            git_listen: self.git_listen.or(below.git_listen),
            git_url: self.git_url.or(below.git_url),
            allow_target: or(self.allow_target, below.allow_target),
            webhook_retry_time: self.webhook_retry_time.or(below.webhook_retry_time),
            ssh_listen: self.ssh_listen.or(below.ssh_listen),
            edge_http_listen: self.edge_http_listen.or(below.edge_http_listen),
            edge_https_listen: self.edge_https_listen.or(below.edge_https_listen),
            preview_domain: or(self.preview_domain, below.preview_domain),
            vm_domain: self.vm_domain.or(below.vm_domain),
            platform_domain: self.platform_domain.or(below.platform_domain),
            dns_listen: self.dns_listen.or(below.dns_listen),
            dns_name: or(self.dns_name, below.dns_name),
            public_address: or(self.public_address, below.public_address),
            acme_directory: self.acme_directory.or(below.acme_directory),
            wireguard_listen: self.wireguard_listen.or(below.wireguard_listen),
            wireguard_host: self.wireguard_host.or(below.wireguard_host),
            ready_file: self.ready_file.or(below.ready_file),
            dns_resolver: or(self.dns_resolver, below.dns_resolver),
            pool_size: self.pool_size.or(below.pool_size),
            disk_budget: self.disk_budget.or(below.disk_budget),
            accel: self.accel.or(below.accel),
            git: self.git.or(below.git),
            repos_per_account: self.repos_per_account.or(below.repos_per_account),
            qemu: self.qemu.or(below.qemu),
            guest_agent: self.guest_agent.or(below.guest_agent),
            ca_certificate: or(self.ca_certificate, below.ca_certificate),
            mirror: self.mirror.or(below.mirror),
            package: or(self.package, below.package),
        }
    }
}

/// Checked, and without a slash at its end.
fn git_url(text: String) -> Result<String, CliError> {
    match text.parse::<WebUrl>() {
        Ok(url) if url.credentials().is_none() && !url.path_and_query().contains('?') => {
            Ok(url.to_string().trim_end_matches('/').to_owned())
        }
        Ok(_) => Err(CliError::new(format!("git-url={text}: only scheme, host, port and path"))),
        Err(error) => Err(CliError::new(format!("git-url={text}: {error}"))),
    }
}

fn from_environment(environment: &Environment) -> Result<Options, CliError> {
    let path = |name| Ok::<_, CliError>(environment.get(name)?.map(PathBuf::from));
    Ok(Options {
        data_dir: path("FREESTYLE_DATA_DIR")?,
        cache_dir: path("FREESTYLE_CACHE_DIR")?,
        api_listen: environment.parse("FREESTYLE_API_LISTEN")?,
        git_listen: environment.parse("FREESTYLE_GIT_LISTEN")?,
        git_url: environment.get("FREESTYLE_GIT_URL")?,
        allow_target: environment.parse_list("FREESTYLE_ALLOW_TARGET", ',')?,
        webhook_retry_time: environment.parse("FREESTYLE_WEBHOOK_RETRY_TIME")?,
        ssh_listen: environment.parse("FREESTYLE_SSH_LISTEN")?,
        edge_http_listen: environment.parse("FREESTYLE_EDGE_HTTP_LISTEN")?,
        edge_https_listen: environment.parse("FREESTYLE_EDGE_HTTPS_LISTEN")?,
        preview_domain: environment.parse_list("FREESTYLE_PREVIEW_DOMAIN", ',')?,
        vm_domain: environment.parse("FREESTYLE_VM_DOMAIN")?,
        platform_domain: environment.parse("FREESTYLE_PLATFORM_DOMAIN")?,
        dns_listen: environment.parse("FREESTYLE_DNS_LISTEN")?,
        dns_name: environment.parse_list("FREESTYLE_DNS_NAME", ',')?,
        public_address: environment.parse_list("FREESTYLE_PUBLIC_ADDRESS", ',')?,
        acme_directory: environment.get("FREESTYLE_ACME_DIRECTORY")?,
        wireguard_listen: environment.parse("FREESTYLE_WIREGUARD_LISTEN")?,
        wireguard_host: environment.get("FREESTYLE_WIREGUARD_HOST")?,
        ready_file: path("FREESTYLE_READY_FILE")?,
        dns_resolver: environment.parse_list("FREESTYLE_DNS_RESOLVER", ',')?,
        pool_size: environment.parse("FREESTYLE_POOL_SIZE")?,
        disk_budget: environment.parse("FREESTYLE_DISK_BUDGET")?,
        accel: environment.parse("FREESTYLE_ACCEL")?,
        git: path("FREESTYLE_GIT")?,
        repos_per_account: environment.parse("FREESTYLE_REPOS_PER_ACCOUNT")?,
        qemu: path("FREESTYLE_QEMU")?,
        guest_agent: path("FREESTYLE_GUEST_AGENT")?,
        // As in PATH: a comma may be part of a file's name.
        ca_certificate: environment.parse_list("FREESTYLE_CA_CERTIFICATE", ':')?,
        mirror: environment.get("FREESTYLE_MIRROR")?,
        package: environment.parse_list("FREESTYLE_PACKAGE", ',')?,
    })
}

fn from_file(path: Option<&Path>) -> Result<Options, CliError> {
    let read = path.unwrap_or(DEFAULT_FILE.as_ref());
    let text = match fs::read_to_string(read) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Options::default());
        }
        Err(error) => {
            return Err(CliError::new(format!("cannot read {}: {error}", read.display())));
        }
    };
    toml::from_str(&text).map_err(|error| CliError::new(format!("{}: {error}", read.display())))
}

fn preview_domains(given: Vec<HostDomain>) -> Result<Vec<DomainName>, CliError> {
    if given.is_empty() {
        let default = DomainName::parse(DEFAULT_PREVIEW_DOMAIN);
        return Ok(vec![default.map_err(|error| CliError::new(error.to_string()))?]);
    }
    Ok(given.into_iter().map(|HostDomain(domain)| domain).collect())
}

fn acme_directory(url: String) -> Result<String, CliError> {
    if url.starts_with("https://") {
        return Ok(url);
    }
    let message = format!("--acme-directory {url:?} is no https:// URL");
    let hint = "Let's Encrypt is https://acme-v02.api.letsencrypt.org/directory";
    Err(CliError::with_hint(message, hint))
}

#[cfg(test)]
mod tests {
    use freestyle_qemu::Accelerator;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_beat_variables_and_variables_beat_the_file() {
        let file =
            file("pool-size = 1\naccel = \"kvm\"\nqemu = \"/file/qemu\"\ndisk-budget = \"2GB\"\n");
        let environment =
            Environment::of(&[("FREESTYLE_POOL_SIZE", "2"), ("FREESTYLE_ACCEL", "tcg")]);
        let flags = Options { pool_size: Some(3), ..Options::default() };
        let config = Config::load(flags, &environment, Some(file.path())).unwrap();
        assert_eq!(config.pool_size, 3);
        assert_eq!(config.accelerator, AcceleratorChoice::Force(Accelerator::Tcg));
        assert_eq!(config.qemu, Path::new("/file/qemu"));
        assert_eq!(config.disk_budget, Some(2 << 30));
        assert_eq!(config.data_dir, Path::new("/var/lib/freestyle"));
        assert_eq!(config.api_listen, DEFAULT_API_LISTEN);
    }

    #[test]
    fn a_listener_may_be_left_out() {
        for (text, expected) in [
            ("", Listen::At(DEFAULT_SSH_LISTEN)),
            ("ssh-listen = \"off\"", Listen::Off),
            ("ssh-listen = \"0.0.0.0:22\"", Listen::At("0.0.0.0:22".parse().unwrap())),
        ] {
            let file = file(text);
            let config = Config::load(Options::default(), &Environment::of(&[]), Some(file.path()));
            assert_eq!(config.unwrap().ssh_listen, expected, "{text}");
        }
    }

    #[test]
    fn dns_servers_at_other_ports_are_not_for_vms() {
        let file =
            file("dns-resolver = [\"127.0.0.1:5300\", \"192.0.2.1\", \"[2001:db8::1]:53\"]\n");
        let config =
            Config::load(Options::default(), &Environment::of(&[]), Some(file.path())).unwrap();
        let (all, of_vms) = (config.dns_resolvers.iter(), config.resolvers_of_vms());
        let all: Vec<_> = all.map(ToString::to_string).collect();
        assert_eq!(all, ["127.0.0.1:5300", "192.0.2.1:53", "[2001:db8::1]:53"]);
        let of_vms: Vec<_> = of_vms.iter().map(ToString::to_string).collect();
        assert_eq!(of_vms, ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn previews_are_below_style_localhost_unless_something_else_is_said() {
        for (text, expected) in [
            ("", &["style.localhost"][..]),
            (
                "preview-domain = [\"Apps.example.com\", \"b.example\"]",
                &["apps.example.com", "b.example"],
            ),
        ] {
            let file = file(text);
            let config = Config::load(Options::default(), &Environment::of(&[]), Some(file.path()));
            let domains = config.unwrap().preview_domains;
            let domains: Vec<_> = domains.iter().map(DomainName::as_str).collect();
            assert_eq!(domains, expected);
        }
    }

    #[test]
    fn lists_are_replaced_and_not_joined() {
        let file = file("dns-resolver = [\"192.0.2.1\"]\n");
        let environment = Environment::of(&[("FREESTYLE_DNS_RESOLVER", "192.0.2.2, 192.0.2.3")]);
        let config = Config::load(Options::default(), &environment, Some(file.path())).unwrap();
        let resolvers: Vec<_> = config.dns_resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers, ["192.0.2.2:53", "192.0.2.3:53"]);
    }

    #[test]
    fn what_the_file_may_not_hold_is_named() {
        for (text, named) in [
            ("pool-sise = 1", "pool-sise"),
            ("pool_size = 1", "pool_size"),
            ("api-listen = \"8080\"", "api-listen"),
            ("ssh-listen = \"on\"", "ssh-listen"),
            ("wireguard-listen = \"on\"", "wireguard-listen"),
            ("wireguard-host = \"a b\"", "wireguard-host"),
            ("dns-resolver = [\"dns.example\"]", "dns-resolver"),
            ("dns-listen = \"53\"", "dns-listen"),
            ("dns-name = [\"ns1\"]", "ns1"),
            ("public-address = [\"example.com\"]", "public-address"),
            ("edge-http-listen = \"80\"", "edge-http-listen"),
            ("preview-domain = [\"localhost\"]", "localhost"),
            ("vm-domain = \"vm\"", "vm-domain"),
            ("vm-domain = \"style.localhost\"", "vm-domain"),
            ("platform-domain = \"https://example.com\"", "example.com"),
            ("acme-directory = \"http://ca.example\"", "acme-directory"),
            ("accel = \"xen\"", "xen"),
            ("disk-budget = 100", "disk-budget"),
            ("disk-budget = \"100\"", "disk-budget"),
            ("allow-target = [\"10.0.0.300/8\"]", "allow-target"),
            ("git-url = \"git.example.com\"", "git-url"),
        ] {
            let file = file(text);
            let error = Config::load(Options::default(), &Environment::of(&[]), Some(file.path()));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_asked_for_must_exist() {
        let missing = Path::new("/nonexistent/freestyle.toml");
        let config = Config::load(Options::default(), &Environment::of(&[]), Some(missing));
        assert!(config.unwrap_err().to_string().contains("cannot read"));
    }
}
