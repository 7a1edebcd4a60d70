//! Holds what `docs/architecture.md` and `docs/contributing.md` say about the code: who may depend on whom, which library
//! is at home where, the shape of a service, the size of a file, and that every path and setting in the documents exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The foundations, from the bottom up: each may depend on these of ours and no others.
const FOUNDATIONS: &[(&str, &[&str])] = &[
    ("greenroom-tasks", &[]),
    ("greenroom-domain", &[]),
    ("greenroom-contracts", &["domain"]),
    ("greenroom-transcode", &["domain"]),
    ("greenroom-bus", &["domain", "contracts", "tasks"]),
    ("greenroom-store", &["domain", "contracts", "bus", "tasks"]),
    ("greenroom-chassis", &["domain", "contracts", "bus", "tasks"]),
    ("greenroom-deployer", &["domain", "contracts", "bus", "chassis", "tasks"]),
    // No store: they own nothing.
    ("greenroom-gateway", &["domain", "contracts", "bus", "chassis", "transcode", "tasks"]),
    ("greenroom-heartbeat-monitor", &["domain", "contracts", "bus", "chassis", "tasks"]),
    // Not part of the services: a runner speaks to the gateway alone, the demo is a client, servers are servers.
    ("greenroom-bot", &["domain", "contracts", "tasks"]),
    ("greenroom-demo", &["bot", "embedded"]),
    ("greenroom-embedded", &[]),
];
/// What puts it all together.
const TOP: &[&str] =
    &["greenroom", "greenroom-simulate", "greenroom-testkit", "greenroom-scenarios", "greenroom-bench"];
/// What treats a Greenroom badly, or measures it, from the outside: with whatever it needs for that.
const TOOLS: &[&str] = &["greenroom-testkit", "greenroom-scenarios", "greenroom-bench"];
/// What a platform's driver may stand on.
const DRIVER: &[&str] = &["domain", "contracts", "bus", "chassis", "deployer", "tasks"];
/// What a service may stand on: never another service.
const SERVICE: &[&str] = &["domain", "contracts", "transcode", "bus", "store", "chassis", "tasks"];
const SERVICES: &[&str] =
    &["accounts", "scheduler", "queue", "pool-manager", "deployer", "heartbeat-monitor", "recordings", "gateway"];

/// Libraries that are at home in some crates alone. A name that ends in `-` stands for all that begin so.
const AT_HOME: &[(&str, &[&str])] = &[
    ("async-nats", &["greenroom-bus"]),
    ("aws-", &["greenroom-deployer-aws"]),
    ("bollard", &["greenroom-deployer-docker"]),
    ("chromiumoxide", &["greenroom-bot"]),
    ("jiff-sqlx", &["greenroom-store"]),
    ("k8s-openapi", &["greenroom-deployer-k8s"]),
    ("kube", &["greenroom-deployer-k8s"]),
    ("object_store", &["greenroom-recordings"]),
    ("opentelemetry-otlp", &["greenroom-bot", "greenroom-chassis"]),
    ("opentelemetry-prometheus", &["greenroom-chassis"]),
    ("prost-reflect", &["greenroom-transcode"]),
    ("opentelemetry_sdk", &["greenroom-bot", "greenroom-chassis"]),
    ("tonic-health", &["greenroom-gateway"]),
    ("tonic-reflection", &["greenroom-gateway"]),
];

/// A file is read in one sitting.
const LONGEST: usize = 500;

/// A crate of ours and what it depends on, by kind.
struct Crate {
    name: String,
    normal: BTreeSet<String>,
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&root).expect("the workspace is two folders up")
}

fn cargo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}:\n{said}", arguments.join(" "));
    output.stdout
}

fn crates() -> Vec<Crate> {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_slice(&metadata).expect("cargo metadata is JSON");
    let word = |value: &Value| value.as_str().expect("a name").to_owned();
    let packages = metadata["packages"].as_array().expect("packages");
    let read = |package: &Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        // Development dependencies may be looser: a test brings servers along.
        let normal = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        Crate { name: word(&package["name"]), normal: normal.map(|dependency| word(&dependency["name"])).collect() }
    };
    packages.iter().map(read).collect()
}

/// Names of ours without what they all begin with.
fn ours(krate: &Crate) -> impl Iterator<Item = &str> {
    krate
        .normal
        .iter()
        .filter_map(|name| name.strip_prefix("greenroom-").or((name == "greenroom").then_some("greenroom")))
}

/// Every file below a folder that passes, as paths from the root.
fn files(below: &str, passes: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(below)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("readable").path()) {
            let path = entry.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
            if entry.is_dir() {
                folders.push(entry);
            } else if passes(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_there(path: &str) -> bool {
    root().join(path).exists()
}

fn nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn dependencies_point_down_only() {
    let mut wrong = Vec::new();
    for krate in crates().iter().filter(|krate| !TOP.contains(&krate.name.as_str())) {
        let foundation = FOUNDATIONS.iter().find(|(name, _)| *name == krate.name).map(|(_, allowed)| *allowed);
        let allowed = match foundation {
            Some(allowed) => allowed,
            None if krate.name.starts_with("greenroom-deployer-") => DRIVER,
            None => SERVICE,
        };
        let not_allowed = ours(krate).filter(|name| !allowed.contains(name));
        wrong.extend(not_allowed.map(|name| format!("{} must not depend on greenroom-{name}", krate.name)));
    }
    nothing("dependencies that point up or sideways", &wrong);
}

#[test]
fn every_library_is_used_where_it_is_at_home() {
    let mut wrong = Vec::new();
    for krate in crates().iter().filter(|krate| !TOOLS.contains(&krate.name.as_str())) {
        for name in &krate.normal {
            let at_home = AT_HOME
                .iter()
                .find(|(library, _)| if library.ends_with('-') { name.starts_with(library) } else { name == library });
            if let Some((_, homes)) = at_home.filter(|(_, homes)| !homes.contains(&krate.name.as_str())) {
                wrong.push(format!("{name} is in {}, and belongs in {}", krate.name, homes.join(", ")));
            }
        }
        // SQL is written where there is a store; the embedded Postgres is asked whether it is there.
        let has_store = krate.normal.contains("greenroom-store");
        let may_ask = has_store || ["greenroom-store", "greenroom-embedded"].contains(&krate.name.as_str());
        if krate.normal.contains("sqlx") && !may_ask {
            wrong.push(format!("sqlx is in {}, which has no store", krate.name));
        }
        if krate.name == "greenroom-domain" {
            let pure = ["ipnet", "jiff", "serde", "thiserror", "uuid"];
            let more = krate.normal.iter().filter(|name| !pure.contains(&name.as_str()));
            wrong.extend(more.map(|name| format!("{name} is in greenroom-domain, which has no I/O and no runtime")));
        }
        if krate.name == "greenroom-contracts" {
            let io = ["tokio", "axum", "reqwest", "hyper"].into_iter().filter(|name| krate.normal.contains(*name));
            wrong.extend(io.map(|name| format!("{name} is in greenroom-contracts, which is no framework")));
        }
    }
    nothing("libraries away from home", &wrong);
}

#[test]
fn migrations_that_landed_are_as_they_were() {
    let known: BTreeMap<String, String> = read("migrations/sha256sums")
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(hash, path)| (format!("migrations/{path}"), hash.to_owned()))
        .collect();
    let there = files("migrations", &|path| path.ends_with(".sql")).into_iter().map(|path| {
        let hash = Sha256::digest(read(&path)).iter().map(|byte| format!("{byte:02x}")).collect();
        (path, hash)
    });
    let there: BTreeMap<String, String> = there.collect();
    assert_eq!(there, known, "an edited migration, or a new one without a line in migrations/sha256sums");
}

/// Whoever has the engine's socket has the machine: of all that runs in production one crate opens it. The others bring an engine
/// along for a demo, for tests, or to be measured.
#[test]
fn only_one_deployer_opens_the_docker_socket() {
    let tools = ["crates/deployer-docker/", "crates/demo/", "crates/embedded/", "crates/bench/"];
    let others = |path: &str| {
        path.ends_with(".rs") && path.contains("/src/") && !tools.iter().any(|tool| path.starts_with(tool))
    };
    let opens = |path: &String| read(path).contains("docker.sock");
    let found: Vec<String> = files("crates", &others).into_iter().filter(opens).collect();
    nothing("names the socket of a Docker engine", &found);
    assert!(read("crates/deployer-docker/src/config.rs").contains("docker.sock"), "it is looked for by its name");
}

#[test]
fn every_service_has_the_same_shape() {
    let mut wrong = Vec::new();
    for service in SERVICES {
        let lib = read(&format!("crates/{service}/src/lib.rs"));
        let doc: String = lib.lines().filter_map(|line| line.strip_prefix("//!")).collect::<Vec<_>>().join("\n");
        let doc = doc.to_lowercase();
        let words = ["owns", "hears", "says", "never"].into_iter().filter(|word| !doc.contains(&format!("**{word}**")));
        wrong.extend(words.map(|word| format!("crates/{service}/src/lib.rs does not say what it **{word}**")));
        let files = ["config", "service", "error"].map(|file| format!("crates/{service}/src/{file}.rs"));
        wrong.extend(files.into_iter().filter(|file| !is_there(file)).map(|file| format!("{file} is missing")));
    }
    nothing("services of another shape", &wrong);
}

#[test]
fn files_are_short_and_have_names_that_say_something() {
    let mut wrong = Vec::new();
    for path in files("crates", &|path| path.ends_with(".rs")) {
        let name = Path::new(&path).file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        if ["mod", "utils", "util", "helpers", "common", "misc"].contains(&name) {
            wrong.push(format!("{path}: the name says nothing"));
        }
        let lines = read(&path).lines().count();
        if lines > LONGEST {
            wrong.push(format!("{path} has {lines} lines"));
        }
    }
    nothing("files", &wrong);
}

/// What stands between single backticks, outside of blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            block = !block;
        } else if !block {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// What links point to.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

#[test]
fn paths_in_the_documents_exist() {
    const FOLDERS: &[&str] = &["crates/", "docs/", "deploy/", "migrations/", "proto/", "scripts/", ".ci/", ".config/"];
    let mut wrong = Vec::new();
    let mut documents = files("docs", &|path| path.ends_with(".md"));
    documents.push("README.md".to_owned());
    for document in &documents {
        let text = read(document);
        for word in quoted(&text) {
            // With a placeholder it is a pattern.
            let is_path =
                FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['<', '*', '{', ' ', '…']);
            if is_path && !is_there(word) {
                wrong.push(format!("{document}: `{word}` does not exist"));
            }
        }
        let folder = Path::new(document).parent().unwrap_or(Path::new(""));
        for target in links(&text) {
            if !root().join(folder).join(target).exists() {
                wrong.push(format!("{document}: the link to {target} leads nowhere"));
            }
        }
    }
    nothing("paths that do not exist", &wrong);
}

/// Every setting there is, with its default.
fn settings() -> BTreeMap<String, String> {
    let text = read("docs/configuration.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split_once("` | "));
    cells
        .map(|(name, rest)| (name.to_owned(), rest.split(" |").next().unwrap_or("").trim_matches('`').to_owned()))
        .collect()
}

#[test]
fn settings_in_the_deployments_exist() {
    // Read by other programs: the images' servers and the runner.
    const OTHERS: &[&str] = &[
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
        "POSTGRES_DB",
        "NATS_PASSWORD",
        "ACCOUNTS_DATABASE_PASSWORD",
        "SCHEDULER_DATABASE_PASSWORD",
        "QUEUE_DATABASE_PASSWORD",
        "POOL_MANAGER_DATABASE_PASSWORD",
        "RECORDINGS_DATABASE_PASSWORD",
        "CHROMIUM",
        "CHROME_FLAGS",
        "GREENROOM_SANDBOX",
    ];
    let known = settings();
    let mut wrong = Vec::new();
    let mut manifests = files("deploy/k8s", &|path| path.ends_with(".yaml"));
    manifests.push("docker-compose.yml".to_owned());
    for manifest in &manifests {
        for line in read(manifest).lines() {
            // `NAME: value` and `- name: NAME`.
            let line = line.trim();
            let name = line.strip_prefix("- name: ").or(line.split_once(':').map(|(name, _)| name)).unwrap_or_default();
            let is_setting =
                name.len() > 2 && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            if is_setting && !known.contains_key(name) && !OTHERS.contains(&name) {
                wrong.push(format!("{manifest}: there is no setting {name}"));
            }
        }
    }
    nothing("settings that do not exist", &wrong);
}

#[test]
fn the_connections_fit_into_one_postgres() {
    let budget: BTreeMap<String, u32> = settings()
        .into_iter()
        .filter(|(name, _)| name.ends_with("_DATABASE_CONNECTIONS"))
        .map(|(name, default)| (name, default.parse().expect("a number")))
        .collect();
    let sum: u32 = budget.values().sum();
    // Postgres grants 100 by default; two of each service fit beside an operator and a migration.
    assert!(2 * sum <= 90, "{sum} connections: {budget:?}");
    let operations = read("docs/operations.md");
    for (name, default) in &budget {
        assert!(
            operations.contains(&format!("| `{name}` | {default} |")),
            "docs/operations.md: `{name}` is {default} now"
        );
    }
    assert!(operations.contains(&format!("| sum | {sum} |")), "docs/operations.md: the sum is {sum} now");
}

#[test]
fn the_documents_made_of_the_code_are_up_to_date() {
    let own = std::env::current_exe().expect("a test has a file");
    // The one that was built beside this test; to build it from within would wait for whoever builds now.
    let built = own.parent().and_then(Path::parent).map(|folder| folder.join("greenroom")).filter(|path| path.exists());
    let Some(greenroom) = built else {
        cargo(&["run", "--quiet", "-p", "greenroom", "--bin", "greenroom", "--", "docs", "--check"]);
        return;
    };
    let output =
        Command::new(greenroom).args(["docs", "--check"]).current_dir(root()).output().expect("greenroom runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}(of the program that was built last: is it newer than its sources?)");
}
