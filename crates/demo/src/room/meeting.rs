//! Who is in the meeting, who knocks, and who is told what: pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names one connection.
pub type Id = u32;

/// What a page says.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Said {
    /// Asks to be let in. The host's key makes a host.
    Hello {
        /// What to be called.
        name: String,
        /// The meeting's password, where it has one.
        #[serde(default)]
        password: String,
        /// The host's key.
        #[serde(default)]
        key: String,
    },
    /// A host lets somebody in.
    Admit {
        /// Whom.
        id: Id,
    },
    /// A host turns somebody away.
    Deny {
        /// Whom.
        id: Id,
    },
    /// A host ends the meeting for everybody.
    End,
    /// Somebody goes.
    Leave,
    /// WebRTC signalling, passed on unread.
    Signal {
        /// To whom.
        to: Id,
        /// What.
        data: Value,
    },
}

/// What a page is told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Told {
    /// A host has to decide.
    Waiting,
    /// In. The newcomer calls everybody who is there.
    Joined {
        /// The newcomer's own id.
        id: Id,
        /// Whether it is a host.
        host: bool,
        /// Everybody else.
        people: Vec<Person>,
    },
    /// To hosts: somebody knocks.
    Knock {
        /// Who.
        person: Person,
    },
    /// To hosts: somebody does not knock any more.
    Unknock {
        /// Who.
        id: Id,
    },
    /// Somebody came.
    Came {
        /// Who.
        person: Person,
    },
    /// Somebody left.
    Left {
        /// Who.
        id: Id,
    },
    /// Turned away.
    Denied {
        /// `host` or `password`.
        reason: &'static str,
    },
    /// The meeting is over.
    Ended,
    /// WebRTC signalling.
    Signal {
        /// From whom.
        from: Id,
        /// What.
        data: Value,
    },
}

/// Somebody, as the others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Their connection.
    pub id: Id,
    /// What they are called.
    pub name: String,
    /// Whether they are a host.
    pub host: bool,
}

/// One meeting.
#[derive(Debug, Default)]
pub struct Meeting {
    password: String,
    key: String,
    inside: BTreeMap<Id, Person>,
    knocking: BTreeMap<Id, Person>,
    ended: bool,
}

impl Meeting {
    /// A meeting with a password (or none, when empty) and the key that makes a host.
    #[must_use]
    pub fn new(password: &str, key: &str) -> Self {
        Self { password: password.to_owned(), key: key.to_owned(), ..Self::default() }
    }

    /// Whether it is over.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes what `from` says; the answer is who is told what, in order.
    pub fn hear(&mut self, from: Id, said: Said) -> Vec<(Id, Told)> {
        let host = self.inside.get(&from).is_some_and(|person| person.host);
        match said {
            Said::Hello { .. } if self.ended => vec![(from, Told::Ended)],
            Said::Hello { .. } if self.inside.contains_key(&from) || self.knocking.contains_key(&from) => vec![],
            Said::Hello { name, password, key } => {
                let host = !self.key.is_empty() && key == self.key;
                let name: String = name.trim().chars().take(60).collect();
                let name = if name.is_empty() { "Guest".to_owned() } else { name };
                let person = Person { id: from, name, host };
                if host {
                    self.let_in(person)
                } else if password != self.password {
                    vec![(from, Told::Denied { reason: "password" })]
                } else {
                    let mut told = vec![(from, Told::Waiting)];
                    told.extend(self.hosts().map(|id| (id, Told::Knock { person: person.clone() })));
                    self.knocking.insert(from, person);
                    told
                }
            }
            Said::Admit { id } if host => match self.knocking.remove(&id) {
                Some(person) => {
                    let mut told = self.unknock(id);
                    told.extend(self.let_in(person));
                    told
                }
                None => vec![],
            },
            Said::Deny { id } if host => match self.knocking.remove(&id) {
                Some(_) => {
                    let mut told = self.unknock(id);
                    told.push((id, Told::Denied { reason: "host" }));
                    told
                }
                None => vec![],
            },
            Said::End if host => {
                self.ended = true;
                let everybody =
                    std::mem::take(&mut self.inside).into_keys().chain(std::mem::take(&mut self.knocking).into_keys());
                everybody.map(|id| (id, Told::Ended)).collect()
            }
            Said::Admit { .. } | Said::Deny { .. } | Said::End => vec![],
            Said::Leave => self.gone(from),
            Said::Signal { to, data } if self.inside.contains_key(&from) && self.inside.contains_key(&to) => {
                vec![(to, Told::Signal { from, data })]
            }
            Said::Signal { .. } => vec![],
        }
    }

    /// Somebody's connection ended, or they left.
    pub fn gone(&mut self, id: Id) -> Vec<(Id, Told)> {
        if self.knocking.remove(&id).is_some() {
            return self.unknock(id);
        }
        if self.inside.remove(&id).is_none() {
            return vec![];
        }
        self.inside.keys().map(|other| (*other, Told::Left { id })).collect()
    }

    fn let_in(&mut self, person: Person) -> Vec<(Id, Told)> {
        let people: Vec<_> = self.inside.values().cloned().collect();
        let mut told: Vec<_> = people.iter().map(|other| (other.id, Told::Came { person: person.clone() })).collect();
        told.push((person.id, Told::Joined { id: person.id, host: person.host, people }));
        if person.host {
            told.extend(self.knocking.values().map(|knocker| (person.id, Told::Knock { person: knocker.clone() })));
        }
        self.inside.insert(person.id, person);
        told
    }

    fn unknock(&self, id: Id) -> Vec<(Id, Told)> {
        self.hosts().map(|host| (host, Told::Unknock { id })).collect()
    }

    fn hosts(&self) -> impl Iterator<Item = Id> {
        self.inside.values().filter(|person| person.host).map(|person| person.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &str, password: &str, key: &str) -> Said {
        Said::Hello { name: name.to_owned(), password: password.to_owned(), key: key.to_owned() }
    }

    fn kinds(told: &[(Id, Told)]) -> Vec<(Id, String)> {
        told.iter()
            .map(|(id, told)| (*id, serde_json::to_value(told).unwrap()["type"].as_str().unwrap().to_owned()))
            .collect()
    }

    fn kind(id: Id, kind: &str) -> (Id, String) {
        (id, kind.to_owned())
    }

    #[test]
    fn a_guest_knocks_is_admitted_and_leaves() {
        let mut meeting = Meeting::new("", "key");
        assert_eq!(kinds(&meeting.hear(2, hello("Bo", "", ""))), [kind(2, "waiting")]);
        assert_eq!(kinds(&meeting.hear(1, hello("Ada", "", "key"))), [kind(1, "joined"), kind(1, "knock")]);
        assert_eq!(
            kinds(&meeting.hear(1, Said::Admit { id: 2 })),
            [kind(1, "unknock"), kind(1, "came"), kind(2, "joined")]
        );
        assert_eq!(kinds(&meeting.hear(2, Said::Signal { to: 1, data: Value::Null })), [kind(1, "signal")]);
        assert_eq!(kinds(&meeting.hear(2, Said::Leave)), [kind(1, "left")]);
        assert_eq!(kinds(&meeting.gone(2)), []);
    }

    #[test]
    fn only_a_host_decides_and_only_who_is_inside_is_heard() {
        let mut meeting = Meeting::new("", "key");
        meeting.hear(1, hello("Ada", "", "key"));
        meeting.hear(2, hello("Bo", "", "wrong key"));
        for said in [Said::Admit { id: 2 }, Said::Deny { id: 2 }, Said::End, Said::Signal { to: 1, data: Value::Null }]
        {
            assert_eq!(kinds(&meeting.hear(2, said)), []);
        }
        assert_eq!(kinds(&meeting.hear(1, Said::Deny { id: 2 })), [kind(1, "unknock"), kind(2, "denied")]);
        assert!(!meeting.ended());
    }

    #[test]
    fn a_wrong_password_is_denied_and_a_host_needs_none() {
        let mut meeting = Meeting::new("sesame", "key");
        assert_eq!(meeting.hear(2, hello("Bo", "open", "")), [(2, Told::Denied { reason: "password" })]);
        assert_eq!(kinds(&meeting.hear(1, hello("Ada", "", "key"))), [kind(1, "joined")]);
        assert_eq!(kinds(&meeting.hear(2, hello("Bo", "sesame", ""))), [kind(2, "waiting"), kind(1, "knock")]);
    }

    #[test]
    fn the_end_is_told_to_everybody_and_to_late_comers() {
        let mut meeting = Meeting::new("", "key");
        meeting.hear(1, hello("Ada", "", "key"));
        meeting.hear(2, hello("Bo", "", ""));
        assert_eq!(kinds(&meeting.hear(1, Said::End)), [kind(1, "ended"), kind(2, "ended")]);
        assert_eq!(kinds(&meeting.hear(3, hello("Cy", "", ""))), [kind(3, "ended")]);
    }
}
