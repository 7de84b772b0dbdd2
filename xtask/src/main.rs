//! `cargo xtask up | test | bench`: from a checkout to a running platform, and the proof that it
//! works. No dependencies: it has to build before anything else is installed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

mod bench;
mod build;
mod packages;
mod run;
mod test;
mod up;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask up [--once]   install what is missing, build, start the platform and say how to use it
                          --once: run the quickstart through the npm SDK against it, then end
cargo xtask test          format, lints, unit, service and end-to-end tests
cargo xtask bench vm      measure VMs against plain QEMU on this machine
cargo xtask bench fork    the same for forks, snapshots, suspend and wake
cargo xtask bench git     measure the Git API against git on the same disk
cargo xtask bench git-transfers
                          measure clone, fetch and push against nginx and git's http-backend
cargo xtask bench pty     measure terminal sessions
cargo xtask bench net     measure requests through the edge against nginx
cargo xtask bench net-vpc measure VPCs and their VPN against a bridge and wireguard-go
cargo xtask git-suite DIR run the HTTP tests of git itself, whose source is in DIR, against our server

Environment:
  CARGO_TARGET_DIR        where builds go
  FREESTYLE_CACHE_DIR     where base images and their snapshots are kept
  FREESTYLE_DATA_DIR      where `up` keeps its VMs";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up"] => up::serve(),
        ["up", "--once"] => up::once(),
        ["test"] => test::all(),
        ["git-suite", source] => test::git_suite(source),
        ["bench", "vm"] => bench::vm(),
        ["bench", "fork"] => bench::fork(),
        ["bench", "git"] => bench::git(),
        ["bench", "git-transfers"] => bench::git_transfers(),
        ["bench", "pty"] => bench::pty(),
        ["bench", "net"] => bench::net(),
        ["bench", "net-vpc"] => bench::net_vpc(),
        _ => {
            println!("{HELP}");
            return ExitCode::from(if matches!(words.as_slice(), ["help" | "--help"]) {
                0
            } else {
                2
            });
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
