//! `freestyle ca`: the root certificate of this host's server.

use std::path::PathBuf;

use super::print_line;
use super::serve::edge_folder;
use crate::config::{Config, Options};
use crate::environment::Environment;
use crate::error::CliError;

pub(crate) const HELP: &str = "\
Where no ACME directory is configured, `serve` makes the certificates of sites itself. Clients trust
them once they know this root certificate.

Examples:
  freestyle ca > freestyle-ca.pem
  curl --cacert freestyle-ca.pem https://app.style.localhost:8443/
  freestyle ca --path                             the file, e.g. for NODE_EXTRA_CA_CERTS";

/// Options of `freestyle ca`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the server keeps its data [default: /var/lib/freestyle]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file of the server [default: freestyle.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the name of the file instead
    #[arg(long)]
    path: bool,
}

pub(crate) fn run(args: Args, environment: &Environment) -> Result<(), CliError> {
    let Args { data_dir, config, path } = args;
    let options = Options::with_data_dir(data_dir);
    let config = Config::load(options, environment, config.as_deref())?;
    let file = freestyle_edge::ca_certificate_file(&edge_folder(&config.data_dir));
    let pem = std::fs::read_to_string(&file).map_err(|error| {
        CliError::with_hint(
            format!("cannot read {}: {error}", file.display()),
            "it is made when `freestyle serve` first starts without --acme-directory",
        )
    })?;
    if path { print_line(&file.display().to_string()) } else { print_line(pem.trim_end()) }
}
