//! The binary `freestyle`: `freestyle serve` runs the platform, every other command is a client of
//! one.
//!
//! Owns: the command line, configuration and its layers, what people read on a terminal, and which
//! services `serve` puts together. Does not own: anything a service does; commands that talk to a
//! server go through `freestyle-client` like everyone else, and only `admin` opens the metadata of
//! a server on this host.

mod byte_size;
mod cli;
mod commands;
mod config;
mod environment;
mod error;
mod operator;
mod spinner;
mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::environment::Environment;
use crate::error::CliError;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = match cli.command.trusts_working_directory() {
        true => Environment::load(".env".as_ref()),
        false => Ok(Environment::default()),
    };
    let result = environment.and_then(|environment| commands::run(cli.command, &environment));
    match result {
        Ok(code) => code,
        // The reader of a pipe has seen enough.
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nothing is left to be done if this cannot be said.
            _ = write!(io::stderr(), "{}", error.report());
            error.exit_code()
        }
    }
}
