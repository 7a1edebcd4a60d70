//! What can be set.

use greenroom_chassis::Settings;
use greenroom_store::Options;

use crate::images;
use crate::plan::{Limits, Plan};

/// The settings of this service.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its database.
    pub database: Options,
    /// Limits of each plan, in the order of [`Plan::ALL`].
    pub plans: [Limits; 4],
    /// The images that bots of a tenant without a list of its own may name.
    pub images: Vec<String>,
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
        let plans = Plan::ALL.map(|plan| Limits {
            daily: settings.get(
                &format!("PLAN_{}_DAILY_LIMIT", plan.as_str().to_ascii_uppercase()),
                "0",
                "How many bots a tenant of this plan may make in a day of its time zone; 0: any number.",
            ),
            concurrency: settings.get(
                &format!("PLAN_{}_CONCURRENCY_LIMIT", plan.as_str().to_ascii_uppercase()),
                "0",
                "How many bots of a tenant of this plan may be under way at once; 0: any number.",
            ),
        });
        let images: String = settings.get(
            "TENANT_IMAGES",
            "",
            "The images that bots may name whose tenant has no list of its own (greenroom tenants set --images), with commas \
             between them; * at the end of one stands for all that begin so, and alone for any. Default: none, so every bot \
             runs the image of its provider, because whoever names an image names what runs on your machines.",
        );
        let images: Vec<String> =
            images.split(',').map(str::trim).filter(|image| !image.is_empty()).map(str::to_owned).collect();
        if let Err(problem) = images::check(&images) {
            settings.problem("TENANT_IMAGES", problem);
        }
        Self { database: Options { url, connections }, plans, images }
    }
}
