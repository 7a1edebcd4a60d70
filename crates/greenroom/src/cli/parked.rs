//! `greenroom parked ls|replay`.

use clap::Subcommand;
use comfy_table::{Table, presets};
use greenroom_chassis::Settings;

use super::shown::{say, shown};
use crate::{Error, Platforms};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists what is parked, oldest first.
    Ls,
    /// Sends parked messages again, to where they had been sent.
    Replay {
        /// Their numbers, as `ls` shows them.
        #[arg(required_unless_present = "all")]
        numbers: Vec<u64>,
        /// All of them.
        #[arg(long, conflicts_with = "numbers")]
        all: bool,
    },
}

impl Command {
    pub async fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let bus = super::bus(settings, platforms).await?;
        let parked = bus.parked().await?;
        match self {
            Self::Ls => {
                let mut table = Table::new();
                table.load_style(presets::NOTHING).set_header(["NUMBER", "AT", "CONSUMER", "SUBJECT", "REASON"]);
                for parked in &parked {
                    let at = parked.at.strftime("%F %T").to_string();
                    table.add_row([
                        parked.sequence.to_string(),
                        at,
                        shown(&parked.consumer).into_owned(),
                        shown(&parked.subject).into_owned(),
                        shown(&parked.reason).into_owned(),
                    ]);
                }
                say(table);
            }
            Self::Replay { numbers, all } => {
                for number in &numbers {
                    if !parked.iter().any(|parked| parked.sequence == *number) {
                        return Err(Error::Plain(format!("nothing is parked under {number}")));
                    }
                }
                for parked in parked.iter().filter(|parked| all || numbers.contains(&parked.sequence)) {
                    bus.replay(parked).await?;
                    say(format!("sent {} again to {}", parked.sequence, parked.subject));
                }
            }
        }
        Ok(())
    }
}
