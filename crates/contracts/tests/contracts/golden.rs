//! `tests/golden/<type>.json`, one for each message: what a version N-1 has said is read, and what we say is what it reads.
//! A file is changed by `UPDATE_GOLDEN=1`, and only ever by adding to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use greenroom_contracts::{Envelope, Header, Message, messages};
use serde_json::Value;

use crate::examples::{Each, each};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(message_type: &str) -> String {
    let path = folder().join(format!("{message_type}.json"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()))
}

/// As files have it: for people, and with a line's end.
fn pretty<T: Message>(envelope: &Envelope<T>) -> String {
    let mut text = serde_json::to_string_pretty(envelope).expect("plain data");
    text.push('\n');
    text
}

struct Writes(BTreeSet<String>);

impl Each for Writes {
    fn take<T: Message + PartialEq>(&mut self, envelope: Envelope<T>) {
        assert!(self.0.insert(T::TYPE.to_owned()), "{} stands there twice", T::TYPE);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(folder()).expect("a folder");
            fs::write(folder().join(format!("{}.json", T::TYPE)), pretty(&envelope)).expect("written");
        }
        let golden = read(T::TYPE);
        assert_eq!(pretty(&envelope), golden, "{}: what we say", T::TYPE);
        assert_eq!(serde_json::from_str::<Envelope<T>>(&golden).expect(T::TYPE), envelope, "{}: what we hear", T::TYPE);
        // On the wire it is the same without white space, byte for byte.
        let bytes = envelope.to_bytes();
        assert_eq!(
            serde_json::from_slice::<Value>(&bytes).expect("JSON"),
            serde_json::from_str::<Value>(&golden).expect("JSON")
        );
        assert_eq!(
            bytes,
            serde_json::to_vec(&serde_json::from_str::<Envelope<T>>(&golden).expect(T::TYPE)).expect("plain data")
        );
    }
}

#[test]
fn every_message_is_as_it_was() {
    let mut written = Writes(BTreeSet::new());
    each(&mut written);
    let all: BTreeSet<String> = messages::ALL.iter().map(|described| described.message_type.to_owned()).collect();
    assert_eq!(written.0, all, "an example of each");
    let files = fs::read_dir(folder()).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let files: BTreeSet<String> =
        files.map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned()).collect();
    assert_eq!(files, all, "a golden file of each, and none of what is no more");
}

struct Tolerates;

/// Adds an unknown field to every object.
fn grow(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(grow);
            fields.insert("fromALaterVersion".to_owned(), serde_json::json!({ "new": [1, "two"] }));
        }
        Value::Array(items) => items.iter_mut().for_each(grow),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Each for Tolerates {
    fn take<T: Message + PartialEq>(&mut self, envelope: Envelope<T>) {
        let mut later: Value = serde_json::from_str(&read(T::TYPE)).expect("JSON");
        grow(&mut later);
        let text = later.to_string();
        assert_eq!(serde_json::from_str::<Envelope<T>>(&text).expect(T::TYPE), envelope, "{}", T::TYPE);
        let header: Header = serde_json::from_str(&text).expect("a header");
        assert_eq!(header, envelope.header);
        // And a reader that knows nothing but CloudEvents finds what it needs.
        for attribute in ["specversion", "id", "source", "type", "subject", "time", "datacontenttype"] {
            assert!(later[attribute].is_string(), "{}: {attribute}", T::TYPE);
        }
        assert_eq!((&later["type"], &later["specversion"]), (&Value::from(T::TYPE), &Value::from("1.0")));
    }
}

#[test]
fn fields_of_later_versions_are_ignored() {
    each(&mut Tolerates);
}

struct Optional(usize);

impl Each for Optional {
    fn take<T: Message + PartialEq>(&mut self, _: Envelope<T>) {
        // What an earlier version did not say yet: the attributes that came later may be missing.
        let mut earlier: Value = serde_json::from_str(&read(T::TYPE)).expect("JSON");
        for attribute in ["tenantid", "attempt", "sequence", "traceparent"] {
            self.0 += usize::from(earlier.as_object_mut().expect("an object").remove(attribute).is_some());
        }
        let read: Envelope<T> = serde_json::from_value(earlier).expect(T::TYPE);
        assert_eq!((read.header.tenantid, read.header.sequence, read.header.traceparent), (None, None, None));
    }
}

#[test]
fn attributes_that_need_not_be_there_need_not_be_there() {
    let mut optional = Optional(0);
    each(&mut optional);
    assert!(optional.0 > messages::ALL.len(), "every file has some");
}
