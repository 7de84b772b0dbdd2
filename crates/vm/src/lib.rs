//! The VM service.
mod error;
mod model;
mod service;

pub use error::VmError;
pub use model::*;
pub use service::VmService;
