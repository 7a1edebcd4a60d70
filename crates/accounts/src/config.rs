//! What can be set.

use greenroom_chassis::Settings;
use greenroom_store::Options;

/// The settings of this service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its database.
    pub database: Options,
}

impl Config {
    /// Reads them. `database_url` is shared with other services.
    pub fn parse(settings: &mut Settings, database_url: &str) -> Self {
        settings.section("accounts");
        let url = settings.url("ACCOUNTS_DATABASE_URL", database_url, "Where the schema `accounts` is.");
        let connections = settings.get(
            "ACCOUNTS_DATABASE_CONNECTIONS",
            "4",
            "Most connections to Postgres at once. Keys are cached at the gateways, so few are needed.",
        );
        if connections == 0 {
            settings.problem("ACCOUNTS_DATABASE_CONNECTIONS", "must be at least 1");
        }
        Self { database: Options { url, connections } }
    }
}
