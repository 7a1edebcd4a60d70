//! Which images the nodes of a simulated platform have.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use greenroom_domain::RunnerSpec;
use serde::{Deserialize, Serialize};

use super::script::Script;

/// An image on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Image {
    pub node: String,
    pub image: String,
}

#[derive(Default)]
struct Known {
    there: bool,
    pulls: u32,
    under_way: usize,
}

/// All images of all platforms.
#[derive(Default)]
pub(super) struct Images(Mutex<BTreeMap<(String, Image), Known>>);

impl Images {
    fn with<T>(&self, platform: &str, image: &Image, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry((platform.to_owned(), image.clone())).or_default())
    }

    /// What has to be pulled before this runner can start. Its node is given by its name.
    pub fn missing(&self, platform: &str, spec: &RunnerSpec, script: &Script) -> Option<Image> {
        if script.nodes == 0 {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        spec.runner.hash(&mut hasher);
        let node = format!("node-{}", hasher.finish() % u64::from(script.nodes));
        let image = Image { node, image: spec.image.clone().unwrap_or_else(|| spec.provider.to_string()) };
        (!self.with(platform, &image, |known| known.there)).then_some(image)
    }

    /// Which pull it is, and how many others of the same are under way.
    pub fn begins(&self, platform: &str, image: &Image) -> (u32, usize) {
        self.with(platform, image, |known| {
            known.pulls += 1;
            known.under_way += 1;
            (known.pulls, known.under_way - 1)
        })
    }

    pub fn ends(&self, platform: &str, image: &Image, well: bool) {
        self.with(platform, image, |known| {
            known.under_way -= 1;
            known.there |= well;
        });
    }
}
