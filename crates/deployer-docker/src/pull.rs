//! Images on a host: looked up, pulled once for all who wait, with words on how far it is.

use std::collections::BTreeMap;

use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use greenroom_deployer::{Error, Image, Progress};

use crate::body;
use crate::config::{Config, Pull};
use crate::driver::Inner;
use crate::engine::Engine;
use crate::failure::Failure;

/// A host and an image.
pub(crate) type Key = (String, String);

/// An image as it is on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Present {
    /// With a digest, where it came from a registry; else the engine's own number for it.
    pub digest: String,
    /// What it says of itself.
    pub labels: BTreeMap<String, String>,
    /// It begins with a small process that is made to be the first.
    pub has_init: bool,
}

/// Programs that are made to be a container's first process.
const INITS: [&str; 4] = ["tini", "tini-static", "dumb-init", "docker-init"];

/// Has the image be there.
pub(crate) async fn ensure(
    engine: &Engine,
    inner: &Inner,
    image: &Image,
    progress: &Progress,
) -> Result<Present, Error> {
    let config = &inner.config;
    let reference = image.reference.as_str();
    if config.pull != Pull::Always
        && let Some(present) = there(engine, reference).await?
    {
        return Ok(present);
    }
    if config.pull == Pull::Never {
        let host = &engine.entry.name;
        return Err(Error::Image(format!("{host} has no image {reference}, and DOCKER_PULL is never")));
    }
    let key = (engine.entry.name.clone(), reference.to_owned());
    let pulled = inner.pulls.pull(key, progress, |progress| async move {
        // Whoever comes right after a pull finds it there.
        if config.pull == Pull::Missing && engine.image(reference).await?.is_some() {
            return Ok(());
        }
        let pulled = pull(engine, config, reference, &progress).await;
        inner.meters.pulled(&engine.entry.name, pulled.is_ok());
        pulled
    });
    let _pulled = pulled.await?;
    there(engine, reference).await?.ok_or_else(|| Error::Transient(format!("{reference} is gone again")))
}

/// The image, if that host has it.
pub(crate) async fn there(engine: &Engine, reference: &str) -> Result<Option<Present>, Error> {
    Ok(engine.image(reference).await?.map(|found| present(reference, found)))
}

async fn pull(engine: &Engine, config: &Config, reference: &str, progress: &Progress) -> Result<(), Error> {
    progress.say("pulling");
    let credentials = config.images.credentials(reference).map(body::credentials);
    let options = CreateImageOptionsBuilder::new().from_image(&with_tag(reference)).build();
    let docker = engine.client().await?.clone();
    let mut words = docker.create_image(Some(options), None, credentials);
    let mut layers = Layers::default();
    loop {
        match tokio::time::timeout(config.pull_quiet, words.next()).await {
            Err(_) => return Err(Error::Transient(format!("the pull of {reference} says nothing any more"))),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let failure = Failure::from(error);
                tracing::info!(image = reference, host.name = engine.entry.name, error = %failure.words, "a pull failed");
                return Err(failure.into());
            }
            Ok(Some(Ok(info))) => {
                if let Some(said) = layers.hear(&info) {
                    progress.say(said);
                }
            }
        }
    }
    tracing::info!(image = reference, host.name = engine.entry.name, "pulled an image");
    Ok(())
}

/// Without a tag every one of them would be pulled.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

fn present(reference: &str, found: ImageInspect) -> Present {
    let repository = reference.split('@').next().unwrap_or(reference);
    let repository = match repository.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => repository,
    };
    let digests = found.repo_digests.unwrap_or_default();
    let own = digests.iter().find(|digest| digest.split('@').next() == Some(repository));
    let digest = own.or_else(|| digests.first()).cloned().or(found.id).unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let first = config.entrypoint.and_then(|entrypoint| entrypoint.into_iter().next()).unwrap_or_default();
    let has_init = INITS.contains(&first.rsplit('/').next().unwrap_or_default());
    Present { digest, labels: config.labels.unwrap_or_default().into_iter().collect(), has_init }
}

/// How far a pull is, told in tenths: every word of it moves a deadline, and is a message.
#[derive(Debug, Default)]
struct Layers {
    /// (there, in all), in bytes.
    layers: BTreeMap<String, (i64, i64)>,
    told: Option<i64>,
    extracting: bool,
}

impl Layers {
    fn hear(&mut self, info: &CreateImageInfo) -> Option<String> {
        let layer = info.id.clone()?;
        match info.status.as_deref()? {
            "Downloading" => {
                let detail = info.progress_detail.as_ref()?;
                let entry = self.layers.entry(layer).or_default();
                *entry = (detail.current.unwrap_or(entry.0), detail.total.unwrap_or(entry.1));
            }
            "Download complete" => {
                let entry = self.layers.entry(layer).or_default();
                entry.0 = entry.1;
            }
            // Each of them: unpacking a gigabyte takes its time, and says little.
            "Pull complete" => return Some(format!("unpacked {layer}")),
            "Extracting" if !self.extracting => {
                self.extracting = true;
                return Some("unpacking".to_owned());
            }
            _ => return None,
        }
        let (there, all) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let tenth = (there * 10).checked_div(all)?;
        // A layer that is heard of later makes it less again.
        (self.told < Some(tenth)).then(|| {
            self.told = Some(tenth);
            format!("pulling {}%", tenth * 10)
        })
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ImageConfig, ProgressDetail};

    use super::*;

    #[test]
    fn a_reference_without_a_tag_is_the_latest() {
        for (reference, pulled) in [
            ("bot", "bot:latest"),
            ("reg:5000/a/bot", "reg:5000/a/bot:latest"),
            ("reg:5000/a/bot:1", "reg:5000/a/bot:1"),
            ("bot@sha256:ab", "bot@sha256:ab"),
        ] {
            assert_eq!(with_tag(reference), pulled);
        }
    }

    #[test]
    fn the_run_image_is_recorded_by_digest() {
        let found = |digests: &[&str]| ImageInspect {
            id: Some("sha256:id".into()),
            repo_digests: Some(digests.iter().map(|digest| (*digest).to_owned()).collect()),
            config: Some(ImageConfig {
                labels: Some([("a".to_owned(), "b".to_owned())].into()),
                entrypoint: Some(vec!["/usr/bin/tini".to_owned(), "--".to_owned()]),
                ..ImageConfig::default()
            }),
            ..ImageInspect::default()
        };
        let digest = |reference: &str, digests: &[&str]| present(reference, found(digests)).digest;
        assert_eq!(digest("r:5000/a:1", &["b@sha256:2", "r:5000/a@sha256:1"]), "r:5000/a@sha256:1");
        assert_eq!(digest("a@sha256:1", &["a@sha256:1"]), "a@sha256:1");
        assert_eq!(digest("built-here:1", &[]), "sha256:id");
        assert_eq!(present("a", found(&[])).labels["a"], "b");
        assert!(present("a", found(&[])).has_init);
        assert!(!present("a", ImageInspect::default()).has_init);
    }

    #[test]
    fn progress_is_told_in_tenths() {
        let mut layers = Layers::default();
        let mut hear = |layer: &str, status: &str, current: i64| {
            let detail = ProgressDetail { current: Some(current), total: Some(100) };
            let info = CreateImageInfo {
                id: Some(layer.into()),
                status: Some(status.into()),
                progress_detail: Some(detail),
                ..CreateImageInfo::default()
            };
            layers.hear(&info)
        };
        assert_eq!(hear("a", "Pulling fs layer", 0), None);
        assert_eq!(hear("a", "Downloading", 0).as_deref(), Some("pulling 0%"));
        assert_eq!(hear("a", "Downloading", 5), None);
        assert_eq!(hear("a", "Downloading", 42).as_deref(), Some("pulling 40%"));
        assert_eq!(hear("b", "Downloading", 0), None, "less than was told");
        assert_eq!(hear("b", "Downloading", 99).as_deref(), Some("pulling 70%"));
        assert_eq!(hear("a", "Download complete", 0).as_deref(), Some("pulling 90%"));
        assert_eq!(hear("a", "Extracting", 1).as_deref(), Some("unpacking"));
        assert_eq!(hear("a", "Extracting", 2), None);
        assert_eq!(hear("a", "Pull complete", 0).as_deref(), Some("unpacked a"));
    }
}
