//! What really happened.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use greenroom_domain::{Exit, InstanceId, RunnerId, Standing, Timestamp};
use serde::{Deserialize, Serialize};

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fact {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub platform: String,
    /// Who.
    pub runner: RunnerId,
    /// Which of the processes that were started under this name; none for what is about the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// A start was asked for and answered so: `ok`, `exists`, `late`, `lost`, `delayed`, `transient`,
    /// `no_capacity`, `rejected`, `unauthorized`, `late_answer`; of standing slots `no_slot`, `not_ready`, `occupied`.
    Ensured {
        /// How.
        answer: String,
    },
    /// A node began to pull an image for it.
    Pulling {
        /// Which node.
        node: String,
        /// Which image.
        image: String,
        /// How many pulls of it were under way there already.
        others: usize,
    },
    /// A process was started.
    Started,
    /// It was started in a standing slot.
    Placed {
        /// Which.
        standing: Standing,
    },
    /// Its owner let it in.
    Admitted,
    /// Its owner did not.
    Refused,
    /// It touched the meeting: from here until `left` somebody in the meeting sees it.
    Entered,
    /// It is not in the meeting any more, one way or the other.
    Left,
    /// It was asked to stop.
    Asked,
    /// The process is over.
    Exited {
        /// How.
        exit: Exit,
    },
    /// Its remains were removed.
    Removed,
}

/// Where they are written down.
#[derive(Debug)]
pub(super) enum Facts {
    /// In this process's file.
    Here(Mutex<File>),
    /// By whoever listens there, `host:port`: a simulated platform's server.
    There(String),
}

impl Facts {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::Here(Mutex::new(File::options().create(true).append(true).open(path)?)))
    }

    /// Whole lines, in the order in which things happened.
    pub fn tell(&self, platform: &str, runner: RunnerId, instance: Option<InstanceId>, what: What) {
        self.write(&Fact { at: Timestamp::now(), platform: platform.to_owned(), runner, instance, what });
    }

    /// Waits until it is written: what comes after it happens after it.
    pub fn write(&self, fact: &Fact) {
        let mut line = serde_json::to_vec(fact).expect("plain data");
        let written = match self {
            Self::Here(file) => {
                line.push(b'\n');
                file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)
            }
            Self::There(place) => post(place, &line),
        };
        written.expect("the facts can be written, or no check is worth anything");
    }
}

/// As little HTTP as will do, from whatever a runner is made of.
fn post(place: &str, body: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(place)?;
    let head = format!(
        "POST /facts HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other(answer)) }
}

impl Fact {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read or a line is no fact.
    pub fn read(path: &Path) -> io::Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)?;
        text.lines().map(|line| serde_json::from_str(line).map_err(io::Error::other)).collect()
    }
}
