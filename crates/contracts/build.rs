//! Compiles `proto/` with protox: no protoc is needed.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_types::{DescriptorProto, FileDescriptorSet};
use protox::prost_reflect::{DescriptorPool, EnumDescriptor, Value};

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
    fs::write(Path::new(&env::var("OUT_DIR")?).join("words.rs"), words(&compiler.descriptor_pool()))?;
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

/// Returns the names that the values of our enums have over HTTP, as methods of the enums.
fn words(pool: &DescriptorPool) -> String {
    let mut code = String::new();
    for of in pool.all_enums().filter(|of| of.parent_message().is_none()) {
        let Some(package) = of.package_name().strip_prefix("greenroom.") else { continue };
        let words: Vec<_> = of
            .values()
            .filter(|value| value.number() != 0)
            .map(|value| (value.number(), word(&of, value.name())))
            .collect();
        let said: String =
            words.iter().fold(String::new(), |code, (number, word)| code + &format!("{number} => {word:?},"));
        let read: String =
            words.iter().fold(String::new(), |code, (number, word)| code + &format!("{word:?} => {number},"));
        let all: Vec<_> = words.iter().map(|(_, word)| word).collect();
        let _ = write!(
            code,
            "impl {}::{} {{
                /// The names of all values.
                pub const WORDS: &'static [&'static str] = &{all:?};
                /// Returns the name that it has over HTTP; empty where it is unspecified.
                #[must_use]
                pub fn word(self) -> &'static str {{ match self as i32 {{ {said} _ => \"\" }} }}
                /// Returns the value of that name.
                #[must_use]
                pub fn of_word(word: &str) -> Option<Self> {{ Self::try_from(match word {{ {read} _ => return None }}).ok() }}
            }}\n",
            package.replace('.', "::"),
            of.name(),
        );
    }
    code
}

/// `SLOT_STATE_IDLE` of `SlotState` is `idle`, as `greenroom.v1.lower_case` says.
fn word(of: &EnumDescriptor, value: &str) -> String {
    let mut prefix = String::new();
    for c in of.name().chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    let word = value.strip_prefix(&format!("{prefix}_")).unwrap_or(value);
    let option = of.parent_pool().get_extension_by_name("greenroom.v1.lower_case");
    let lower_case = option.is_some_and(|option| *of.options().get_extension(&option) == Value::Bool(true));
    if lower_case { word.to_ascii_lowercase() } else { word.to_owned() }
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
