//! Options of `serve` and of what else works on a server's files, and the layers they come from:
//! `freestyle.toml`, over it `FREESTYLE_*`, over it flags.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::Deserialize;

use crate::environment::Environment;
use crate::error::CliError;

/// Read from the working directory when `--config` names no other file.
const DEFAULT_FILE: &str = "freestyle.toml";
const DEFAULT_API_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const DNS_PORT: u16 = 53;

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
    /// Write a JSON object with addresses and the API key here once everything answers
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// DNS server for VMs; repeat for more [default: those of this host]
    #[arg(long, value_name = "ADDR")]
    dns_resolver: Vec<Resolver>,
    /// VMs kept ready, so that creating one is quick
    #[arg(long, value_name = "N")]
    pool_size: Option<usize>,
    /// How VMs run: hardware (kvm), software (tcg), or whichever works [default: auto]
    #[arg(long, value_name = "HOW")]
    accel: Option<Accel>,
    /// The QEMU to use [default: qemu-system-x86_64 of the PATH]
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
}

/// How VMs run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accel {
    /// KVM where it works, else software.
    #[default]
    Auto,
    /// Hardware virtualization.
    Kvm,
    /// Software.
    Tcg,
}

impl FromStr for Accel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as ValueEnum>::from_str(text, false).map_err(|_| "not auto, kvm or tcg".to_owned())
    }
}

/// A DNS server: an address, with a port where it is not 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Resolver(pub(crate) SocketAddr);

impl FromStr for Resolver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
        let address = address.or_else(|_| text.parse());
        address.map(Self).map_err(|_| format!("{text:?} is not an IP address"))
    }
}

impl TryFrom<String> for Resolver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What `serve` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) cache_dir: PathBuf,
    pub(crate) api_listen: SocketAddr,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) dns_resolvers: Vec<SocketAddr>,
    /// The VM service's own where absent.
    pub(crate) pool_size: Option<usize>,
    pub(crate) accel: Accel,
    pub(crate) qemu: PathBuf,
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
        Ok(Self {
            data_dir: options.data_dir.unwrap_or_else(|| "/var/lib/freestyle".into()),
            cache_dir: options.cache_dir.unwrap_or_else(|| "/var/cache/freestyle".into()),
            api_listen: options.api_listen.unwrap_or(DEFAULT_API_LISTEN),
            ready_file: options.ready_file,
            dns_resolvers: options.dns_resolver.into_iter().map(|Resolver(at)| at).collect(),
            pool_size: options.pool_size,
            accel: options.accel.unwrap_or_default(),
            qemu: options.qemu.unwrap_or_else(|| "qemu-system-x86_64".into()),
        })
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
        let Self {
            data_dir,
            cache_dir,
            api_listen,
            ready_file,
            dns_resolver,
            pool_size,
            accel,
            qemu,
        } = self;
        Self {
            data_dir: data_dir.or(below.data_dir),
            cache_dir: cache_dir.or(below.cache_dir),
            api_listen: api_listen.or(below.api_listen),
            ready_file: ready_file.or(below.ready_file),
            dns_resolver: if dns_resolver.is_empty() { below.dns_resolver } else { dns_resolver },
            pool_size: pool_size.or(below.pool_size),
            accel: accel.or(below.accel),
            qemu: qemu.or(below.qemu),
        }
    }
}

fn from_environment(environment: &Environment) -> Result<Options, CliError> {
    let resolvers = environment.get("FREESTYLE_DNS_RESOLVER")?.unwrap_or_default();
    let resolvers = resolvers.split(',').map(str::trim).filter(|text| !text.is_empty());
    let resolvers = resolvers.map(str::parse).collect::<Result<_, _>>();
    Ok(Options {
        data_dir: environment.get("FREESTYLE_DATA_DIR")?.map(Into::into),
        cache_dir: environment.get("FREESTYLE_CACHE_DIR")?.map(Into::into),
        api_listen: environment.parse("FREESTYLE_API_LISTEN")?,
        ready_file: environment.get("FREESTYLE_READY_FILE")?.map(Into::into),
        dns_resolver: resolvers
            .map_err(|error| CliError::new(format!("FREESTYLE_DNS_RESOLVER: {error}")))?,
        pool_size: environment.parse("FREESTYLE_POOL_SIZE")?,
        accel: environment.parse("FREESTYLE_ACCEL")?,
        qemu: environment.get("FREESTYLE_QEMU")?.map(Into::into),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn flags_beat_variables_and_variables_beat_the_file() {
        let file = file("pool-size = 1\naccel = \"kvm\"\nqemu = \"/file/qemu\"\n");
        let environment =
            Environment::of(&[("FREESTYLE_POOL_SIZE", "2"), ("FREESTYLE_ACCEL", "tcg")]);
        let flags = Options { pool_size: Some(3), ..Options::default() };
        let config = Config::load(flags, &environment, Some(file.path())).unwrap();
        assert_eq!(config.pool_size, Some(3));
        assert_eq!(config.accel, Accel::Tcg);
        assert_eq!(config.qemu, Path::new("/file/qemu"));
        assert_eq!(config.data_dir, Path::new("/var/lib/freestyle"));
        assert_eq!(config.api_listen, DEFAULT_API_LISTEN);
    }

    #[test]
    fn lists_are_replaced_and_not_joined() {
        let file = file("dns-resolver = [\"192.0.2.1\"]\n");
        let environment =
            Environment::of(&[("FREESTYLE_DNS_RESOLVER", "192.0.2.2, [2001:db8::1]:5353")]);
        let config = Config::load(Options::default(), &environment, Some(file.path())).unwrap();
        let resolvers: Vec<_> = config.dns_resolvers.iter().map(ToString::to_string).collect();
        assert_eq!(resolvers, ["192.0.2.2:53", "[2001:db8::1]:5353"]);
    }

    #[test]
    fn what_the_file_may_not_hold_is_named() {
        for (text, named) in [
            ("pool-sise = 1", "pool-sise"),
            ("pool_size = 1", "pool_size"),
            ("api-listen = \"8080\"", "api-listen"),
            ("dns-resolver = [\"dns.example\"]", "dns.example"),
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
