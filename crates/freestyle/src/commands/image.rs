//! `freestyle image ...`: the base image of VMs, which `serve` otherwise builds when it needs it.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use clap::Subcommand;
use freestyle_image::Progress;
use serde_json::json;

use super::{print_json, print_line};
use crate::config::{Config, ImageOptions};
use crate::environment::Environment;
use crate::error::CliError;
use crate::spinner;

const BUILD_HELP: &str = "\
`freestyle serve` does this by itself when the image is missing. Give both the same options, best
in freestyle.toml: other options are another image.

Examples:
  freestyle image build
  freestyle image build --ca-certificate /etc/ssl/private-ca.pem
  freestyle image build --package nodejs --package postgresql";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build the base image, unless it is there, and print its folder
    #[command(after_help = BUILD_HELP)]
    Build(BuildArgs),
}

/// Options of `freestyle image build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    options: ImageOptions,
    /// Configuration file of the server [default: freestyle.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(command: Command, environment: &Environment) -> Result<(), CliError> {
    let Command::Build(args) = command;
    let config = Config::load(args.options.into(), environment, args.config.as_deref())?;
    let step = Mutex::new("building the base image".to_owned());
    let on_terminal = io::stderr().is_terminal();
    let report = |progress: Progress| {
        if !on_terminal && !matches!(progress, Progress::Bootstrapping(_)) {
            // Nothing is lost but a word on how far it is.
            _ = writeln!(io::stderr(), "{progress}");
        }
        *step.lock().unwrap_or_else(PoisonError::into_inner) = progress.to_string();
    };
    let build = freestyle_image::ensure(&config.cache_dir, &config.image, report);
    let image = spinner::during_steps(&step, build).await?;
    let folder = image.rootfs.parent().unwrap_or(&image.rootfs).display().to_string();
    if args.json {
        return print_json(&json!({
            "hash": image.hash,
            "folder": folder,
            "diskMib": image.disk_mib,
        }));
    }
    print_line(&folder)
}
