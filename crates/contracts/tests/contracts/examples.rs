//! One message of every type, with everything in it that can be.

use std::time::Duration;

use greenroom_contracts::messages::{
    BotCreated, BotProgressed, BotStateChanged, BreakerClosed, BreakerOpened, CapacityRaised, Describe, Enqueue, Held,
    PoolExhausted, Prepare, PrepareError, RecordingFailed, RecordingReady, Release, Reset, Retire, RunnerGone,
    RunnerProgressed, RunnerRefused, RunnerSilent, RunnerStarted, RunnersListed, SlotAssigned, SlotPrepareFailed,
    SlotPrepared, SlotReleased, SlotRetired, SlotsListed, Start, Stop, TimedOut, Withdraw, Withdrawn,
};
use greenroom_contracts::{Envelope, Message, Origin};
use greenroom_domain::bot::BotState;
use greenroom_domain::{
    AssignmentId, Attempt, BotId, Exit, Installation, MessageId, PlatformName, Provider, Reason, Resources, RunnerId,
    RunnerSpec, SlotId, Standing, TenantId, Timestamp, Usage,
};
use uuid::Uuid;

/// Somebody who does the same with a message of every type.
pub trait Each {
    fn take<T: Message + PartialEq>(&mut self, envelope: Envelope<T>);
}

/// Hands over one of each.
pub fn each(taker: &mut impl Each) {
    taker.take(inner(Enqueue {
        runner: runner(),
        spec: spec(),
        platforms: vec![platform("docker"), platform("k8s-eu")],
        priority: 100,
        weight: 2,
        queued_at: at(0),
        not_before: at(1),
        deadline: at(600),
        revision: 3,
    }));
    taker.take(inner(Withdraw { runner: runner() }));
    taker.take(inner(Release { runner: runner(), grace_ms: 30_000 }));
    taker.take(inner(Start {
        runner: runner(),
        platform: platform("docker"),
        spec: spec(),
        assignment: assignment(),
        slot: "docker-007".to_owned(),
        start_by: at(240),
        standing: Some(standing()),
    }));
    taker.take(inner(Prepare {
        standing: standing(),
        name: "pool-google-meet-001".to_owned(),
        platform: platform("docker"),
        provider: provider(),
        image: Some("registry.example/bot:1".to_owned()),
        resources: resources(),
        prepare_by: at(900),
    }));
    taker.take(inner(Reset { standing: standing(), platform: platform("docker") }));
    taker.take(inner(Retire { standing: standing(), platform: platform("docker") }));
    taker.take(inner(Describe {
        standing: standing(),
        platform: platform("docker"),
        description: "[IDLE] google-meet, 12 uses".to_owned(),
    }));
    taker.take(inner(SlotPrepared { standing: standing(), platform: platform("docker") }));
    taker.take(inner(SlotPrepareFailed {
        standing: standing(),
        platform: platform("docker"),
        error: PrepareError::NoCapacity,
        detail: "no server has room".to_owned(),
    }));
    taker.take(inner(SlotRetired { standing: standing(), platform: platform("docker") }));
    taker.take(inner(SlotsListed {
        platform: platform("docker"),
        list: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0006),
        page: 0,
        last: true,
        began_at: at(0),
        ended_at: at(2),
        standing: vec![standing()],
    }));
    taker.take(inner(Stop { runner: runner(), platform: platform("docker"), grace_ms: 30_000 }));
    taker.take(public(1, BotCreated { bot: bot(), number: 17, state: BotState::Scheduled, provider: provider() }));
    taker.take(public(
        5,
        BotStateChanged {
            bot: bot(),
            number: 17,
            state: BotState::Fatal,
            previous: BotState::InWaitingRoom,
            provider: provider(),
            attempt: 2,
            platform: Some(platform("docker")),
            reason: Some(Reason::JOIN_DENIED),
            advice: Reason::JOIN_DENIED.advice().map(str::to_owned),
        },
    ));
    taker.take(public(
        6,
        BotProgressed {
            bot: bot(),
            number: 17,
            state: BotState::Recording,
            attempt: 2,
            what: "note".to_owned(),
            detail: Some("Ada joined".to_owned()),
        },
    ));
    taker.take(inner(Held { runner: runner() }));
    taker.take(inner(TimedOut { runner: runner(), deadline: at(600) }));
    taker.take(inner(Withdrawn { runner: runner() }));
    taker.take(inner(SlotAssigned {
        runner: runner(),
        platform: platform("docker"),
        assignment: assignment(),
        slot: "docker-007".to_owned(),
        start_by: at(240),
    }));
    taker.take(inner(SlotReleased { runner: runner(), platform: platform("docker"), slot: "docker-007".to_owned() }));
    taker.take(inner(CapacityRaised { platform: platform("docker"), provider: Some(provider()) }));
    taker.take(inner(PoolExhausted { platform: platform("docker"), limit: 20 }));
    taker.take(inner(BreakerOpened { platform: platform("docker"), provider: provider(), probe_at: at(60), trips: 1 }));
    taker.take(inner(BreakerClosed { platform: platform("docker"), provider: provider() }));
    taker.take(inner(RunnerStarted { runner: runner(), platform: platform("docker") }));
    taker.take(inner(RunnerProgressed { runner: runner(), platform: platform("docker"), what: "pulling".to_owned() }));
    taker.take(inner(RunnerRefused {
        runner: runner(),
        platform: platform("docker"),
        reason: Reason::NO_CAPACITY,
        detail: "no host has room".to_owned(),
        may_pass: true,
    }));
    taker.take(inner(RunnerGone {
        runner: runner(),
        platform: platform("docker"),
        exit: Some(Exit { code: Some(137), signal: Some(9), out_of_memory: true, cause: None }),
        observed: true,
        never_started: false,
        usage: Some(Usage { cpu_ms: 61_500, peak_memory_bytes: 900 << 20, lasted_ms: 123_000, ..Usage::default() }),
    }));
    taker.take(inner(RunnersListed {
        platform: platform("docker"),
        list: Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0006),
        page: 0,
        last: true,
        began_at: at(0),
        ended_at: at(2),
        runners: vec![runner()],
    }));
    taker.take(inner(RunnerSilent { runner: runner(), platform: platform("docker"), last_beat_at: at(-300) }));
    taker.take(public(
        1,
        RecordingReady {
            bot: bot(),
            duration_ms: 61_500,
            size_bytes: 1_048_576,
            media_type: "audio/webm".to_owned(),
            mean_volume_db: Some(-23.5),
        },
    ));
    taker.take(public(1, RecordingFailed { bot: bot(), detail: "no part can be read".to_owned() }));
}

fn inner<T: Message>(data: T) -> Envelope<T> {
    let origin = Origin { installation: Installation::new("house").expect("a name"), service: T::FROM };
    let mut envelope = Envelope::new(&origin, at(0), data);
    envelope.header.id = MessageId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001));
    envelope.header.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    envelope
}

fn public<T: Message>(sequence: i64, data: T) -> Envelope<T> {
    let tenant = TenantId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0002));
    let mut envelope = inner(data).public(tenant, sequence);
    envelope.header.attempt = Some(2);
    envelope
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_microsecond((1_800_000_000 + second) * 1_000_000 + 123_456).expect("in range")
}

fn bot() -> BotId {
    BotId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_002a))
}

fn runner() -> RunnerId {
    RunnerId::of_bot(bot(), Attempt(2))
}

fn standing() -> Standing {
    Standing { slot: SlotId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0007)), generation: 3 }
}

fn assignment() -> AssignmentId {
    AssignmentId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0005))
}

fn platform(name: &str) -> PlatformName {
    PlatformName::new(name).expect("a name")
}

fn provider() -> Provider {
    Provider::new("google-meet").expect("a name")
}

fn spec() -> RunnerSpec {
    RunnerSpec {
        runner: runner(),
        tenant: TenantId::from_uuid(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0002)),
        provider: provider(),
        image: Some("registry.example/bot:1".to_owned()),
        resources: resources(),
        max_lifetime: Duration::from_secs(17_100),
    }
}

fn resources() -> Resources {
    Resources {
        cpu_millis: 500,
        memory_bytes: 1 << 30,
        cpu_limit_millis: Some(1000),
        memory_limit_bytes: Some(3 << 29),
    }
}
