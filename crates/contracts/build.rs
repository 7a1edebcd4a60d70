//! Compiles `proto/` with protox: no protoc is needed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::{DescriptorProto, FileDescriptorSet};

fn main() -> Result<(), Box<dyn Error>> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", proto.display());
    let mut compiler = protox::Compiler::new([&proto])?;
    compiler.include_imports(true).include_source_info(true);
    for (package, descriptors) in [("greenroom/v1", Some("public.fds")), ("greenroom/internal/v1", None)] {
        let files = fs::read_dir(proto.join(package))?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = files.collect::<Result<Vec<PathBuf>, _>>()?;
        files.sort();
        compiler.open_files(&files)?;
        if let Some(name) = descriptors {
            // Encoded by the compiler, because prost's own types lose options that they do not know, such as the HTTP bindings.
            fs::write(Path::new(&env::var("OUT_DIR")?).join(name), compiler.encode_file_descriptor_set())?;
        }
    }
    let descriptors = compiler.file_descriptor_set();
    let mut config = tonic_prost_build::configure();
    for name in stored(&descriptors) {
        config = config.type_attribute(&name, "#[derive(serde::Serialize, serde::Deserialize)] #[serde(default)]");
        let message = message(&descriptors, &name).into_iter().flat_map(|message| &message.field);
        for field in message.filter(|field| field.type_name() == ".google.protobuf.Timestamp") {
            let path = format!("{name}.{}", field.name());
            config = config.field_attribute(path, "#[serde(with = \"crate::convert::stored_time\")]");
        }
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

/// Returns a message that stands in no other one.
fn message<'a>(descriptors: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    descriptors.file.iter().find_map(|file| {
        let own = name.strip_prefix(&format!(".{}.", file.package()))?;
        file.message_type.iter().find(|message| message.name() == own)
    })
}

/// Returns the messages that are stored as JSON: a bot's settings, and all that stand in them.
fn stored(descriptors: &FileDescriptorSet) -> Vec<String> {
    let mut names = vec![".greenroom.v1.BotSettings".to_owned()];
    let mut next = 0;
    while let Some(name) = names.get(next) {
        let fields = message(descriptors, name).into_iter().flat_map(|message| &message.field);
        let inner: Vec<_> = fields.map(|field| field.type_name().to_owned()).collect();
        for name in inner {
            if name.starts_with(".greenroom.") && !names.contains(&name) {
                names.push(name);
            }
        }
        next += 1;
    }
    names
}
