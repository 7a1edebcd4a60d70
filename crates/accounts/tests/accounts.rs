//! With a real Postgres.

#![allow(clippy::disallowed_methods, reason = "a test ends with what it spawns")]

use std::time::Duration;

use greenroom_accounts::{Config, Service, store};
use greenroom_bus::Bus;
use greenroom_chassis::telemetry::{self, Telemetry};
use greenroom_chassis::{Clock, Host, Peers, Process, Secret, Settings};
use greenroom_contracts::proto::internal::v1::accounts_service_client::AccountsServiceClient;
use greenroom_contracts::proto::internal::v1::{
    AuthenticateRequest, CreateKeyRequest, GetLimitsRequest, ImageList, Plan, SetTenantRequest, TenantLimits,
};
use greenroom_domain::Installation;
use greenroom_embedded::{Binaries, Postgres, THROW_AWAY, scratch};
use greenroom_tasks::Tasks;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use tokio::net::TcpListener;
use tonic::Code;

/// A database of this test's own: its address, and what keeps its server alive if that is its own too.
async fn database() -> (String, Option<(Postgres, Box<dyn Send>)>) {
    let name = format!("accounts_{}", uuid::Uuid::new_v4().simple());
    if let Ok(shared) = std::env::var("GREENROOM_TEST_POSTGRES_URL") {
        let mut url: url::Url = shared.parse().expect("an address");
        let mut connection = PgConnection::connect(&shared).await.expect("a connection");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("made");
        url.set_path(&name);
        return (url.to_string(), None);
    }
    let dir = scratch().expect("a folder");
    let binaries = Binaries::find().expect("Postgres");
    let postgres = Postgres::start(&binaries, dir.path(), None, THROW_AWAY).await.expect("Postgres");
    postgres.create_database(&name).await.expect("made");
    (postgres.url(&name), Some((postgres, Box::new(dir))))
}

#[tokio::test]
async fn a_key_opens_its_tenants_door_and_only_its_hash_is_kept() {
    let (url, _server) = database().await;
    let secret = Secret::new("sixteen characters".to_owned().into()).expect("long enough");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let own = listener.local_addr().expect("an address").to_string();
    let mut settings = Settings::new([], "");
    let config = Config::parse(&mut settings, &url);
    let peers = Peers::parse(&mut settings, &own, &[], &secret);
    settings.finish().expect("fine");
    let installation = Installation::new("accounts-test").expect("a name");
    let host = Host {
        bus: Bus::connect("nats://127.0.0.1:9", installation.clone(), "accounts").await.expect("an address"),
        installation,
        tasks: Tasks::default(),
        clock: Clock::system(),
        peers,
        secret,
        time_scale: 1.0,
        drain: Duration::from_secs(1),
        ack_wait: Duration::from_secs(1),
    };
    let own_store = store(&config, &host).expect("a store");
    own_store.migrate(host.clock.now()).await.expect("migrated");
    own_store.migrate(host.clock.now()).await.expect("migrated again");

    let service = Service::build(&config, &host).expect("a service");
    let level = telemetry::Config { level: "warn".to_owned(), json: false, file: None, otlp: None };
    let mut process = Process::new(Telemetry::install(&level, "test").expect("telemetry"), host.tasks.clone());
    service.register(&mut process);
    assert_eq!(process.health().look().await.get("accounts.database"), Some(&true));
    process.serve_inner(listener, host.peers.inner().clone());
    let stop = process.stop();
    process.supervise("accounts", service.clone().run(stop.clone()));
    let process = tokio::spawn(process.run(Duration::from_secs(5)));

    let mut accounts = AccountsServiceClient::new(host.peers.channel("accounts"));
    let create =
        |tenant: &str| CreateKeyRequest { tenant_name: tenant.to_owned(), label: "first".to_owned(), operator: false };
    let one = accounts.create_key(create("acme")).await.expect("a key").into_inner();
    let two = accounts.create_key(create("acme")).await.expect("a key").into_inner();
    let other = service.create_key("other", "", true).await.expect("a key");
    assert_eq!(one.tenant_id, two.tenant_id);
    assert_ne!(one.tenant_id, other.tenant_id);
    assert!(one.api_key.starts_with("grk_") && one.api_key.len() == 4 + 43, "{}", one.api_key.len());

    for made in [&one, &two, &other] {
        let key_sha256 = Sha256::digest(made.api_key.as_bytes()).to_vec();
        let caller = accounts.authenticate(AuthenticateRequest { key_sha256 }).await.expect("its tenant").into_inner();
        assert_eq!((&caller.tenant_id, &caller.key_id), (&made.tenant_id, &made.key_id));
        assert_eq!(caller.operator, made.key_id == other.key_id);
        assert_eq!((caller.priority, caller.weight, caller.daily_limit), (100, 2, None));
    }
    for (key_sha256, code) in [(vec![0; 32], Code::Unauthenticated), (vec![0; 5], Code::InvalidArgument)] {
        let status = accounts.authenticate(AuthenticateRequest { key_sha256 }).await.expect_err("nobody's");
        assert_eq!(status.code(), code);
    }
    for bad in ["", "  ", "a\nb", &"x".repeat(101)] {
        assert_eq!(
            accounts.create_key(create(bad)).await.expect_err("no name").code(),
            Code::InvalidArgument,
            "{bad:?}"
        );
    }

    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let kept: Vec<String> =
        sqlx::query_scalar("SELECT k::text FROM accounts.api_keys k").fetch_all(&mut connection).await.expect("rows");
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|row| !row.contains("grk_")), "{kept:?}");

    // A plan, and terms of its own.
    let setting = accounts.clone();
    let ask = |set: SetTenantRequest| {
        let mut accounts = setting.clone();
        async move { accounts.set_tenant(SetTenantRequest { name: "acme".to_owned(), ..set }).await }
    };
    let set = SetTenantRequest {
        plan: Some(Plan::Professional.into()),
        daily_limit: Some(7),
        weight: Some(3),
        time_zone: Some("Europe/Berlin".to_owned()),
        ..SetTenantRequest::default()
    };
    let tenant = ask(set).await.expect("set").into_inner();
    assert_eq!((tenant.priority, tenant.weight, tenant.daily_limit), (50, 3, Some(7)));
    assert_eq!(tenant.own, ["weight", "daily_limit"]);
    let key_sha256 = Sha256::digest(one.api_key.as_bytes()).to_vec();
    let caller = accounts.authenticate(AuthenticateRequest { key_sha256 }).await.expect("its tenant").into_inner();
    assert_eq!((caller.priority, caller.weight, caller.daily_limit), (50, 3, Some(7)));
    assert_eq!((caller.time_zone.as_str(), caller.concurrency_limit, caller.operator), ("Europe/Berlin", None, false));
    let as_planned = SetTenantRequest { as_planned: vec!["weight".to_owned()], ..SetTenantRequest::default() };
    let tenant = ask(as_planned).await.expect("set").into_inner();
    assert_eq!((tenant.weight, tenant.own), (4, vec!["daily_limit".to_owned()]));
    let unlimited = SetTenantRequest { daily_limit: Some(0), ..SetTenantRequest::default() };
    assert_eq!(ask(unlimited).await.expect("set").into_inner().daily_limit, None);
    let sized = SetTenantRequest { cpu_millis: Some(800), memory_mb: Some(2048), ..SetTenantRequest::default() };
    let tenant = ask(sized).await.expect("set").into_inner();
    assert_eq!((tenant.cpu_millis, tenant.memory_mb), (Some(800), Some(2048)));
    assert_eq!(tenant.own, ["daily_limit", "cpu_millis", "memory_mb"]);
    let as_planned = SetTenantRequest { as_planned: vec!["cpu_millis".to_owned()], ..SetTenantRequest::default() };
    ask(as_planned).await.expect("set");
    let key_sha256 = Sha256::digest(one.api_key.as_bytes()).to_vec();
    let caller = accounts.authenticate(AuthenticateRequest { key_sha256 }).await.expect("its tenant").into_inner();
    assert_eq!((caller.cpu_millis, caller.memory_mb), (None, Some(2048)));
    // The images its bots may name: nobody's bots may name any, unless it is said.
    let images = |images: &[&str]| {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        SetTenantRequest { images: Some(ImageList { images }), ..SetTenantRequest::default() }
    };
    let key_sha256 = Sha256::digest(one.api_key.as_bytes()).to_vec();
    let authenticate = AuthenticateRequest { key_sha256 };
    let caller = accounts.authenticate(authenticate.clone()).await.expect("its tenant").into_inner();
    assert!(caller.images.is_empty(), "{caller:?}");
    let tenant = ask(images(&["ghcr.io/acme/*", "bot:1"])).await.expect("set").into_inner();
    assert_eq!(tenant.images, ["ghcr.io/acme/*", "bot:1"]);
    assert!(tenant.own.contains(&"images".to_owned()), "{tenant:?}");
    let caller = accounts.authenticate(authenticate).await.expect("its tenant").into_inner();
    assert_eq!(caller.images, ["ghcr.io/acme/*", "bot:1"]);
    let as_planned = SetTenantRequest { as_planned: vec!["images".to_owned()], ..SetTenantRequest::default() };
    let tenant = ask(as_planned).await.expect("set").into_inner();
    assert!(tenant.images.is_empty() && !tenant.own.contains(&"images".to_owned()), "{tenant:?}");

    // What the scheduler asks when nobody calls.
    ask(SetTenantRequest { concurrency_limit: Some(3), ..SetTenantRequest::default() }).await.expect("set");
    let stranger = uuid::Uuid::now_v7().to_string();
    let asked = GetLimitsRequest { tenant_ids: vec![one.tenant_id.clone(), stranger] };
    let limits = accounts.get_limits(asked).await.expect("answered").into_inner().limits;
    assert_eq!(limits, [TenantLimits { tenant_id: one.tenant_id.clone(), concurrency_limit: Some(3) }]);
    for (field, set) in [
        ("images: ", images(&["a b"])),
        ("images: ", images(&["*/bot"])),
        ("cpu_millis: ", SetTenantRequest { cpu_millis: Some(0), ..SetTenantRequest::default() }),
        ("memory_mb: ", SetTenantRequest { memory_mb: Some(u32::MAX), ..SetTenantRequest::default() }),
        ("plan: ", SetTenantRequest { plan: Some(7), ..SetTenantRequest::default() }),
        ("weight: ", SetTenantRequest { weight: Some(0), ..SetTenantRequest::default() }),
        ("priority: ", SetTenantRequest { priority: Some(10_001), ..SetTenantRequest::default() }),
        ("time_zone: ", SetTenantRequest { time_zone: Some("Mars".to_owned()), ..SetTenantRequest::default() }),
        ("as_planned: ", SetTenantRequest { as_planned: vec!["plan".to_owned()], ..SetTenantRequest::default() }),
    ] {
        let status = ask(set).await.expect_err(field);
        assert!(status.code() == Code::InvalidArgument && status.message().starts_with(field), "{status:?}");
    }
    let nobody = SetTenantRequest { name: "nobody".to_owned(), ..SetTenantRequest::default() };
    assert_eq!(accounts.set_tenant(nobody).await.expect_err("no such tenant").code(), Code::NotFound);
    let names: Vec<String> = service.list_tenants().await.expect("all").into_iter().map(|tenant| tenant.name).collect();
    assert_eq!(names, ["acme", "other"]);

    // A revoked key is nobody's.
    sqlx::query("UPDATE accounts.api_keys SET revoked_at = created_at WHERE id = $1::uuid")
        .bind(&two.key_id)
        .execute(&mut connection)
        .await
        .expect("revoked");
    let key_sha256 = Sha256::digest(two.api_key.as_bytes()).to_vec();
    let status = accounts.authenticate(AuthenticateRequest { key_sha256 }).await.expect_err("revoked");
    assert_eq!(status.code(), Code::Unauthenticated);

    stop.cancel();
    process.await.expect("no panic").expect("a good end");
}
