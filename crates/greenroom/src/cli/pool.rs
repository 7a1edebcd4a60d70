//! `greenroom pool …`: for operators, by HTTP through the gateway.

use clap::Subcommand;
use comfy_table::{Table, presets};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::bots::Connection;
use super::shown::{say, shown};
use crate::Error;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Platforms, what limits them and how full they are.
    Ls {
        #[command(flatten)]
        connection: Connection,
    },
    /// One platform, and its providers.
    Show {
        #[command(flatten)]
        connection: Connection,
        platform: String,
    },
    /// Sets the operators' limit of a platform, or of a provider on it. What runs goes on.
    Limit {
        #[command(flatten)]
        connection: Connection,
        platform: String,
        /// A number, or `none`: as the settings say. Of all that is said the least holds.
        limit: Limit,
        /// Only this provider's bots.
        #[arg(long, conflicts_with = "permits")]
        provider: Option<String>,
        /// Deployments in flight instead of bots.
        #[arg(long)]
        permits: bool,
    },
    /// Begins nothing new on a platform. What runs goes on.
    Drain {
        #[command(flatten)]
        connection: Connection,
        platform: String,
    },
    /// Takes that back.
    Undrain {
        #[command(flatten)]
        connection: Connection,
        platform: String,
    },
    /// Gives a slot to nobody any more. Who has it keeps it.
    Cordon {
        #[command(flatten)]
        connection: Connection,
        slot: String,
    },
    /// Takes that back.
    Uncordon {
        #[command(flatten)]
        connection: Connection,
        slot: String,
    },
    /// Frees a slot whose runner is proven gone.
    Reset {
        #[command(flatten)]
        connection: Connection,
        slot: String,
        /// Also without proof, when its platform does not answer and never will again.
        #[arg(long)]
        force: bool,
    },
    /// Slots and who has them.
    Slots {
        #[command(flatten)]
        connection: Connection,
        #[arg(long)]
        platform: Option<String>,
        /// idle, deploying, busy, releasing, error or cordoned.
        #[arg(long)]
        state: Option<String>,
    },
    /// How large runners are by provider, what they really took, and what to set because of it.
    Sizes {
        #[command(flatten)]
        connection: Connection,
    },
    /// Which platforms bots try that name none, in order; with names, sets it. Bots that are not due yet follow it.
    Order {
        #[command(flatten)]
        connection: Connection,
        platforms: Vec<String>,
        /// Back to PLATFORM_PRIORITY.
        #[arg(long, conflicts_with = "platforms")]
        clear: bool,
    },
    /// How full a platform was, minute by minute.
    History {
        #[command(flatten)]
        connection: Connection,
        platform: String,
    },
}

/// A number or none.
#[derive(Debug, Clone, Copy)]
pub struct Limit(Option<u32>);

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|limit| Self(Some(limit))).map_err(|_| "expected a number or none".to_owned())
    }
}

/// The gateway, and an operator's key.
struct Door {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Door {
    fn new(connection: Connection) -> Result<Self, Error> {
        let (url, key) = connection.parts()?;
        let http = reqwest::Client::builder().build().map_err(|error| Error::Plain(error.to_string()))?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Error> {
        let bad = || Error::Plain("GREENROOM_URL: expected http://HOST:PORT".to_owned());
        let mut url = reqwest::Url::parse(&self.url).map_err(|_| bad())?;
        // What a person typed is one part of the path, whatever is in it.
        url.path_segments_mut().map_err(|()| bad())?.pop_if_empty().extend(["v1", "pool"]).extend(path);
        Ok(self.http.request(method, url).bearer_auth(&self.key))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value, Error> {
        let plain = |error: reqwest::Error| Error::Plain(error.without_url().to_string());
        let answer = request.send().await.map_err(plain)?;
        let status = answer.status();
        let body: Value = answer.json().await.map_err(plain)?;
        if status.is_success() {
            return Ok(body);
        }
        Err(Error::Plain(body["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned)))
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Error> {
        let mut request = self.request(Method::GET, path)?.build().map_err(|error| Error::Plain(error.to_string()))?;
        if !query.is_empty() {
            request.url_mut().query_pairs_mut().extend_pairs(query);
        }
        self.send(RequestBuilder::from_parts(self.http.clone(), request)).await
    }

    async fn patch(&self, platform: &str, change: &Value) -> Result<Value, Error> {
        self.send(self.request(Method::PATCH, &["platforms", platform])?.json(change)).await
    }

    async fn slot(&self, slot: &str, action: &str) -> Result<(), Error> {
        let slot = self.send(self.request(Method::POST, &["slots", slot, action])?).await?;
        say(format!("{}  {}", word(&slot["name"]), word(&slot["description"])));
        Ok(())
    }
}

impl Command {
    pub async fn run(self) -> Result<(), Error> {
        match self {
            Self::Ls { connection } => {
                let pool = Door::new(connection)?.get(&[], &[]).await?;
                platforms(items(&pool["platforms"]));
                if let (Some(slots), limit) = (pool["slots"]["busy"].as_u64(), &pool["limit"])
                    && !limit.is_null()
                {
                    say(format!("all platforms together: {slots} busy, at most {limit}"));
                }
            }
            Self::Show { connection, platform } => {
                show(&Door::new(connection)?.get(&["platforms", &platform], &[]).await?);
            }
            Self::Limit { connection, platform, limit: Limit(limit), provider: Some(provider), .. } => {
                let door = Door::new(connection)?;
                let path = ["platforms", &platform, "providers", &provider, "limit"];
                let request = match limit {
                    Some(limit) => door.request(Method::PUT, &path)?.json(&json!({ "limit": limit })),
                    None => door.request(Method::DELETE, &path)?,
                };
                show(&door.send(request).await?);
            }
            Self::Limit { connection, platform, limit: Limit(limit), provider: None, permits } => {
                let what = if permits { "permits" } else { "limit" };
                show(&Door::new(connection)?.patch(&platform, &json!({ what: limit })).await?);
            }
            Self::Drain { connection, platform } => {
                show(&Door::new(connection)?.patch(&platform, &json!({ "draining": true })).await?);
            }
            Self::Undrain { connection, platform } => {
                show(&Door::new(connection)?.patch(&platform, &json!({ "draining": false })).await?);
            }
            Self::Cordon { connection, slot } => Door::new(connection)?.slot(&slot, "cordon").await?,
            Self::Uncordon { connection, slot } => Door::new(connection)?.slot(&slot, "uncordon").await?,
            Self::Reset { connection, slot, force } => {
                Door::new(connection)?.slot(&slot, if force { "force-free" } else { "reset" }).await?;
            }
            Self::Slots { connection, platform, state } => slots(&Door::new(connection)?, platform, state).await?,
            Self::Order { connection, platforms, clear } => {
                let door = Door::new(connection)?;
                let order = if clear {
                    door.send(door.request(Method::DELETE, &["order"])?).await?
                } else if platforms.is_empty() {
                    door.get(&["order"], &[]).await?
                } else {
                    door.send(door.request(Method::PUT, &["order"])?.json(&json!({ "platforms": platforms }))).await?
                };
                let names = |of: &str| items(&order[of]).iter().map(word).collect::<Vec<_>>().join(", ");
                say(names("platforms"));
                if order["byOperator"] == true {
                    say(format!("(set by an operator; the settings say {})", names("setting")));
                }
            }
            Self::Sizes { connection } => sizes(&Door::new(connection)?.get(&["sizes"], &[]).await?),
            Self::History { connection, platform } => {
                let history = Door::new(connection)?.get(&["history"], &[("platform", &platform)]).await?;
                let mut table = table(&["AT", "USED", "LIMIT"]);
                for point in items(&history["points"]) {
                    table.add_row([word(&point["at"]), word(&point["used"]), word(&point["limit"])]);
                }
                say(table);
            }
        }
        Ok(())
    }
}

async fn slots(door: &Door, platform: Option<String>, state: Option<String>) -> Result<(), Error> {
    let mut table = table(&["SLOT", "STATE", "PROVIDER", "DESCRIPTION"]);
    let mut cursor = String::new();
    loop {
        let asked = [
            ("platform", platform.as_deref().unwrap_or_default()),
            ("state", state.as_deref().unwrap_or_default()),
            ("cursor", &cursor),
            ("limit", "500"),
        ];
        let query: Vec<_> = asked.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let page = door.get(&["slots"], &query).await?;
        for slot in items(&page["slots"]) {
            table.add_row(["name", "state", "provider", "description"].map(|name| word(&slot[name])));
        }
        cursor = word(&page["nextCursor"]);
        if cursor.is_empty() {
            say(table);
            return Ok(());
        }
    }
}

/// What is set beside what was measured, and beside what is recommended: each processor, memory.
fn sizes(sizes: &Value) {
    let both = |cpu: &Value, memory: String| match cpu.as_u64() {
        Some(cpu) => format!("{cpu}m, {memory} MiB"),
        None => "-".to_owned(),
    };
    let mut table = table(&["PROVIDER", "SET", "LIMITS", "MEASURED", "P95 CPU, P99 MEMORY", "RECOMMENDED", "TO SET"]);
    for one in items(&sizes["providers"]) {
        let (set, recommended) = (&one["set"], &one["recommended"]);
        let peak = one["peakMemoryBytesP99"].as_u64().map_or(0, |bytes| bytes.div_ceil(1 << 20));
        let advice: Vec<String> = items(&one["advice"]).iter().map(word).collect();
        table.add_row([
            word(&one["provider"]),
            both(&set["cpuMillis"], word(&set["memoryMb"])),
            both(&set["cpuLimitMillis"], word(&set["memoryLimitMb"])),
            word(&one["sample"]),
            both(&one["cpuMillisP95"], peak.to_string()),
            both(&recommended["cpuMillis"], word(&recommended["memoryMb"])),
            advice.join(" "),
        ]);
    }
    say(table);
    say(format!(
        "\nOf the last seven days; fewer than {} runners recommend nothing. {}",
        word(&sizes["sampleNeeded"]),
        if sizes["rightSizing"] == true {
            "RUNNER_RIGHT_SIZING is on: what is recommended is what runners ask for."
        } else {
            "RUNNER_RIGHT_SIZING is off: runners ask for what is set."
        }
    ));
}

const STATES: [&str; 6] = ["idle", "deploying", "busy", "releasing", "error", "cordoned"];
const COUNTS: [&str; 6] = ["IDLE", "DEPLOYING", "BUSY", "RELEASING", "ERROR", "CORDONED"];

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn platforms(platforms: &[Value]) {
    let mut table = table(&[&["PLATFORM", "KIND", "LIMIT"][..], &COUNTS, &["PERMITS", "NOTE"]].concat());
    for platform in platforms {
        let mut row = vec![word(&platform["name"]), word(&platform["kind"]), limit(&platform["limit"])];
        row.extend(STATES.map(|state| word(&platform["slots"][state])));
        row.push(format!("{} of {}", word(&platform["permitsTaken"]), limit(&platform["permits"])));
        row.push(if platform["draining"] == true { "draining".to_owned() } else { String::new() });
        table.add_row(row);
    }
    say(table);
}

fn show(platform: &Value) {
    platforms(std::slice::from_ref(platform));
    pools(items(&platform["pools"]));
    let providers = items(&platform["providers"]);
    if providers.is_empty() {
        return;
    }
    let mut table = table(&[&["PROVIDER", "LIMIT"][..], &COUNTS, &["BREAKER"]].concat());
    for provider in providers {
        let mut row = vec![word(&provider["provider"]), limit(&provider["limit"])];
        row.extend(STATES.map(|state| word(&provider["slots"][state])));
        row.push(word(&provider["breaker"]["state"]));
        table.add_row(row);
    }
    say(format!("\n{table}"));
}

/// Standing slots, and why there are so many.
fn pools(pools: &[Value]) {
    if pools.is_empty() {
        return;
    }
    let shown = ["target", "ready", "busy", "preparing", "failed", "waiting", "limit"];
    let mut table = table(&["POOL", "TARGET", "READY", "BUSY", "PREPARING", "FAILED", "WAITING", "LIMIT", "WHY"]);
    for pool in pools {
        let mut row = vec![word(&pool["provider"])];
        row.extend(shown.map(|name| word(&pool[name])));
        row.push(word(&pool["why"]));
        table.add_row(row);
    }
    say(format!("\n{table}"));
    let changes = pools.iter().flat_map(|pool| items(&pool["changes"]).iter().map(move |change| (pool, change)));
    let mut changes: Vec<(&Value, &Value)> = changes.collect();
    changes.sort_by_key(|(_, change)| std::cmp::Reverse(word(&change["at"])));
    for (pool, change) in changes.into_iter().take(10) {
        say(format!("{}  {}: {}", word(&change["at"]), word(&pool["provider"]), word(&change["why"])));
    }
}

/// `5 (operator)`
fn limit(limit: &Value) -> String {
    if limit.is_null() { "-".to_owned() } else { format!("{} ({})", word(&limit["value"]), word(&limit["from"])) }
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => shown(text).into_owned(),
        other => other.to_string(),
    }
}
