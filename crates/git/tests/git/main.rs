//! Repositories with real `git`: as the client of transfers, and as the judge of what is stored.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod support;

mod commits;
mod crashes;
mod pushes;
mod reads;
mod relations;
mod repositories;
mod searches;
mod transfers;
mod upkeep;
mod wire;
