//! Writes the OpenAPI documents that are kept in `docs/openapi`: `cargo run -p testnet --example openapi`.

use std::{fs, path::Path};

fn main() -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi");
    fs::create_dir_all(&folder)?;
    for (name, document) in testnet::documents() {
        fs::write(folder.join(name), document)?;
    }
    Ok(())
}
