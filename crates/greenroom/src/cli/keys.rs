//! `greenroom keys create`: straight to the accounts' database, for whoever sets an installation up.

use clap::Subcommand;
use greenroom_chassis::{Clock, Host, Settings};
use greenroom_tasks::Tasks;

use super::shown::say;
use crate::configuration::{Configuration, Role};
use crate::{Error, Platforms};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes an API key and prints it: this once, as only its hash is kept. Needs ACCOUNTS_DATABASE_URL or DATABASE_URL.
    Create {
        /// Whose it is; a tenant of that name is made unless there is one.
        #[arg(long, default_value = "default")]
        tenant: String,
        /// For people, in lists.
        #[arg(long, default_value = "made at the command line")]
        label: String,
        /// An operator's key: it may also look at the pool and change it, for everybody.
        #[arg(long)]
        operator: bool,
    },
}

/// The accounts service without its door, for whoever sets an installation up.
pub(super) async fn accounts(settings: Settings, platforms: &Platforms) -> Result<greenroom_accounts::Service, Error> {
    let (Configuration { common, peers, accounts, .. }, _, _) =
        Configuration::read(settings, platforms, Role::default())?;
    let host = Host {
        bus: greenroom_bus::Bus::connect(&common.nats_url, common.installation.clone(), "cli").await?,
        installation: common.installation,
        tasks: Tasks::default(),
        clock: Clock::system(),
        peers,
        secret: common.secret,
        time_scale: 1.0,
        drain: common.drain,
        ack_wait: common.ack_wait,
    };
    greenroom_accounts::Service::build(&accounts, &host).map_err(|error| Error::Plain(error.to_string()))
}

impl Command {
    pub async fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let Self::Create { tenant, label, operator } = self;
        let accounts = accounts(settings, platforms).await?;
        say(accounts.create_key(&tenant, &label, operator).await?.api_key);
        Ok(())
    }
}
