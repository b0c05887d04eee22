//! Compiles the messages without protoc; `bytes` fields become [`bytes::Bytes`], so decoding
//! borrows.

use std::fmt::Write as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["stored.proto", "raft.proto", "cluster.proto"];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;

    // The numbers of the fields of stored messages, for code that reads a message in place.
    let mut numbers = String::new();
    let stored = descriptors.file.iter().filter(|file| file.package() == "headwater.stored");
    for message in stored.flat_map(|file| &file.message_type) {
        writeln!(numbers, "pub mod {} {{", snake_case(message.name()))?;
        for field in &message.field {
            writeln!(numbers, "    pub const {}: u32 = {};", field.name().to_uppercase(), field.number())?;
        }
        writeln!(numbers, "}}")?;
    }
    let out_dir = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("stored_fields.rs"), numbers)?;

    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
