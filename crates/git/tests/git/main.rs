//! Repositories with real `git`: as the client of transfers, and as the judge of what is stored.

mod support;

mod pushes;
mod repositories;
mod transfers;
