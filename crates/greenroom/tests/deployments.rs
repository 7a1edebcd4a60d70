//! What `docker-compose.yml` and `deploy/` promise of passwords, tried with the servers and the services themselves, without
//! containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use greenroom_bus::Bus;
use greenroom_embedded::{Binaries, Password, Postgres, THROW_AWAY, scratch};
use greenroom_testkit::servers::fresh_installation;
use greenroom_testkit::until;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::process::{Child, Command};

/// For what takes seconds.
const SOON: Duration = Duration::from_secs(180);
/// Services with a database: the name of the setting's first part, the role, and the schema.
const ROLES: [(&str, &str, &str); 5] = [
    ("ACCOUNTS", "greenroom_accounts", "accounts"),
    ("SCHEDULER", "greenroom_scheduler", "scheduler"),
    ("QUEUE", "greenroom_queue", "queue"),
    ("POOL_MANAGER", "greenroom_pool", "pool"),
    ("RECORDINGS", "greenroom_recordings", "recordings"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every service of the compose file, with its environment.
fn composed() -> BTreeMap<String, BTreeMap<String, String>> {
    let file: Value = serde_saphyr::from_str(&read("docker-compose.yml")).expect("YAML");
    let environment = |service: &Value| {
        let own = service["environment"].as_object().cloned().unwrap_or_default();
        let shared = own.get("<<").and_then(Value::as_object).cloned().unwrap_or_default();
        let all = shared.into_iter().chain(own.into_iter().filter(|(name, _)| name != "<<"));
        all.map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect()
    };
    let services = file["services"].as_object().expect("services");
    services.iter().map(|(name, service)| (name.clone(), environment(service))).collect()
}

/// The variables of `.env` that stand in a value, each with what follows its name.
fn variables(value: &str) -> impl Iterator<Item = (&str, &str)> {
    let inner = value.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(inner, _)| inner);
    inner.map(|inner| inner.split_at(inner.find(':').unwrap_or(inner.len())))
}

/// The passwords of `.env` that a service of the compose file is given.
fn passwords(environment: &BTreeMap<String, String>) -> BTreeSet<&str> {
    let names = environment.values().flat_map(|value| variables(value)).map(|(name, _)| name);
    names.filter(|name| name.ends_with("_PASSWORD")).collect()
}

#[test]
fn no_service_has_the_password_of_another() {
    let services = composed();
    for (service, environment) in &services {
        for (name, rest) in environment.values().flat_map(|value| variables(value)) {
            assert!(
                rest.starts_with(":?"),
                "{service}: {name} has to be set, and there is no default that everybody knows"
            );
        }
    }
    for (service, own) in [
        ("gateway", &[][..]),
        ("accounts", &["ACCOUNTS_DATABASE_PASSWORD"]),
        ("scheduler", &["SCHEDULER_DATABASE_PASSWORD"]),
        ("queue", &["QUEUE_DATABASE_PASSWORD"]),
        ("pool-manager", &["POOL_MANAGER_DATABASE_PASSWORD"]),
        ("heartbeat-monitor", &[]),
        ("recordings", &["RECORDINGS_DATABASE_PASSWORD"]),
        ("deployer", &[]),
    ] {
        let expected: BTreeSet<_> = own.iter().copied().chain(["NATS_PASSWORD"]).collect();
        assert_eq!(passwords(&services[service]), expected, "{service}");
    }
    assert_eq!(passwords(&services["nats"]), ["NATS_PASSWORD"].into());
    for (service, role, _) in ROLES {
        let address = &services["migrate"][&format!("{service}_DATABASE_URL")];
        assert!(address.contains(&format!("//{role}:${{{service}_DATABASE_PASSWORD:")), "{address}");
    }
    // In the cluster addresses with passwords come from the Secret: none stands in a manifest.
    for manifest in ["deploy/k8s/greenroom.yaml", "deploy/k8s/migrate.yaml"] {
        for object in serde_saphyr::from_multiple::<Value>(&read(manifest)).expect("YAML") {
            assert!(object["data"]["NATS_URL"].is_null(), "{manifest}: NATS' password is no ConfigMap's");
            let containers = object["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
            for setting in containers.iter().flat_map(|container| container["env"].as_array().into_iter().flatten()) {
                let name = setting["name"].as_str().unwrap_or_default();
                if name == "NATS_URL" || name.ends_with("_DATABASE_URL") {
                    assert!(setting["valueFrom"]["secretKeyRef"]["key"].is_string(), "{manifest}: {setting}");
                }
            }
            if object["kind"] == "Deployment" {
                assert!(object.to_string().contains("\"NATS_URL\""), "{}", object["metadata"]["name"]);
            }
        }
    }
}

#[test]
fn other_namespaces_reach_nothing_but_the_gateways_port() {
    let objects = serde_saphyr::from_multiple::<Value>(&read("deploy/k8s/greenroom.yaml")).expect("YAML");
    let policies: Vec<&Value> = objects.iter().filter(|object| object["kind"] == "NetworkPolicy").collect();
    let everybody = policies.iter().find(|policy| policy["spec"]["podSelector"] == serde_json::json!({}));
    let everybody = &everybody.expect("a policy for every pod of the namespace")["spec"];
    assert_eq!(everybody["policyTypes"], serde_json::json!(["Ingress"]));
    assert_eq!(everybody["ingress"], serde_json::json!([{"from": [{"podSelector": {}}]}]), "from this namespace alone");
    for policy in policies.iter().filter(|policy| policy["spec"]["podSelector"] != serde_json::json!({})) {
        for rule in policy["spec"]["ingress"].as_array().expect("rules") {
            let ports: Vec<_> = rule["ports"].as_array().expect("ports").iter().map(|port| &port["port"]).collect();
            let strangers = rule["from"].is_null();
            assert_eq!(ports, [if strangers { "http" } else { "operators" }], "{policy}");
            assert!(!strangers || policy["spec"]["podSelector"]["matchLabels"]["app"] == "gateway", "{policy}");
            assert!(
                strangers || rule["from"].to_string().contains(r#""NotIn","values":["greenroom-runners"]"#),
                "{policy}"
            );
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// A nats-server with the configuration of the compose file, and with its password in the environment as compose puts it there.
fn nats(folder: &Path, port: u16, password: &str) -> Child {
    let value = composed()["nats"]["NATS_PASSWORD"].clone();
    let (before, rest) = value.split_once("${").expect("a variable");
    let (_, after) = rest.split_once('}').expect("a variable");
    // All of it but the folder, which is the container's.
    let (conf, store) = (folder.join("nats.conf"), folder.join("nats").display().to_string());
    let written = read("deploy/docker/nats.conf").replace("store_dir: /data", &format!("store_dir: '{store}'"));
    assert!(written.contains(&store), "{written}");
    std::fs::write(&conf, written).expect("written");
    Command::new(Binaries::find().expect("programs").nats_server())
        .arg("--config")
        .arg(&conf)
        .args(["--addr", "127.0.0.1", "--port", &port.to_string()])
        .env_clear()
        .env("NATS_PASSWORD", format!("{before}{password}{after}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("nats-server starts")
}

async fn connected(url: &str) -> Bus {
    Bus::connect(url, fresh_installation(), "test").await.expect("an address")
}

#[tokio::test]
async fn nats_takes_nobody_without_the_password_of_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    // Of digits alone: the server would take it for a number.
    let password = "12345678901234567890";
    let _nats = nats(folder.path(), port, password);
    let bus = connected(&format!("nats://greenroom:{password}@127.0.0.1:{port}")).await;
    until("the services are let in", SOON, async || bus.is_connected()).await;
    // Asked after the server was seen to work.
    for address in ["", "greenroom@", "greenroom:greenroom@", "greenroom:%24NATS_PASSWORD@"] {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a server");
        let refused = refusal(&mut stream, address).await;
        assert!(refused.contains("Authorization Violation"), "{address:?}: {refused}");
    }
}

/// Returns the answer of the server to a client whose address has these credentials in front of its host.
async fn refusal(stream: &mut tokio::net::TcpStream, who: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (user, password) = who.trim_end_matches('@').split_once(':').unwrap_or((who.trim_end_matches('@'), ""));
    let connect = serde_json::json!({"verbose": false, "user": user, "pass": password, "lang": "test", "version": "1"});
    stream.write_all(format!("CONNECT {connect}\r\nPING\r\n").as_bytes()).await.expect("a server");
    let mut said = String::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_string(&mut said)).await.expect("it hangs up");
    said
}

#[tokio::test]
async fn a_refused_password_of_nats_is_an_error_in_the_log_and_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (port, log) = (free_port(), folder.path().join("log"));
    let mut server = nats(folder.path(), port, "of-yesterday");
    let mut command = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    command.args(["serve", "heartbeat-monitor"]).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.env("GREENROOM_SECRET", "a secret of nobody but this test").env("GRPC_ADDR", "127.0.0.1:0");
    command.env("POOL_MANAGER_URL", "http://127.0.0.1:1").env("LOG_FILE", &log);
    command.env("NATS_URL", format!("nats://greenroom:of-today@127.0.0.1:{port}"));
    let _monitor = command.spawn().expect("it starts");
    let logged = |level: &str, words: &str| {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["level"] == level && line.to_string().contains(words)).count()
    };
    until("the error", SOON, async || logged("ERROR", "nats refuses the user and password") == 1).await;
    server.kill().await.expect("it ends");
    let _server = nats(folder.path(), port, "of-today");
    until("the connection", SOON, async || logged("INFO", "connected to nats") == 1).await;
    assert_eq!(logged("ERROR", "authorization violation"), 1, "once, however often it was tried");
    let log = std::fs::read_to_string(&log).expect("a log");
    assert!(!log.contains("of-today"), "{log}");
}

#[tokio::test]
async fn no_role_is_opened_by_the_password_of_another() {
    let folder = scratch().expect("a folder");
    let binaries = Binaries::find().expect("programs");
    let superuser = "0123456789abcdef0123456789abcdef";
    let password = Password::new(superuser).expect("hexadecimal digits");
    let postgres = Postgres::start_with(&binaries, folder.path().join("postgres"), None, THROW_AWAY, &password);
    let postgres = postgres.await.expect("Postgres starts");
    postgres.create_database("greenroom").await.expect("a database");
    let host = format!("127.0.0.1:{}/greenroom", postgres.port());
    let open = async |role: &str, of: &str| PgConnection::connect(&format!("postgres://{role}:{of}@{host}")).await;
    // The script gets what the compose file gives it; twice, because passwords may be changed.
    for generation in ["old", "new"] {
        let mut script = Command::new("sh");
        script.arg(root().join("deploy/docker/roles.sh")).stdin(Stdio::null());
        script.env("PGHOST", "127.0.0.1").env("PGPORT", postgres.port().to_string());
        script.env("PGPASSWORD", superuser).env("POSTGRES_USER", "postgres").env("POSTGRES_DB", "greenroom");
        for name in composed()["postgres"].keys().filter(|name| name.ends_with("_DATABASE_PASSWORD")) {
            script.env(name, format!("{generation}-{name}"));
        }
        script.env("POSTGRES_PASSWORD", superuser);
        // The psql of this Postgres, where it has one.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let beside = binaries.postgres().parent().map(Path::to_path_buf);
        let folders = beside.into_iter().chain(std::env::split_paths(&path));
        script.env("PATH", std::env::join_paths(folders).expect("folders"));
        let done = script.output().await.expect("the script runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let mut migrate = Command::new(env!("CARGO_BIN_EXE_greenroom"));
    migrate.arg("migrate").stdin(Stdio::null()).env("NATS_URL", "nats://127.0.0.1:1");
    for (service, role, _) in ROLES {
        let name = format!("{service}_DATABASE_URL");
        migrate.env(name, format!("postgres://{role}:new-{service}_DATABASE_PASSWORD@{host}"));
    }
    let done = migrate.output().await.expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for (service, role, own) in ROLES {
        for (other, _, schema) in ROLES {
            let opened = open(role, &format!("new-{other}_DATABASE_PASSWORD")).await;
            assert_eq!(opened.is_ok(), service == other, "{role} with the password of {other}");
            let Ok(mut connection) = open(role, &format!("new-{service}_DATABASE_PASSWORD")).await else { continue };
            let read = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {schema}.outbox")));
            let read = read.execute(&mut connection).await;
            assert_eq!(read.is_ok(), own == schema, "{role} reads {schema}: {read:?}");
        }
        assert!(open(role, &format!("old-{service}_DATABASE_PASSWORD")).await.is_err(), "{role} with what was before");
    }
}
