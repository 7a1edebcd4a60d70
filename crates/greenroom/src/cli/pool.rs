//! `greenroom pool …`: for operators, by gRPC through the gateway.

use clap::Subcommand;
use comfy_table::{Table, presets};
use greenroom_contracts::proto::v1::order_service_client::OrderServiceClient;
use greenroom_contracts::proto::v1::pool_operator_service_client::PoolOperatorServiceClient;
use greenroom_contracts::proto::v1::sizes_service_client::SizesServiceClient;
use greenroom_contracts::proto::v1::{
    ClearPlatformOrderRequest, ClearProviderLimitRequest, CordonSlotRequest, ForceFreeSlotRequest, GetHistoryRequest,
    GetPlatformOrderRequest, GetPlatformRequest, GetPoolRequest, GetSizesRequest, GetSizesResponse, ListSlotsRequest,
    PlatformSettings, PlatformStats, PoolLimit, PoolSlot, ResetSlotRequest, SetPlatformOrderRequest,
    SetProviderLimitRequest, SlotCounts, SlotState, StandingPool, UncordonSlotRequest, UpdatePlatformRequest,
};
use greenroom_contracts::timestamp;

use super::bots::{Connection, Keyed};
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

type Client = PoolOperatorServiceClient<Keyed>;

fn client(connection: Connection) -> Result<Client, Error> {
    Ok(PoolOperatorServiceClient::new(connection.keyed()?))
}

/// Changes one setting of a platform.
async fn update(connection: Connection, platform: String, path: &str, settings: PlatformSettings) -> Result<(), Error> {
    let update_mask = Some(prost_types::FieldMask { paths: vec![path.to_owned()] });
    let request = UpdatePlatformRequest { platform, settings: Some(settings), update_mask };
    show(&client(connection)?.update_platform(request).await?.into_inner());
    Ok(())
}

fn say_slot(slot: &PoolSlot) {
    say(format!("{}  {}", shown(&slot.name), shown(&slot.description)));
}

impl Command {
    pub async fn run(self) -> Result<(), Error> {
        match self {
            Self::Ls { connection } => {
                let pool = client(connection)?.get_pool(GetPoolRequest {}).await?.into_inner();
                platforms(&pool.platforms);
                if let (Some(slots), Some(limit)) = (&pool.slots, pool.limit) {
                    say(format!("all platforms together: {} busy, at most {limit}", slots.busy));
                }
            }
            Self::Show { connection, platform } => {
                show(&client(connection)?.get_platform(GetPlatformRequest { platform }).await?.into_inner());
            }
            Self::Limit { connection, platform, limit: Limit(limit), provider: Some(provider), .. } => {
                let mut client = client(connection)?;
                let stats = match limit {
                    Some(_) => client.set_provider_limit(SetProviderLimitRequest { platform, provider, limit }).await?,
                    None => client.clear_provider_limit(ClearProviderLimitRequest { platform, provider }).await?,
                };
                show(stats.get_ref());
            }
            Self::Limit { connection, platform, limit: Limit(limit), provider: None, permits: false } => {
                update(connection, platform, "limit", PlatformSettings { limit, ..PlatformSettings::default() })
                    .await?;
            }
            Self::Limit { connection, platform, limit: Limit(permits), provider: None, permits: true } => {
                let settings = PlatformSettings { permits, ..PlatformSettings::default() };
                update(connection, platform, "permits", settings).await?;
            }
            Self::Drain { connection, platform } => {
                let settings = PlatformSettings { draining: true, ..PlatformSettings::default() };
                update(connection, platform, "draining", settings).await?;
            }
            Self::Undrain { connection, platform } => {
                update(connection, platform, "draining", PlatformSettings::default()).await?;
            }
            Self::Cordon { connection, slot } => {
                say_slot(client(connection)?.cordon_slot(CordonSlotRequest { slot }).await?.get_ref());
            }
            Self::Uncordon { connection, slot } => {
                say_slot(client(connection)?.uncordon_slot(UncordonSlotRequest { slot }).await?.get_ref());
            }
            Self::Reset { connection, slot, force } => {
                let mut client = client(connection)?;
                let slot = if force {
                    client.force_free_slot(ForceFreeSlotRequest { slot }).await?
                } else {
                    client.reset_slot(ResetSlotRequest { slot }).await?
                };
                say_slot(slot.get_ref());
            }
            Self::Slots { connection, platform, state } => {
                let state = state.map(|state| given_state(&state)).transpose()?.unwrap_or_default();
                slots(client(connection)?, platform.unwrap_or_default(), state).await?;
            }
            Self::Order { connection, platforms, clear } => {
                let mut client = OrderServiceClient::new(connection.keyed()?);
                let order = if clear {
                    client.clear_platform_order(ClearPlatformOrderRequest {}).await?
                } else if platforms.is_empty() {
                    client.get_platform_order(GetPlatformOrderRequest {}).await?
                } else {
                    client.set_platform_order(SetPlatformOrderRequest { platforms }).await?
                };
                let order = order.into_inner();
                say(shown(&order.platforms.join(", ")));
                if order.by_operator {
                    let setting = order.setting.join(", ");
                    say(format!("(set by an operator; the settings say {})", shown(&setting)));
                }
            }
            Self::Sizes { connection } => {
                let sizes = SizesServiceClient::new(connection.keyed()?).get_sizes(GetSizesRequest {}).await?;
                say_sizes(sizes.get_ref());
            }
            Self::History { connection, platform } => {
                let history = client(connection)?.get_history(GetHistoryRequest { platform }).await?.into_inner();
                let mut table = table(&["AT", "USED", "LIMIT"]);
                for point in &history.points {
                    table.add_row([time(point.at.as_ref()), point.used.to_string(), point.limit.to_string()]);
                }
                say(table);
            }
        }
        Ok(())
    }
}

/// A state that was given.
fn given_state(text: &str) -> Result<SlotState, Error> {
    let state = SlotState::of_word(text);
    state.ok_or_else(|| Error::Plain(format!("--state: must be one of {}", SlotState::WORDS.join(", "))))
}

async fn slots(mut client: Client, platform: String, state: SlotState) -> Result<(), Error> {
    let mut table = table(&["SLOT", "STATE", "PROVIDER", "DESCRIPTION"]);
    let mut page_token = String::new();
    loop {
        let request =
            ListSlotsRequest { platform: platform.clone(), state: state.into(), page_token, page_size: Some(500) };
        let page = client.list_slots(request).await?.into_inner();
        for slot in &page.slots {
            table.add_row([
                shown(&slot.name).into_owned(),
                slot.state().word().to_owned(),
                shown(&slot.provider).into_owned(),
                shown(&slot.description).into_owned(),
            ]);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            say(table);
            return Ok(());
        }
    }
}

/// Prints the set size beside the measured and the recommended one: each processor, memory.
fn say_sizes(sizes: &GetSizesResponse) {
    let both = |cpu: Option<u64>, memory: u64| match cpu {
        Some(cpu) => format!("{cpu}m, {memory} MiB"),
        None => "-".to_owned(),
    };
    let mut table = table(&["PROVIDER", "SET", "LIMITS", "MEASURED", "P95 CPU, P99 MEMORY", "RECOMMENDED", "TO SET"]);
    for one in &sizes.providers {
        let (set, recommended) = (one.set.as_ref(), one.recommended.as_ref());
        let peak = one.peak_memory_bytes_p99.map_or(0, |bytes| bytes.div_ceil(1 << 20));
        table.add_row([
            shown(&one.provider).into_owned(),
            both(set.map(|set| set.cpu_millis.into()), set.map_or(0, |set| set.memory_mb.into())),
            both(set.map(|set| set.cpu_limit_millis.into()), set.map_or(0, |set| set.memory_limit_mb.into())),
            one.sample.to_string(),
            both(one.cpu_millis_p95, peak),
            both(recommended.map(|size| size.cpu_millis.into()), recommended.map_or(0, |size| size.memory_mb.into())),
            shown(&one.advice.join(" ")).into_owned(),
        ]);
    }
    say(table);
    say(format!(
        "\nOf the last seven days; fewer than {} runners recommend nothing. {}",
        sizes.sample_needed,
        if sizes.right_sizing {
            "RUNNER_RIGHT_SIZING is on: what is recommended is what runners ask for."
        } else {
            "RUNNER_RIGHT_SIZING is off: runners ask for what is set."
        }
    ));
}

const COUNTS: [&str; 6] = ["IDLE", "DEPLOYING", "BUSY", "RELEASING", "ERROR", "CORDONED"];

/// In the order of `COUNTS`.
fn counts(slots: Option<&SlotCounts>) -> [String; 6] {
    let slots = slots.copied().unwrap_or_default();
    [slots.idle, slots.deploying, slots.busy, slots.releasing, slots.error, slots.cordoned].map(|n| n.to_string())
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

fn platforms(platforms: &[PlatformStats]) {
    let mut table = table(&[&["PLATFORM", "KIND", "LIMIT"][..], &COUNTS, &["PERMITS", "NOTE"]].concat());
    for platform in platforms {
        let names = [&platform.name, &platform.kind].map(|name| shown(name).into_owned());
        let mut row = [&names[..], &[limit(platform.limit.as_ref())]].concat();
        row.extend(counts(platform.slots.as_ref()));
        row.push(format!("{} of {}", platform.permits_taken, limit(platform.permits.as_ref())));
        row.push(if platform.draining { "draining".to_owned() } else { String::new() });
        table.add_row(row);
    }
    say(table);
}

fn show(platform: &PlatformStats) {
    platforms(std::slice::from_ref(platform));
    pools(&platform.pools);
    if platform.providers.is_empty() {
        return;
    }
    let mut table = table(&[&["PROVIDER", "LIMIT"][..], &COUNTS, &["BREAKER"]].concat());
    for provider in &platform.providers {
        let mut row = vec![shown(&provider.provider).into_owned(), limit(provider.limit.as_ref())];
        row.extend(counts(provider.slots.as_ref()));
        row.push(provider.breaker.as_ref().map_or("", |breaker| breaker.state().word()).to_owned());
        table.add_row(row);
    }
    say(format!("\n{table}"));
}

/// Standing slots, and why there are so many.
fn pools(pools: &[StandingPool]) {
    if pools.is_empty() {
        return;
    }
    let mut table = table(&["POOL", "TARGET", "READY", "BUSY", "PREPARING", "FAILED", "WAITING", "LIMIT", "WHY"]);
    for pool in pools {
        let numbers = [pool.target, pool.ready, pool.busy, pool.preparing, pool.failed, pool.waiting, pool.limit];
        let mut row = vec![shown(&pool.provider).into_owned()];
        row.extend(numbers.map(|number| number.to_string()));
        row.push(shown(&pool.why).into_owned());
        table.add_row(row);
    }
    say(format!("\n{table}"));
    let changes = pools.iter().flat_map(|pool| pool.changes.iter().map(move |change| (pool, change)));
    let mut changes: Vec<_> = changes.map(|(pool, change)| (time(change.at.as_ref()), pool, change)).collect();
    changes.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    for (at, pool, change) in changes.into_iter().take(10) {
        say(format!("{at}  {}: {}", shown(&pool.provider), shown(&change.why)));
    }
}

/// `5 (operator)`
fn limit(limit: Option<&PoolLimit>) -> String {
    limit.map_or_else(|| "-".to_owned(), |limit| format!("{} ({})", limit.value, limit.from().word()))
}

/// As HTTP shows it.
fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.and_then(|at| timestamp("at", at).ok()).map(|at| at.to_string()).unwrap_or_default()
}
