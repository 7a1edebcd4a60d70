//! A database of the version before, with rows.

use greenroom_contracts::messages::Enqueue;
use greenroom_contracts::proto::v1::{BotSettings, DeployBotRequest, UpdateBotRequest};
use greenroom_domain::{BotId, InstanceId, TenantId};
use greenroom_scheduler::SCHEMA;
use sqlx::PgPool;
use sqlx::migrate::Migrator;

use crate::house::{As, House, asked, id_of, runner_of};
use crate::servers::Servers;

/// Brings a database up to date as far as a version.
async fn migrate_to(pool: &PgPool, version: i64) {
    let until = SCHEMA.migrations.migrations.iter().filter(|migration| migration.version <= version).cloned().collect();
    let mut migrator = Migrator::with_migrations(until);
    migrator.create_schema(SCHEMA.name);
    migrator.dangerous_set_table_name(format!("{}._migrations", SCHEMA.name));
    migrator.run(pool).await.expect("migrated");
}

/// Bots had their settings in columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bots_from_before_settings_were_one_document_go_on() {
    let servers = Servers::get().await;
    let database = servers.fresh_database("scheduler").await;
    let pool = PgPool::connect(&database).await.expect("a pool");
    migrate_to(&pool, 3).await;
    let (tenant, bot) = (TenantId::generate(), BotId::generate());
    sqlx::query(
        r#"INSERT INTO scheduler.bots (id, number, shard, tenant_id, version, sequence, state, state_since, provider, meeting_url,
                meeting_id, meeting_password, display_name, image, start_at, end_at, recording_enabled, priority, chain,
                chain_from, failures, max_retries, rejoin, queue_timeout_ms, waiting_room_timeout_ms,
                no_one_joined_timeout_ms, everyone_left_timeout_ms, inactivity_timeout_ms, max_duration_ms, metadata,
                wake_at, asserts, attempt, deduplication_key, weight, cpu_millis, memory_mb, cpu_limit_millis,
                memory_limit_mb, created_at, updated_at)
         VALUES ($1, 7, 0, $2, 1, 1, 'SCHEDULED', now(), 'web', 'https://meet.example/x', '', 'sesame', 'Ada', NULL,
                now() + interval '1 day', now() + interval '2 days', false, 107, '{two}', 0, 0, 5, false, 1000, 2000, 3000,
                4000, 5000, 6000, '{"a": 1.0}', now() + interval '1 day', 0, 0, 'standup', 1, 700, 2048, 1400, 3072,
                now(), now())"#,
    )
    .bind(bot.uuid())
    .bind(tenant.uuid())
    .execute(&pool)
    .await
    .expect("a row");

    let mut house = House::on(servers, database, 1.0).await;
    house.tenant = tenant;
    let seen = greenroom_contracts::proto::v1::Bot { id: bot.to_string(), ..Default::default() };
    let seen = house.get(&seen).await;
    let BotSettings { display_name, metadata, priority, max_retries, rejoin, recording_enabled, .. } = asked(&seen);
    assert_eq!((display_name.as_str(), metadata.as_str()), ("Ada", r#"{"a": 1.0}"#));
    assert_eq!((*priority, *max_retries, *rejoin, *recording_enabled), (Some(107), Some(5), Some(false), Some(false)));
    assert_eq!(asked(&seen).automatic_leave.and_then(|leave| leave.max_duration_ms), Some(6_000));
    assert!(asked(&seen).start_time.is_some() && asked(&seen).end_time.is_some());
    assert_eq!(
        (seen.resources.map(|size| size.memory_mb), seen.platforms.as_slice()),
        (Some(2048), &["two".to_owned()][..])
    );

    // It can be changed and sent, and its runner is told all of it.
    let message = UpdateBotRequest {
        bot_id: seen.id.clone(),
        settings: Some(BotSettings { display_name: "Bob".to_owned(), ..BotSettings::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["display_name".to_owned()] }),
    };
    house.scheduler.clone().update_bot(As { caller: Some(house.caller()), message }).await.expect("changed");
    house.scheduler.clone().deploy_bot(house.request::<DeployBotRequest>(&seen)).await.expect("sent");
    let wish = &house.heard.until::<Enqueue>(id_of(&seen).uuid(), 1).await[0];
    assert_eq!((wish.priority, wish.platforms.len()), (107, 1));
    house.assigned(runner_of(&seen, 1), "two").await;
    let told =
        house.admit(runner_of(&seen, 1), InstanceId::generate()).await.expect("admitted").config.expect("a config");
    let told = told.settings.expect("settings");
    assert_eq!((told.display_name.as_str(), told.meeting.expect("a meeting").password.as_str()), ("Bob", "sesame"));
}
