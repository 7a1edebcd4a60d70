//! Compiles `proto/` with protox: no protoc is needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::<PathBuf>::new();
    for package in ["greenroom/v1", "greenroom/internal/v1"] {
        for entry in fs::read_dir(proto.join(package))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    println!("cargo::rerun-if-changed={}", proto.display());
    let mut compiler = protox::Compiler::new([&proto])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    // Encoded by the compiler, because prost's own types lose options that they do not know, such as the HTTP bindings.
    fs::write(Path::new(&env::var("OUT_DIR")?).join("greenroom.fds"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
