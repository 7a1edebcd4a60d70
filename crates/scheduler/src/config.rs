//! The scheduler's settings.

mod sizes;

use std::time::Duration;

use greenroom_chassis::{Settings, telemetry};
use greenroom_contracts::proto::internal::v1::Caller;
use greenroom_domain::bot::Timing;
use greenroom_domain::network::AllowedNetworks;
use greenroom_domain::{PlatformName, Provider, Resources, Timestamp};
use greenroom_store::Options;

use crate::environment::Dialects;
use crate::settings::check::Terms;
use crate::sizing::{self, Asked, Own, Sizing};

pub(crate) use sizes::prefix;

/// The scheduler's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where its schema is.
    pub database: Options,
    /// The chain of a bot that names none.
    pub platforms: Vec<PlatformName>,
    /// Where runners find the gateway.
    pub runner_gateway_url: String,
    /// Where runners send their traces, if anywhere.
    pub runner_otlp: Option<String>,
    /// What images of others find in their environment.
    pub(crate) dialects: Dialects,
    /// Deadlines and periods.
    pub timing: Timing,
    /// Between sweeps.
    pub sweep: Duration,
    /// How long a released runner may take to leave in good order.
    pub release_grace: Duration,
    /// So long after a bot's end its last runner may still upload.
    pub late_uploads: Duration,
    /// Most notes of a bot's runners that are kept.
    pub most_notes: u32,
    /// What a bot gets that says nothing.
    pub defaults: Defaults,
    /// How large runners are.
    pub(crate) sizing: Sizing,
    /// Time between a runner's beats, told to it at its admission.
    pub beat_interval: Duration,
    /// How much sound a part of a recording holds.
    pub part: Duration,
    /// Networks that a runner's browser may connect to although their addresses are not public.
    pub allowed_networks: AllowedNetworks,
}

/// What a bot gets that says nothing.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// Time in the queue.
    pub queue_timeout: Duration,
    /// Tries after the first.
    pub max_retries: u32,
    /// Time in the waiting room.
    pub waiting_room: Duration,
    /// Time alone at the start.
    pub no_one_joined: Duration,
    /// Time alone at the end.
    pub everyone_left: Duration,
    /// Time without a sound.
    pub inactivity: Duration,
    /// Time in the meeting.
    pub max_duration: Duration,
}

impl Config {
    /// Returns the values by which a new bot's settings are checked.
    pub(crate) fn terms<'a>(&'a self, caller: &'a Caller, now: Timestamp) -> Terms<'a> {
        let Self { platforms, allowed_networks, defaults, .. } = self;
        Terms { caller, platforms, allowed_networks, defaults, now, is_new: true }
    }

    /// How large a runner of that provider is when nobody says anything.
    #[must_use]
    pub fn size_of(&self, provider: &Provider) -> Resources {
        let size = sizing::choose(&self.sizing, provider, Asked::default(), Own::default(), None);
        // Bounds are told to those who ask for something only.
        size.map(Resources::from).unwrap_or_default()
    }

    /// Reads the settings. `database_url` and `platforms` are shared with other services; `gateway` is where this process's
    /// own gateway listens.
    pub fn parse(settings: &mut Settings, database_url: &str, platforms: &[PlatformName], gateway: &str) -> Self {
        settings.section("scheduler");
        let default = Timing::default();
        let url = settings.url("SCHEDULER_DATABASE_URL", database_url, "Where the schema `scheduler` is.");
        let ms = Duration::from_millis;
        let own_otlp = telemetry::otlp(settings).unwrap_or_default();
        let runner_otlp: String = settings.get(
            "RUNNER_OTLP_ENDPOINT",
            &own_otlp,
            "Where runners send their traces, as seen from inside a runner; default: OTEL_EXPORTER_OTLP_ENDPOINT.",
        );
        Self {
            database: Options {
                url,
                connections: settings.get("SCHEDULER_DATABASE_CONNECTIONS", "12", "Most connections to Postgres at once."),
            },
            platforms: platforms.to_vec(),
            runner_gateway_url: settings.get(
                "RUNNER_GATEWAY_URL",
                &format!("http://{gateway}"),
                "Where runners find the gateway, as seen from inside a runner.",
            ),
            runner_otlp: Some(runner_otlp).filter(|endpoint| !endpoint.is_empty()),
            dialects: Dialects::parse(settings),
            timing: Timing {
                lead: settings.millis("BOT_START_LEAD_MS", default.lead, "How long before its start a bot asks for a slot."),
                missed_start: settings.millis(
                    "MISSED_START_MS",
                    default.missed_start,
                    "A bot without an endTime that could not be sent for so long after its start is not sent any more.",
                ),
                deploy: settings.millis("DEPLOY_TIMEOUT_MS", default.deploy, "A start without progress for so long has failed."),
                join: settings.millis("JOIN_TIMEOUT_MS", default.join, "From admission to waiting room or meeting."),
                leave: settings.millis("LEAVE_TIMEOUT_MS", default.leave, "From leaving to the last report; then the runner is stopped."),
                silence_limit: settings.millis(
                    "SILENCE_LIMIT_MS",
                    default.silence_limit,
                    "A silent runner that its platform calls running is stopped after so long.",
                ),
                orphan: settings.millis(
                    "ORPHAN_TIMEOUT_MS",
                    default.orphan,
                    "A silent runner whose platform does not answer is given up after so long; runners without an answer leave a minute before.",
                ),
                ..default
            },
            sweep: settings.millis("SCHEDULER_SWEEP_MS", ms(10_000), "Between sweeps; what is due sooner is done sooner."),
            release_grace: settings.millis(
                "RELEASE_GRACE_MS",
                // Our own runner leaves, hands in its last part and reports, each with tries: a minute is enough.
                ms(60_000),
                "How long a released runner may take to leave in good order.",
            ),
            late_uploads: settings.millis(
                "LATE_UPLOADS_MS",
                // A runner hands in what it has within half a minute; this is for one that was cut off meanwhile.
                ms(600_000),
                "So long after a bot's end its last runner may still upload parts and screenshots.",
            ),
            most_notes: settings.get(
                "NOTES_PER_BOT",
                "1000",
                "Most notes of a bot's runners that its timeline keeps; each is a line of at most 500 characters and an event.",
            ),
            defaults: Defaults {
                queue_timeout: settings.millis(
                    "GLOBAL_QUEUE_TIMEOUT_MS",
                    ms(600_000),
                    "How long a bot waits for a slot when it says nothing; 0: now or not at all.",
                ),
                max_retries: settings.get("MAX_RETRIES", "3", "How many times a failure that may pass is tried again."),
                waiting_room: settings.millis("WAITING_ROOM_TIMEOUT_MS", ms(900_000), "How long a bot waits to be let in."),
                no_one_joined: settings.millis("NO_ONE_JOINED_TIMEOUT_MS", ms(1_200_000), "A bot that stays alone from the start leaves after so long."),
                everyone_left: settings.millis("EVERYONE_LEFT_TIMEOUT_MS", ms(60_000), "A bot that is left alone leaves after so long."),
                inactivity: settings.millis("INACTIVITY_TIMEOUT_MS", ms(3_600_000), "A bot that hears nothing leaves after so long."),
                max_duration: settings.millis("MAX_DURATION_MS", ms(14_400_000), "The longest a bot stays in a meeting."),
            },
            sizing: sizes::parse(settings),
            beat_interval: settings.millis("HEARTBEAT_INTERVAL_MS", ms(10_000), "Between a runner's beats; runners are told."),
            part: settings.millis("RECORDING_PART_MS", ms(10_000), "How much sound a part of a recording holds: what a killed runner loses at most."),
            allowed_networks: settings.meeting_addresses_allowed(),
        }
    }
}
