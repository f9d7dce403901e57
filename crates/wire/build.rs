//! Generates the messages and the gRPC code from `proto/` with a compiler written in Rust: nobody needs protoc.

use std::{fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let protos = ["trueque/v1/files.proto", "trueque/v1/relay.proto"];
    let descriptors = protox::compile(protos, ["../../proto"])?;
    #[expect(clippy::disallowed_methods, reason = "cargo's own word, not a setting")]
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // File bytes are handed on as they came, without a copy.
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(descriptors)?;
    Ok(())
}
