//! What nothing can be faster than here: a commit, and a hop.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use bytes::Bytes;
use futures::StreamExt;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::error::Error;
use crate::figures::{Floor, Report, Times, say};
use crate::house::House;
use crate::{Effort, pace};

/// About what an outbox row and a command weigh.
const BODY: usize = 700;
/// At the same pace as the creates it is the floor of: a machine that has slept in between is slower.
const PACE: u32 = 100;

pub async fn measure(house: &House, effort: Effort, report: &mut Report) -> Result<(), Error> {
    say("floor: one-row autocommit inserts");
    let mut connection = PgConnection::connect(&house.database_url()).await?;
    let table = "CREATE TABLE bench_floor (id uuid PRIMARY KEY, body bytea NOT NULL)";
    sqlx::query(table).execute(&mut connection).await?;
    inserts(&mut connection, None, 200).await?;
    let insert = inserts(&mut connection, None, effort.times(2_000)).await?;
    report.times("floor: insert and commit, one after the other", &insert);
    let insert_paced = inserts(&mut connection, Some(PACE), effort.times(400)).await?;
    report.times(format!("floor: insert and commit, {PACE}/s"), &insert_paced);

    say("floor: JetStream publishes to a waiting pull consumer");
    let mut hops = Hops::new(house).await?;
    hops.take(None, 200).await?;
    let hop = hops.take(None, effort.times(4_000)).await?;
    report.times("floor: publish to a waiting consumer, one after the other", &hop);
    let hop_paced = hops.take(Some(PACE), effort.times(400)).await?;
    report.times(format!("floor: publish to a waiting consumer, {PACE}/s"), &hop_paced);
    report.floor = insert.p50().zip(hop.p50()).map(|(insert, hop)| Floor { insert, hop });
    report.floor_paced = insert_paced.p50().zip(hop_paced.p50()).map(|(insert, hop)| Floor { insert, hop });
    Ok(())
}

async fn inserts(connection: &mut PgConnection, rate: Option<u32>, count: usize) -> Result<Times, Error> {
    let body = vec![b'x'; BODY];
    let mut due = rate.map(|rate| pace::due(rate, count));
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        if let Some(due) = &mut due {
            due.recv().await;
        }
        let began = Instant::now();
        sqlx::query("INSERT INTO bench_floor (id, body) VALUES ($1, $2)")
            .bind(Uuid::now_v7())
            .bind(&body)
            .execute(&mut *connection)
            .await?;
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}

/// A stream as ours are, and a consumer that waits at it.
struct Hops {
    jetstream: async_nats::jetstream::Context,
    messages: pull::Stream,
}

const SUBJECT: &str = "bench-floor.hop";

impl Hops {
    async fn new(house: &House) -> Result<Self, Error> {
        let jetstream = async_nats::jetstream::new(house.nats().clone());
        let stream = Config {
            name: "bench-floor".to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            duplicate_window: Duration::from_secs(120),
            max_age: Duration::from_secs(3600),
            num_replicas: 1,
            allow_direct: true,
            ..Config::default()
        };
        let stream = jetstream.create_stream(stream).await.map_err(|error| Error::Nats(error.into()))?;
        let consumer = pull::Config {
            durable_name: Some("bench-floor".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(consumer).await.map_err(|error| Error::Nats(error.into()))?;
        let messages = consumer.messages().await.map_err(|error| Error::Nats(error.into()))?;
        Ok(Self { jetstream, messages })
    }

    /// From before the publish until the consumer has it.
    async fn take(&mut self, rate: Option<u32>, count: usize) -> Result<Times, Error> {
        let body = Bytes::from(vec![b'x'; BODY]);
        let mut due = rate.map(|rate| pace::due(rate, count));
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            if let Some(due) = &mut due {
                due.recv().await;
            }
            let began = Instant::now();
            let message = PublishMessage::build().payload(body.clone()).message_id(Uuid::now_v7().to_string());
            let said =
                self.jetstream.send_publish(SUBJECT, message).await.map_err(|error| Error::Nats(error.into()))?;
            let message = self.messages.next().await.ok_or_else(|| Error::Plain("the consumer ended".to_owned()))?;
            let message = message.map_err(|error| Error::Nats(error.into()))?;
            times.push(began.elapsed());
            message.ack().await?;
            said.await.map_err(|error| Error::Nats(error.into()))?;
        }
        Ok(Times::new(times))
    }
}
