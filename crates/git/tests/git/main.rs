//! Repositories with real `git`: as the client of transfers, and as the judge of what is stored.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test")]
#![expect(clippy::disallowed_methods, reason = "these tests are of the calls that move refs")]

mod support;

mod bombs;
mod commits;
mod crashes;
mod file_imports;
mod full_disks;
mod imports;
mod mirrors;
mod pushes;
mod reads;
mod relations;
mod repositories;
mod searches;
mod transfers;
mod upkeep;
mod watches;
mod wire;
