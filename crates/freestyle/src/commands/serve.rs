//! `freestyle serve`: puts the services together, says how to reach them, and ends in good order.
//! VMs run on when it ends; the next start finds them.

mod dns;
mod edge;
mod first_start;
mod lock;
mod operator;
mod private_file;
mod ready;
mod ssh;
mod vpn;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use freestyle_access::Access;
use freestyle_api::{ApiState, GitHostState};
use freestyle_github::GitHub;
use freestyle_image::Progress;
use freestyle_outbound::Outbound;
use freestyle_repos::Repos;
use freestyle_store::Store;
use freestyle_vm::VmService;
use freestyle_webhooks::Webhooks;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

use super::server_runtime;
use crate::config::{Config, Listen, Options};
use crate::environment::Environment;
use crate::error::CliError;
use crate::operator::OperatorSocket;

use self::dns::AllZones;
pub(crate) use self::edge::folder as edge_folder;
use self::edge::{Listeners, Sites};
use self::first_start::AdminKey;
use self::lock::DataDirLock;
use self::operator::Witnesses;
use self::ready::Ready;
use self::ssh::Ssh;

/// SSH connections of the HTTPS listener that the gateway has not taken yet.
const SSH_HANDED_OVER: usize = 64;

/// Options of `freestyle serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each option is also a key of freestyle.toml (data-dir = \"...\") and a variable
(FREESTYLE_DATA_DIR). A flag beats the variable, the variable beats the file.

Examples:
  freestyle serve
  freestyle serve --data-dir /srv/freestyle --api-listen 0.0.0.0:8080")]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
    /// Configuration file [default: freestyle.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<(), CliError> {
    let config = Config::load(args.options, environment, args.config.as_deref())?;
    start_logging(environment)?;
    let _lock = DataDirLock::acquire(&config.data_dir)?;
    raise_file_limit();
    server_runtime()?.block_on(serve(config))
}

/// Every visitor of a site takes two files. What a shell is given is meant for programs that cannot
/// deal with more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays");
    }
}

async fn serve(config: Config) -> Result<(), CliError> {
    // Signals are caught from here on: a start that is interrupted ends like any other.
    let shutdown = shutdown_signal()?;
    let store = Store::open(&config.metadata_file()).await?;
    let api_listener = bind(config.api_listen, "--api-listen").await?;
    let git_listener = bind(config.git_listen, "--git-listen").await?;
    let ssh_listener = match config.ssh_listen {
        Listen::At(address) => Some(bind(address, "--ssh-listen").await?),
        Listen::Off => None,
    };
    let dns = dns::bind(&config).await?;
    let api_url = local_url(api_listener.local_addr()?);
    let local_git_url = local_url(git_listener.local_addr()?);
    let others = Listeners { api: api_listener.local_addr()?, git: git_listener.local_addr()? };
    let sites = Sites::open(&config, &store, &others).await?;
    let git_url =
        config.git_url.clone().or_else(|| sites.git_url(&config)).unwrap_or(local_git_url);

    tokio::pin!(shutdown);
    let Services { vms, repos, webhooks, github } = tokio::select! {
        services = compose(&config, &store, &git_url) => services?,
        () = &mut shutdown => return Ok(()),
    };
    let access = Access::new(store.clone());
    let ssh = match ssh_listener {
        Some(listener) => Some(Ssh::open(&config.data_dir, listener).await?),
        None => None,
    };
    let vpcs = vpn::open(&config, store.clone(), vms.network()).await?;
    // Only now: a key that is made by a start that fails would never be shown.
    let admin_key = first_start::admin_key(&config.data_dir, &store).await?;
    let ssh_address = ssh.as_ref().map(|ssh| reachable(ssh.address()).to_string());
    let vpn = vpcs.vpn_address().map(|address| vpn::endpoint(&config, address));
    let ready = Ready {
        api_url,
        git_url: Some(git_url.clone()),
        ssh_address,
        edge_http_url: sites.http_url(),
        edge_https_url: sites.https_url(),
        dns_address: dns.as_ref().map(|dns| reachable(dns.address()).to_string()),
        wireguard_endpoint: vpn,
        api_key: admin_key.secret().map(str::to_owned),
        ca_certificate: sites.ca_certificate().map(|file| file.display().to_string()),
        preview_domains: sites.preview_domains(),
    };
    if let Some(file) = &config.ready_file {
        ready.write(file).await?;
    }
    say_how_to_use(&ready, &admin_key)?;
    info!(api_url = ready.api_url, git_url, "ready");

    let operator = OperatorSocket::bind(&config.data_dir)?;
    let witnesses = Witnesses { vms: vms.clone(), repos: repos.clone(), store: store.clone() };
    let mut background = JoinSet::new();
    background
        .spawn(operator.serve(async move |question| witnesses.clone().answer(question).await));
    background.spawn(repos.clone().keep_fast());
    let delivering = webhooks.clone();
    background.spawn(async move { delivering.run().await });
    let syncing = github.clone();
    background.spawn(async move { syncing.run().await });
    let git_host = GitHostState { access: access.clone(), repos: repos.clone(), webhooks };
    let git_host = freestyle_api::git_host(git_host);
    let api = freestyle_api::router(ApiState {
        vms: vms.clone(),
        repos,
        github,
        git_url,
        vpcs: vpcs.clone(),
        store: store.clone(),
        access: access.clone(),
        domains: sites.domains.clone(),
        certificates: sites.certificates.clone(),
        ssh: ssh.as_ref().map(Ssh::description),
    });
    // All of them end when the sender is dropped.
    let (stop, receiver) = watch::channel(());
    let stopped =
        |mut stopped: watch::Receiver<()>| async move { while stopped.changed().await.is_ok() {} };
    let (handed_over, others) = mpsc::channel(SSH_HANDED_OVER);
    let handed_over = (ssh.is_some() && config.platform_domain.is_some()).then_some(handed_over);
    let serve_ssh = async {
        if let Some(ssh) = ssh {
            ssh.serve(access, vms.clone(), others, stopped(receiver.clone())).await;
        }
    };
    let zones =
        AllZones { domains: sites.domains.clone(), certificates: sites.certificates.clone() };
    let serve_dns = async {
        if let Some(dns) = dns {
            dns.serve(zones, stopped(receiver.clone())).await;
        }
    };
    let (served_sites, ..) = tokio::join!(
        sites.serve(vms.clone(), handed_over, stopped(receiver.clone())),
        freestyle_api::serve(api_listener, api, stopped(receiver.clone())),
        freestyle_api::serve(git_listener, git_host, stopped(receiver.clone())),
        serve_ssh,
        serve_dns,
        async {
            shutdown.await;
            drop(stop);
        },
    );
    info!("shutting down; VMs run on");
    // What they hold is let go of before the services end.
    background.shutdown().await;
    vpcs.shut_down().await;
    vms.shut_down().await;
    store.close().await;
    served_sites
}

/// What answers and works, besides the HTTP servers.
struct Services {
    vms: VmService,
    repos: Repos,
    webhooks: Webhooks,
    github: GitHub,
}

/// The services, started in the order in which they need each other. Builds the base image if there
/// is none yet, which takes minutes.
async fn compose(config: &Config, store: &Store, git_url: &str) -> Result<Services, CliError> {
    let allowed = config.allowed_targets.clone();
    let outbound = tokio::task::spawn_blocking(move || Outbound::new(allowed)).await;
    let outbound = outbound.map_err(|error| CliError::new(error.to_string()))?;
    let repos = freestyle_repos::Config {
        root: config.data_dir.join("git"),
        git: config.git.clone(),
        limits: freestyle_git::Limits::default(),
        repositories_per_account: config.repos_per_account,
        outbound: outbound.clone(),
    };
    let repos = Repos::open(repos, store.clone()).await.map_err(|error| {
        CliError::with_hint(error.to_string(), "`freestyle doctor` checks this host")
    })?;
    let github = GitHub::new(store.clone(), repos.clone(), outbound.clone());
    let webhooks = freestyle_webhooks::Config {
        issuer: git_url.to_owned(),
        keys: config.webhook_keys_file(),
        retry_time: config.webhook_retry_time,
    };
    let webhooks = Webhooks::open(webhooks, store.clone(), repos.clone(), outbound).await;
    let webhooks = webhooks.map_err(|error| CliError::new(error.to_string()))?;
    let image = freestyle_image::ensure(&config.cache_dir, &config.image, log_progress).await?;
    let vms = freestyle_vm::Config {
        data_dir: config.data_dir.clone(),
        cache_dir: config.cache_dir.clone(),
        qemu: config.qemu.clone(),
        accelerator: config.accelerator,
        pool_size: config.pool_size,
        disk_budget: config.disk_budget,
        resolvers: config.resolvers_of_vms(),
        image,
        login_secret: ssh::login_secret(&config.data_dir).await?,
    };
    let vms = VmService::open(vms, store.clone()).await.map_err(|error| {
        CliError::with_hint(error.to_string(), "`freestyle doctor` checks this host")
    })?;
    Ok(Services { vms, repos, webhooks, github })
}

fn log_progress(progress: Progress) {
    match progress {
        Progress::Bootstrapping(line) => debug!(line, "installing Debian"),
        progress => info!("base image: {progress}"),
    }
}

/// What is logged where nothing else is said. The WireGuard library takes a client that went away for
/// an error.
const LOG_FILTER: &str = "info,boringtun=off";

fn start_logging(environment: &Environment) -> Result<(), CliError> {
    let filter = environment.get("FREESTYLE_LOG")?.unwrap_or_else(|| LOG_FILTER.to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| CliError::new(format!("FREESTYLE_LOG={filter}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Resolves when the process is asked to end.
fn shutdown_signal() -> Result<impl Future<Output = ()>, CliError> {
    let failed = |error: io::Error| CliError::new(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|error| {
        CliError::with_hint(
            format!("cannot listen on {address}: {error}"),
            format!("{flag} takes another address; port 0 is any free port"),
        )
    })
}

fn local_url(address: SocketAddr) -> String {
    format!("http://{}", reachable(address))
}

/// How to reach a listener from this host.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn say_how_to_use(ready: &Ready, key: &AdminKey) -> Result<(), CliError> {
    let url = &ready.api_url;
    let mut stderr = io::stderr().lock();
    match key {
        AdminKey::Created { secret, file } => writeln!(
            stderr,
            "\nThis is the first start: account \"default\" has been made, with an API key, which is \
             also kept in {file}.\n\n  \
             export FREESTYLE_API_URL={url}\n  \
             export FREESTYLE_API_KEY={secret}\n  \
             freestyle vm create --exec 'uname -a'\n",
            file = file.display(),
        )?,
        AdminKey::Kept { file, .. } => {
            writeln!(stderr, "An API key of account \"default\" is in {}", file.display())?;
        }
        AdminKey::Unknown => {}
    }
    writeln!(stderr, "The API answers at {url}")?;
    if let Some(address) = &ready.ssh_address {
        writeln!(stderr, "SSH answers at {address}")?;
    }
    if let Some(address) = &ready.dns_address {
        writeln!(stderr, "DNS answers at {address}")?;
    }
    if let (Some(url), [preview, ..]) = (&ready.edge_https_url, &ready.preview_domains[..]) {
        writeln!(stderr, "Sites, *.{preview} among them, are served at {url}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_interfaces_is_reached_through_loopback() {
        assert_eq!(local_url("0.0.0.0:80".parse().unwrap()), "http://127.0.0.1:80");
        assert_eq!(local_url("[::]:80".parse().unwrap()), "http://[::1]:80");
        assert_eq!(local_url("192.0.2.1:80".parse().unwrap()), "http://192.0.2.1:80");
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_flag() {
        let first = bind("127.0.0.1:0".parse().unwrap(), "--api-listen").await.unwrap();
        let address = first.local_addr().unwrap();
        let report = bind(address, "--api-listen").await.unwrap_err().report();
        assert!(
            report.contains(&address.to_string()) && report.contains("--api-listen"),
            "{report}"
        );
    }
}
