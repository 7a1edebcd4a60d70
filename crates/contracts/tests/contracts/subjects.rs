//! Where messages go.

use std::collections::BTreeSet;

use greenroom_contracts::streams::{self, Retention};
use greenroom_contracts::{Envelope, Message, messages};
use greenroom_domain::Installation;

use crate::examples::{Each, each};

#[test]
fn no_two_messages_share_a_type_or_a_subject() {
    let types: BTreeSet<&str> = messages::ALL.iter().map(|described| described.message_type).collect();
    let subjects: BTreeSet<&str> = messages::ALL.iter().map(|described| described.subject).collect();
    assert_eq!((types.len(), subjects.len()), (messages::ALL.len(), messages::ALL.len()));
    for described in messages::ALL {
        let words: Vec<&str> = described.message_type.split('.').collect();
        assert!(matches!(words[..], ["dev", "greenroom", _, _, "v1"]), "{}", described.message_type);
        assert!(described.about.ends_with('.') && !described.from.is_empty(), "{described:?}");
    }
}

struct Goes(usize);

impl Each for Goes {
    fn take<T: Message + PartialEq>(&mut self, envelope: Envelope<T>) {
        let house = Installation::new("house").expect("a name");
        let address = envelope.data.address();
        let subject = address.subject(&house);
        let described = messages::ALL.iter().find(|described| described.message_type == T::TYPE).expect("described");
        // The page of subjects says where it really goes.
        let expected: Vec<&str> = described.subject.split('.').collect();
        let words: Vec<&str> = subject.split('.').skip(1).collect();
        assert_eq!(words.len(), expected.len(), "{subject}: {}", described.subject);
        for (word, expected) in words.iter().zip(expected) {
            match expected {
                "<shard>" => assert!(word.parse::<u8>().is_ok_and(|shard| shard < 64), "{subject}"),
                "<platform>" => assert_eq!(*word, "docker", "{subject}"),
                fixed => assert_eq!(*word, fixed, "{subject}"),
            }
        }
        // Its stream holds it: events for all, commands for one.
        let stream = streams::of_subject(&house, &subject).unwrap_or_else(|| panic!("{subject} has no stream"));
        assert!(matches(&stream.subject, &subject), "{} does not hold {subject}", stream.subject);
        assert_eq!(stream.retention == Retention::Limits, address.is_event(), "{subject}");
        assert!(stream.name.starts_with("house-") && !stream.name.contains(['.', '*', '>', ' ']), "{}", stream.name);
        // Messages of other installations are nobody's here.
        let other = Installation::new("other").expect("a name");
        assert_eq!(streams::of_subject(&other, &subject), None);
        self.0 += 1;
    }
}

/// Whether a NATS pattern matches a subject.
fn matches(pattern: &str, subject: &str) -> bool {
    let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
    loop {
        match (pattern.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(expected), Some(word)) if expected == word => {}
            _ => return false,
        }
    }
}

#[test]
fn every_message_finds_its_stream() {
    let mut goes = Goes(0);
    each(&mut goes);
    assert_eq!(goes.0, messages::ALL.len());
}
