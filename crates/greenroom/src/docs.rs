//! The documents that are made of the code: `docs/subjects.md`, `docs/configuration.md`, `docs/reasons.md`, and the table in
//! `docs/platforms.md`.

mod conformance;

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use clap::Args;
use greenroom_chassis::Settings;
use greenroom_contracts::messages;
use greenroom_domain::Reason;

use crate::configuration::{Configuration, Role};
use crate::{Error, Platforms};

#[derive(Debug, Args)]
pub struct Docs {
    /// Where to.
    #[arg(long, default_value = "docs")]
    dir: PathBuf,
    /// Write nothing; fail when a document is not as it would be written.
    #[arg(long)]
    check: bool,
}

const MADE: &str = "<!-- Made by `./dev docs`; do not edit. -->\n";

impl Docs {
    pub fn run(self, platforms: &Platforms) -> Result<(), Error> {
        let documents = [
            ("subjects.md", subjects()),
            ("configuration.md", configuration(platforms)?),
            ("reasons.md", reasons()),
            (
                "platforms.md",
                conformance::within(&fs::read_to_string(self.dir.join("platforms.md")).unwrap_or_default())?,
            ),
        ];
        for (name, text) in documents {
            let path = self.dir.join(name);
            if !self.check {
                fs::write(&path, text).map_err(Error::machine(format!("write {}", path.display())))?;
            } else if fs::read_to_string(&path).unwrap_or_default() != text {
                return Err(Error::Plain(format!("{} is out of date: run ./dev docs", path.display())));
            }
        }
        Ok(())
    }
}

fn subjects() -> String {
    let mut text = format!(
        "{MADE}# Subjects\n\nEvery message on the bus: a CloudEvent 1.0 in structured JSON. The installation's name stands before each subject; \
         `<shard>` is 0 to 63. Messages come at least once and in any order. Types are add-only: tolerate what you do not know.\n\n\
         Public events (`bot.*`, `recording.*`) carry `tenantid` and an unbroken `sequence` per id; only they reach clients.\n\n\
         | subject | type | said by | what it says |\n| --- | --- | --- | --- |\n"
    );
    for message in messages::ALL {
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {} | {} |",
            message.subject, message.message_type, message.from, message.about
        );
    }
    text.push_str(
        "\nBeside these, on core NATS and lossy by design: `hb.<shard>` (beats, 21 bytes: kind, id, attempt), `hb-ask` (a heartbeat \
         monitor asks its replicas). What no service could handle is kept under `parked.<service>`: `greenroom parked ls`. By `probe` each process finds out \
         whether messages are kept; nobody listens.\n",
    );
    text
}

fn configuration(platforms: &Platforms) -> Result<String, Error> {
    // The defaults are the documentation: nothing is set but what has no default.
    let environment = [("PLATFORM_PRIORITY".to_owned(), "local".to_owned())];
    let (_, _, asked) =
        Configuration::read(Settings::new(environment, ""), platforms, Role { outer: true, ..Role::default() })?;
    let mut text = format!(
        "{MADE}# Configuration\n\nSettings come from the environment, or from a file of `NAME=value` lines (`--config FILE`); the environment wins. \
         `greenroom config check` shows what is in force and where it came from. A bad value stops the start, and so does, in a file, a name of ours that does not exist, \
         with a message that names it.\n\n`LOCAL_BOT_LIMIT`, `_KIND`, `_PERMITS`, `_QUEUE_TIMEOUT_MS` and `_REGION` exist for every platform in \
         `PLATFORM_PRIORITY`: `k8s-eu` has `K8S_EU_BOT_LIMIT`.\n"
    );
    let mut section = "";
    for asked in asked {
        if asked.section != section {
            section = asked.section;
            let _ = write!(text, "\n## {section}\n\n| setting | default | what it does |\n| --- | --- | --- |\n");
        }
        let default = if asked.default.is_empty() { String::new() } else { format!("`{}`", asked.default) };
        let _ = writeln!(text, "| `{}` | {default} | {} |", asked.name, asked.about);
    }
    Ok(text)
}

fn reasons() -> String {
    let mut text = format!(
        "{MADE}# Reasons\n\nWhy a bot ended or an attempt failed: `reason` in the API and in events. The list is open; tolerate what you do not know.\n\n\
         | reason | what you can do |\n| --- | --- |\n"
    );
    for (word, advice) in Reason::KNOWN {
        let _ = writeln!(text, "| `{word}` | {advice} |");
    }
    text
}
