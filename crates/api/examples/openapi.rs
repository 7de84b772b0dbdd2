//! Prints the OpenAPI document of this build, for `docs/openapi.json`:
//!
//! ```text
//! cargo run -p freestyle-api --example openapi > docs/openapi.json
//! ```

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().write_all(freestyle_api::document().as_bytes())
}
