//! Compiles the .proto files, comments included, without a `protoc`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=millstream");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["millstream/v1/events.proto", "millstream/v1/ingest.proto"])?;
    std::fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let files = compiler.file_descriptor_set();

    tonic_prost_build::configure().bytes(".").build_server(false).compile_fds(files.clone())?;

    // The same service over batches whose rows are still bytes; every other message is the one above.
    let envelope = out.join("envelope");
    std::fs::create_dir_all(&envelope)?;
    tonic_prost_build::configure()
        .extern_path(".millstream.v1", "crate::v1")
        .extern_path(".millstream.v1.EventBatch", "crate::envelope::EventBatch")
        .out_dir(&envelope)
        .compile_fds(files)?;
    Ok(())
}
