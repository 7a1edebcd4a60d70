//! Compiles `proto/` with protox: no protoc is needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = fs::read_dir(proto.join("greenroom/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<PathBuf>, _>>()?;
    files.sort();
    println!("cargo::rerun-if-changed={}", proto.display());
    let descriptors = protox::compile(&files, [&proto])?;
    // For reflection; `compile_fds` itself writes no descriptor file.
    fs::write(Path::new(&env::var("OUT_DIR")?).join("greenroom.fds"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
