//! `greenroom bots …`: a client like any other, by gRPC through the gateway.

use std::str::FromStr;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use greenroom_contracts::proto::v1;
use greenroom_contracts::proto::v1::bot_service_client::BotServiceClient;
use greenroom_contracts::proto::v1::event_service_client::EventServiceClient;
use greenroom_contracts::proto::v1::recording_service_client::RecordingServiceClient;
use greenroom_contracts::proto::v1::{
    Bot, BotSettings, CancelBotRequest, CreateBotRequest, DeployBotRequest, FailBotRequest, GetBotRequest,
    JoinRecordingRequest, LeaveBotRequest, ListBotsRequest, ListBotsResponse, ListTimelineRequest,
    ListTimelineResponse, Meeting, Resources, RestartBotRequest, TimelineEntry, UpdateBotRequest, WatchEventsRequest,
};
use greenroom_contracts::{bot_state, proto_timestamp, timestamp};
use greenroom_domain::bot::BotState;
use greenroom_domain::parse_rfc3339;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::shown::{say, shown};
use crate::Error;

#[derive(Debug, Args)]
pub struct Connection {
    /// Where the gateway is.
    #[arg(long, env = "GREENROOM_URL", default_value = "http://127.0.0.1:8460")]
    url: String,
    /// An API key; default: the one that `greenroom up` keeps in .greenroom/api-key.
    #[arg(long, env = "GREENROOM_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sends a bot into a meeting.
    Create {
        #[command(flatten)]
        connection: Connection,
        /// The meeting's address.
        meeting: String,
        /// web, google-meet, microsoft-teams or zoom.
        #[arg(long, default_value = "web")]
        provider: String,
        /// The name that others see.
        #[arg(long)]
        name: Option<String>,
        /// When the meeting starts, with an offset: 2026-12-01T10:00:00+01:00. Default: now.
        #[arg(long)]
        start: Option<String>,
        /// When the bot has to be out.
        #[arg(long)]
        end: Option<String>,
        /// Processor that its runner asks for, in thousandths.
        #[arg(long)]
        cpu_millis: Option<u32>,
        /// Memory that its runner asks for, in MiB.
        #[arg(long)]
        memory_mb: Option<u32>,
        /// No two living bots have the same.
        #[arg(long)]
        deduplication_key: Option<String>,
        /// The same key makes the same bot.
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// Lists bots, newest first.
    Ls {
        #[command(flatten)]
        connection: Connection,
        /// Only those in this state.
        #[arg(long)]
        state: Option<String>,
        /// Most bots that are shown: at most 200.
        #[arg(long, default_value_t = 50)]
        page_size: u32,
        /// The next page, by the token that the list before ended with.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Shows a bot and its timeline.
    Get {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// Shows a page of a bot's timeline: its newest lines, or those before a place.
    Timeline {
        #[command(flatten)]
        connection: Connection,
        id: String,
        /// Most lines that are shown: at most 1000.
        #[arg(long, default_value_t = 200)]
        page_size: u32,
        /// Earlier lines, by the token that the page before began with.
        #[arg(long)]
        page_token: Option<String>,
    },
    /// Follows a bot to its end.
    Watch {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// Changes a bot that is not on its way yet; its end, as long as it is not over.
    Edit {
        #[command(flatten)]
        connection: Connection,
        id: String,
        /// When the meeting starts.
        #[arg(long)]
        start: Option<String>,
        /// When the bot has to be out; `none`: at no time of its own.
        #[arg(long)]
        end: Option<String>,
        /// The name that others see.
        #[arg(long)]
        name: Option<String>,
        /// Lower is first.
        #[arg(long)]
        priority: Option<u32>,
        /// The platforms to try, in order.
        #[arg(long, value_delimiter = ',')]
        platforms: Option<Vec<String>>,
    },
    /// Sends a bot now, whatever its start.
    Deploy {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// For operators: ends a bot as failed.
    Fail {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// For operators: replaces a bot's runner.
    Restart {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// For operators: joins the parts of a bot's recording again.
    JoinRecording {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// Out of the meeting in good order.
    Leave {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
    /// Away with it, at once.
    Cancel {
        #[command(flatten)]
        connection: Connection,
        id: String,
    },
}

type Client = BotServiceClient<Keyed>;
/// A connection that shows the key.
pub(super) type Keyed = InterceptedService<Channel, Key>;

/// Shows the key with every call.
#[derive(Clone)]
pub(super) struct Key(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Connection {
    /// Where the gateway is, and the key to show it.
    pub(super) fn parts(self) -> Result<(String, String), Error> {
        let key = match self.api_key {
            Some(key) => key,
            None => std::fs::read_to_string(".greenroom/api-key").map_err(|_| {
                Error::Plain("GREENROOM_API_KEY is not set, and there is no .greenroom/api-key".to_owned())
            })?,
        };
        Ok((self.url, key.trim().to_owned()))
    }

    fn client(self) -> Result<Client, Error> {
        Ok(BotServiceClient::new(self.keyed()?))
    }

    pub(super) fn keyed(self) -> Result<Keyed, Error> {
        let (url, key) = self.parts()?;
        let key = format!("Bearer {key}");
        let key = MetadataValue::from_str(&key).map_err(|_| Error::Plain("GREENROOM_API_KEY: is no key".to_owned()))?;
        let endpoint =
            Endpoint::new(url).map_err(|_| Error::Plain("GREENROOM_URL: expected http://HOST:PORT".to_owned()))?;
        Ok(InterceptedService::new(endpoint.connect_lazy(), Key(key)))
    }
}

impl Command {
    pub async fn run(self) -> Result<(), Error> {
        match self {
            Self::Create {
                connection,
                meeting,
                provider,
                name,
                start,
                end,
                cpu_millis,
                memory_mb,
                deduplication_key,
                idempotency_key,
            } => {
                let bot = BotSettings {
                    meeting: Some(Meeting { provider, url: meeting, ..Meeting::default() }),
                    display_name: name.unwrap_or_default(),
                    start_time: start.map(|start| given("--start", &start)).transpose()?,
                    end_time: end.map(|end| given("--end", &end)).transpose()?,
                    deduplication_key: deduplication_key.unwrap_or_default(),
                    resources: (cpu_millis.is_some() || memory_mb.is_some()).then(|| Resources {
                        cpu_millis,
                        memory_mb,
                        ..Resources::default()
                    }),
                    ..BotSettings::default()
                };
                let request =
                    CreateBotRequest { settings: Some(bot), idempotency_key: idempotency_key.unwrap_or_default() };
                show(&connection.client()?.create_bot(request).await?.into_inner());
            }
            Self::Ls { connection, state, page_size, page_token } => {
                let request = ListBotsRequest {
                    page_size: Some(page_size),
                    page_token: page_token.unwrap_or_default(),
                    state: state.map(|state| given_state(&state)).transpose()?.unwrap_or_default().into(),
                };
                let ListBotsResponse { bots, next_page_token } =
                    connection.client()?.list_bots(request).await?.into_inner();
                let mut table = Table::new();
                table
                    .load_style(presets::NOTHING)
                    .set_header(["NUMBER", "ID", "STATE", "PROVIDER", "PLATFORM", "START", "REASON"]);
                for bot in bots {
                    table.add_row([
                        bot.number.to_string(),
                        bot.id.clone(),
                        bot.state().word().to_owned(),
                        shown(provider(&bot)).into_owned(),
                        shown(&bot.platform).into_owned(),
                        time(start(&bot)),
                        shown(&bot.reason).into_owned(),
                    ]);
                }
                say(table);
                if !next_page_token.is_empty() {
                    say(format!("… more: --page-token {}", shown(&next_page_token)));
                }
            }
            Self::Get { connection, id } => {
                show(&connection.client()?.get_bot(GetBotRequest { bot_id: id }).await?.into_inner())
            }
            Self::Timeline { connection, id, page_size, page_token } => {
                let bot_id = id.clone();
                let page_token = page_token.unwrap_or_default();
                let request = ListTimelineRequest { bot_id, page_size: Some(page_size), page_token };
                let ListTimelineResponse { entries, next_page_token } =
                    connection.client()?.list_timeline(request).await?.into_inner();
                if !next_page_token.is_empty() {
                    say(format!(
                        "… earlier lines: greenroom bots timeline {id} --page-token {}",
                        shown(&next_page_token)
                    ));
                }
                // As they happened.
                for line in entries.iter().rev() {
                    say(line_of(line));
                }
            }
            Self::Watch { connection, id } => watch(connection.keyed()?, id).await?,
            Self::Edit { connection, id, start, end, name, priority, platforms } => {
                let named = [
                    ("start_time", start.is_some()),
                    ("end_time", end.is_some()),
                    ("display_name", name.is_some()),
                    ("priority", priority.is_some()),
                    ("platforms", platforms.is_some()),
                ];
                let paths = named.into_iter().filter(|(_, named)| *named).map(|(path, _)| path.to_owned()).collect();
                let end = end.filter(|end| end != "none");
                let bot = BotSettings {
                    start_time: start.map(|start| given("--start", &start)).transpose()?,
                    end_time: end.map(|end| given("--end", &end)).transpose()?,
                    display_name: name.unwrap_or_default(),
                    priority,
                    platforms: platforms.unwrap_or_default(),
                    ..BotSettings::default()
                };
                let update_mask = Some(prost_types::FieldMask { paths });
                let request = UpdateBotRequest { bot_id: id, settings: Some(bot), update_mask };
                show(&connection.client()?.update_bot(request).await?.into_inner());
            }
            Self::Deploy { connection, id } => {
                show(&connection.client()?.deploy_bot(DeployBotRequest { bot_id: id }).await?.into_inner())
            }
            Self::Fail { connection, id } => {
                show(&connection.client()?.fail_bot(FailBotRequest { bot_id: id }).await?.into_inner())
            }
            Self::Restart { connection, id } => {
                show(&connection.client()?.restart_bot(RestartBotRequest { bot_id: id }).await?.into_inner())
            }
            Self::JoinRecording { connection, id } => {
                let request = JoinRecordingRequest { bot_id: id };
                let recording =
                    RecordingServiceClient::new(connection.keyed()?).join_recording(request).await?.into_inner();
                say(format!("{}  {}  {} parts", recording.bot_id, recording.state().word(), recording.parts));
            }
            Self::Leave { connection, id } => {
                show(&connection.client()?.leave_bot(LeaveBotRequest { bot_id: id }).await?.into_inner())
            }
            Self::Cancel { connection, id } => {
                show(&connection.client()?.cancel_bot(CancelBotRequest { bot_id: id }).await?.into_inner())
            }
        }
        Ok(())
    }
}

/// A time that was given for an option.
fn given(option: &str, text: &str) -> Result<prost_types::Timestamp, Error> {
    let at = parse_rfc3339(text).map_err(|error| Error::Plain(format!("{option}: {error}")))?;
    Ok(proto_timestamp(at))
}

/// A state that was given.
fn given_state(text: &str) -> Result<v1::BotState, Error> {
    let state = v1::BotState::of_word(text);
    state.ok_or_else(|| Error::Plain(format!("--state: must be one of {}", v1::BotState::WORDS.join(", "))))
}

async fn watch(connection: Keyed, id: String) -> Result<(), Error> {
    let mut client = BotServiceClient::new(connection.clone());
    let request = WatchEventsRequest { cursor: String::new(), bot_id: id.clone() };
    let mut events = EventServiceClient::new(connection).watch_events(request).await?.into_inner();
    let mut shown = 0;
    loop {
        // Listening first and asking then, nothing falls between; after each event the timeline says what is new.
        let bot = client.get_bot(GetBotRequest { bot_id: id.clone() }).await?.into_inner();
        for line in bot.timeline.iter().filter(|line| line.sequence > shown) {
            say(line_of(line));
        }
        shown = bot.timeline.last().map_or(shown, |line| line.sequence);
        if bot_state(bot.state()).is_some_and(BotState::is_terminal) {
            return Ok(());
        }
        if events.message().await?.is_none() {
            return Err(Error::Plain("the gateway ended the stream".to_owned()));
        }
    }
}

fn provider(bot: &Bot) -> &str {
    let meeting = bot.settings.as_ref().and_then(|settings| settings.meeting.as_ref());
    meeting.map_or("", |meeting| meeting.provider.as_str())
}

fn start(bot: &Bot) -> Option<&prost_types::Timestamp> {
    bot.settings.as_ref()?.start_time.as_ref()
}

fn show(bot: &Bot) {
    say(format!(
        "bot {}  {}\n  id        {}\n  provider  {}\n  start     {}",
        bot.number,
        bot.state().word(),
        shown(&bot.id),
        shown(provider(bot)),
        time(start(bot))
    ));
    if !bot.platform.is_empty() {
        say(format!("  platform  {} (attempt {})", shown(&bot.platform), bot.attempt));
    }
    if !bot.reason.is_empty() {
        say(format!("  reason    {}: {}", shown(&bot.reason), shown(&bot.advice)));
    }
    if let Some(size) = &bot.resources {
        say(format!(
            "  size      {}m of a processor ({}m at most), {} MiB ({} at most)",
            size.cpu_millis, size.cpu_limit_millis, size.memory_mb, size.memory_limit_mb
        ));
    }
    for attempt in &bot.attempts {
        if let Some(usage) = &attempt.usage {
            let (cpu, lasted) = (usage.cpu_ms.div_ceil(1000), usage.lasted_ms.div_ceil(1000));
            let peak = usage.peak_memory_bytes.div_ceil(1 << 20);
            say(format!(
                "  took      {peak} MiB at most, {cpu} s of processor in {lasted} s (attempt {})",
                attempt.attempt
            ));
        }
    }
    if let Some(position) = bot.queue_position {
        let least = if bot.position_is_at_least() { " or behind" } else { "" };
        let wait = bot.estimated_wait_ms.map(|wait| format!(", about {} s", wait.div_ceil(1_000))).unwrap_or_default();
        say(format!("  queue     place {position}{least}{wait}"));
    }
    if !bot.earlier_timeline_page_token.is_empty() {
        let (id, token) = (shown(&bot.id), shown(&bot.earlier_timeline_page_token));
        say(format!("  … earlier lines: greenroom bots timeline {id} --page-token {token}"));
    }
    for line in &bot.timeline {
        say(format!("  {}", line_of(line)));
    }
}

/// A line of a timeline. What stands in it may come from a runner, and so from a meeting.
fn line_of(line: &TimelineEntry) -> String {
    let (state, what) = (line.state().word(), shown(&line.what));
    format!("{}  {state:<16} {what:<18} {}", time(line.at.as_ref()), shown(&line.detail))
}

fn time(at: Option<&prost_types::Timestamp>) -> String {
    at.and_then(|at| timestamp("at", at).ok()).map(|at| at.strftime("%F %T%.3f").to_string()).unwrap_or_default()
}
