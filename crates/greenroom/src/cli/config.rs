//! `greenroom config check`.

use clap::Subcommand;
use comfy_table::{Table, presets};
use greenroom_chassis::Settings;

use super::shown::say;
use crate::configuration::{Configuration, Role};
use crate::{Error, Platforms};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints every setting, its value and where it came from; says what is wrong.
    Check,
}

impl Command {
    pub fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let Self::Check = self;
        let (_, _, asked) = Configuration::read(settings, platforms, Role { outer: true, ..Role::default() })?;
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["SETTING", "VALUE", "FROM"]);
        for asked in asked {
            table.add_row([asked.name, asked.value, asked.from.to_string()]);
        }
        say(table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"));
        Ok(())
    }
}
