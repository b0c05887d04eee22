//! Compiles the messages without protoc; `bytes` fields become [`bytes::Bytes`], so decoding borrows.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["stored.proto", "raft.proto", "cluster.proto"];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
