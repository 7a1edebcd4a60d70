//! Images that have to be fetched first, from a registry that does not give to everybody.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::query_parameters::RemoveImageOptionsBuilder;
use futures::TryStreamExt;
use greenroom_deployer::{Class, Deployer, Error, Progress, Registry as Credentials};
use greenroom_deployer_docker::Pull;
use sha2::{Digest, Sha256};

use crate::registry::{Blob, Content, Registry};
use crate::stage::{Stage, engine, exit, image, launch, printed};

const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn blob(media: &'static str, bytes: Vec<u8>) -> Blob {
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    Blob { digest, media, bytes }
}

/// The engine's own small image, as a registry has it: its files are one layer, and one more makes it this test's alone.
async fn content(authorization: Option<String>) -> Content {
    let files = {
        let container = bollard::models::ContainerCreateBody {
            image: Some(image()),
            cmd: Some(vec!["true".into()]),
            ..Default::default()
        };
        let engine = engine();
        let id = engine.create_container(None, container).await.expect("made").id;
        let parts: Vec<_> = engine.export_container(&id).try_collect().await.expect("exported");
        engine.remove_container(&id, None).await.expect("removed");
        parts.concat()
    };
    let layer = blob(LAYER, files);
    let own = uuid::Uuid::new_v4().to_string();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": { "Labels": { "own": own }, "Env": ["PATH=/bin:/sbin:/usr/bin:/usr/sbin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    });
    let config = blob(CONFIG, config.to_string().into_bytes());
    let part =
        |blob: &Blob| serde_json::json!({ "mediaType": blob.media, "size": blob.bytes.len(), "digest": blob.digest });
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": part(&config), "layers": [part(&layer)],
    });
    let manifest = blob(MANIFEST, manifest.to_string().into_bytes());
    Content {
        authorization,
        tags: vec![("1".to_owned(), manifest.digest.clone())],
        blobs: vec![layer, config, manifest],
        ..Content::default()
    }
}

/// Takes the image away again.
struct Pulled(String);

impl Drop for Pulled {
    fn drop(&mut self) {
        let reference = self.0.clone();
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let _ = runtime.block_on(async { engine().remove_image(&reference, Some(options), None).await });
        })
        .join();
    }
}

fn credentials(registry: &Registry, password: &str) -> Credentials {
    Credentials { server: registry.address.to_string(), username: "me".to_owned(), password: password.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_pulled_once_for_all_who_wait_for_it() {
    let registry = Registry::start(content(Some(format!("Basic {}", STANDARD.encode("me:hush")))).await).await;
    let pulled = Arc::new(Pulled(registry.reference("bot:1")));
    let mut stage = Stage::with(|config| config.images.registry = Some(credentials(&registry, "hush")));
    let launches: Vec<_> = (0..4)
        .map(|_| {
            let mut launch = launch("echo started");
            launch.spec.image = Some(pulled.0.clone());
            launch
        })
        .collect();
    let driver = stage.driver().await;
    let silent = Progress::silent();
    for started in futures::future::join_all(launches.iter().map(|launch| driver.ensure(launch, &silent))).await {
        started.expect("started");
    }
    assert_eq!(registry.content.fetched.load(Ordering::Relaxed), 2, "its layer and its configuration, once each");
    for launch in &launches {
        exit(&driver, launch.spec.runner).await;
        assert_eq!(printed(&driver, launch.spec.runner).await, "started\n");
    }
    // What was run can be named for ever.
    let (_, digest) = registry.content.tags[0].clone();
    let labels =
        stage.container(launches[0].spec.runner).await.config.and_then(|config| config.labels).expect("labels");
    assert_eq!(labels["greenroom.dev/image"], format!("{}@{digest}", registry.reference("bot")));

    // And be asked for by that name.
    let mut pinned = launch("echo pinned");
    pinned.spec.image = Some(format!("{}@{digest}", registry.reference("bot")));
    driver.ensure(&pinned, &silent).await.expect("started");

    // Whoever says never gets what is there, and nothing else.
    stage.config.pull = Pull::Never;
    let driver = stage.driver().await;
    let mut there = launch("true");
    there.spec.image = Some(pulled.0.clone());
    driver.ensure(&there, &silent).await.expect("it is there");
    let mut missing = launch("true");
    missing.spec.image = Some(registry.reference("bot:2"));
    assert!(matches!(driver.ensure(&missing, &silent).await, Err(Error::Image(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_may_not_be_had_is_told_from_a_registry_that_is_away() {
    let registry = Registry::start(content(Some(format!("Basic {}", STANDARD.encode("me:hush")))).await).await;
    let mut launch = launch("true");
    launch.spec.image = Some(registry.reference("bot:1"));
    for wrong in [None, Some(credentials(&registry, "wrong"))] {
        let stage = Stage::with(|config| config.images.registry = wrong);
        let refused = stage.driver().await.ensure(&launch, &Progress::silent()).await;
        assert!(matches!(refused, Err(Error::Image(_))), "{refused:?}");
    }
    let stage = Stage::new();
    // Nobody listens there.
    launch.spec.image = Some("127.0.0.1:1/bot:1".to_owned());
    let away = stage.driver().await.ensure(&launch, &Progress::silent()).await;
    assert_eq!(away.map_err(|error| error.class()), Err(Class::Transient));
}
