//! Which image a runner has, what that image needs, and who may pull it. The same for every platform that has images.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use greenroom_chassis::Settings;
use greenroom_domain::{Provider, RunnerSpec};
use secrecy::SecretString;

/// Something an image cannot do without. Each takes away a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// It runs as root.
    Root,
    /// It writes beside its temporary folder.
    WritableRoot,
    /// It gains privileges by set-user-id programs: Chromium's own sandbox, sudo.
    NewPrivileges,
}

impl Need {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Root, Self::WritableRoot, Self::NewPrivileges];

    /// As it stands in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::WritableRoot => "writable-root",
            Self::NewPrivileges => "new-privileges",
        }
    }
}

impl FromStr for Need {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|need| need.as_str() == word);
        found.ok_or_else(|| format!("{word:?}: expected {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A runner's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// As it is pulled: `ghcr.io/payme-works/meeboter-zoom-bot:latest`, or with a digest.
    pub reference: String,
    /// What it cannot do without.
    pub needs: BTreeSet<Need>,
    /// What its browser is started with, as `CHROME_FLAGS`.
    pub chrome_flags: Option<String>,
}

impl Image {
    /// Whether it needs that.
    #[must_use]
    pub fn needs(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }
}

/// Who we are to a registry that does not give to everybody.
#[derive(Debug, Clone)]
pub struct Registry {
    /// `ghcr.io`.
    pub server: String,
    /// The user.
    pub username: String,
    /// Its password or token.
    pub password: SecretString,
}

/// The images of one platform.
#[derive(Debug, Clone)]
pub struct Images {
    other: Image,
    providers: BTreeMap<Provider, Image>,
    /// For images of that registry alone.
    pub registry: Option<Registry>,
}

/// The providers whose image is a setting, and whether Meeboter has one for it.
const PROVIDERS: [(&str, bool); 4] = [("web", false), ("google-meet", true), ("microsoft-teams", true), ("zoom", true)];

impl Images {
    /// Reads the settings; `kind` is how the platform's own begin: `DOCKER_`.
    pub fn parse(settings: &mut Settings, kind: &str) -> Self {
        let organisation: Option<String> = settings.optional(
            "GHCR_ORG",
            "The organisation on ghcr.io whose meeboter-<provider>-bot images are run; lower-cased.",
        );
        let registry: Option<String> = settings.optional(
            &format!("{kind}IMAGE_REGISTRY"),
            "Where the meeboter-<provider>-bot images are; default: ghcr.io/ and GHCR_ORG.",
        );
        let tag: String = settings.get(&format!("{kind}IMAGE_TAG"), "latest", "Which of these images.");
        let registry = registry.or(organisation.map(|organisation| format!("ghcr.io/{organisation}")));
        let other = Image {
            reference: settings.get(
                "RUNNER_IMAGE",
                "greenroom-bot:latest",
                "The image of runners whose provider has none of its own.",
            ),
            needs: needs(settings, "RUNNER_IMAGE_NEEDS"),
            chrome_flags: settings.optional("CHROME_FLAGS", "More flags for the browsers of all runners."),
        };
        let mut providers = BTreeMap::new();
        for (provider, meeboters) in PROVIDERS {
            let own = provider.to_uppercase().replace('-', "_");
            let said: Option<String> = settings.optional(
                &format!("RUNNER_IMAGE_{own}"),
                "That provider's image; default: Meeboter's, where GHCR_ORG or a registry is set, else RUNNER_IMAGE.",
            );
            let needs = needs(settings, &format!("RUNNER_IMAGE_{own}_NEEDS"));
            let flags: Option<String> = settings.optional(
                &format!("RUNNER_IMAGE_{own}_CHROME_FLAGS"),
                "Instead of CHROME_FLAGS, for that provider's image.",
            );
            let meeboters = registry.as_ref().filter(|_| meeboters);
            // Names of repositories are in lower case, whatever their organisation is called elsewhere.
            let meeboters =
                meeboters.map(|registry| format!("{}/meeboter-{provider}-bot:{tag}", registry.to_lowercase()));
            let reference = said.or(meeboters);
            let own = Image {
                needs: if reference.is_none() && needs.is_empty() { other.needs.clone() } else { needs },
                reference: reference.unwrap_or_else(|| other.reference.clone()),
                chrome_flags: flags.or_else(|| other.chrome_flags.clone()),
            };
            providers.insert(Provider::new(provider).expect("a name"), own);
        }
        let server = settings.get("REGISTRY_SERVER", "ghcr.io", "The registry that REGISTRY_USERNAME is known to.");
        let username: Option<String> =
            settings.optional("REGISTRY_USERNAME", "Who we are to a registry that does not give to everybody.");
        let password = settings.secret("REGISTRY_PASSWORD", "The password or token of REGISTRY_USERNAME.");
        if username.is_some() != password.is_some() {
            settings.problem("REGISTRY_USERNAME", "is nothing without REGISTRY_PASSWORD, and the other way round");
        }
        let registry = username.zip(password).map(|(username, password)| Registry { server, username, password });
        Self { other, providers, registry }
    }

    /// One image for everybody, that needs nothing: for tests.
    #[must_use]
    pub fn one(reference: impl Into<String>) -> Self {
        Self::only(Image { reference: reference.into(), needs: BTreeSet::new(), chrome_flags: None })
    }

    /// One image for everybody: for tests.
    #[must_use]
    pub fn only(image: Image) -> Self {
        Self { other: image, providers: BTreeMap::new(), registry: None }
    }

    /// The image of a runner: the bot's own, or its provider's.
    #[must_use]
    pub fn of(&self, spec: &RunnerSpec) -> Image {
        self.named(spec.image.as_deref(), &spec.provider)
    }

    /// As [`of`](Self::of), for a standing slot.
    #[must_use]
    pub fn named(&self, image: Option<&str>, provider: &Provider) -> Image {
        let provided = self.providers.get(provider).unwrap_or(&self.other);
        match image {
            // A bot brings its own image, and no right to walls taken away from it.
            Some(image) if image != provided.reference => Image {
                reference: image.to_owned(),
                needs: BTreeSet::new(),
                chrome_flags: provided.chrome_flags.clone(),
            },
            _ => provided.clone(),
        }
    }

    /// Every image that a setting names, by provider; none: of all the others.
    #[must_use]
    pub fn all(&self) -> Vec<(Option<&Provider>, &Image)> {
        let named = self.providers.iter().map(|(provider, image)| (Some(provider), image));
        named.chain([(None, &self.other)]).collect()
    }

    /// Who pulls that image; none: nobody in particular.
    #[must_use]
    pub fn credentials(&self, reference: &str) -> Option<&Registry> {
        self.registry.as_ref().filter(|registry| server_of(reference) == registry.server)
    }
}

fn needs(settings: &mut Settings, name: &str) -> BTreeSet<Need> {
    let needs = settings.list(
        name,
        "",
        "What that image cannot do without, each a wall less: root, writable-root, new-privileges.",
    );
    needs.into_iter().collect()
}

/// The registry's host of a reference; Docker's own where it names none.
#[must_use]
pub fn server_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(given: &[(&str, &str)]) -> Result<Images, String> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(given, "");
        let images = Images::parse(&mut settings, "DOCKER_");
        settings.finish().map(|_| images).map_err(|problems| problems.to_string())
    }

    fn of(images: &Images, provider: &str, image: Option<&str>) -> Image {
        images.named(image, &Provider::new(provider).expect("valid"))
    }

    #[test]
    fn an_image_is_the_bots_then_the_providers_then_meeboters_then_ours() {
        let ours = images(&[]).expect("nothing is required");
        assert_eq!(of(&ours, "zoom", None).reference, "greenroom-bot:latest");
        let theirs = images(&[("GHCR_ORG", "Payme-Works"), ("DOCKER_IMAGE_TAG", "v3")]).expect("valid");
        assert_eq!(of(&theirs, "zoom", None).reference, "ghcr.io/payme-works/meeboter-zoom-bot:v3");
        assert_eq!(of(&theirs, "web", None).reference, "greenroom-bot:latest", "they have none");
        assert_eq!(of(&theirs, "other", None).reference, "greenroom-bot:latest");
        let said = images(&[("GHCR_ORG", "x"), ("RUNNER_IMAGE_ZOOM", "mine:1")]).expect("valid");
        assert_eq!(of(&said, "zoom", None).reference, "mine:1");
        assert_eq!(of(&said, "zoom", Some("own:2")).reference, "own:2");
    }

    #[test]
    fn walls_go_for_the_image_that_was_declared_and_for_no_other() {
        let given = [("RUNNER_IMAGE_ZOOM", "old:1"), ("RUNNER_IMAGE_ZOOM_NEEDS", "root, writable-root")];
        let images = images(&given).expect("valid");
        assert!(of(&images, "zoom", None).needs(Need::Root));
        assert!(of(&images, "zoom", Some("old:1")).needs(Need::WritableRoot));
        assert!(of(&images, "zoom", Some("own:2")).needs.is_empty(), "a bot cannot ask for it");
        assert!(of(&images, "web", None).needs.is_empty());
    }

    #[test]
    fn bad_settings_are_named() {
        let said = images(&[("RUNNER_IMAGE_NEEDS", "roof"), ("REGISTRY_USERNAME", "me")]).expect_err("two problems");
        assert!(said.contains("RUNNER_IMAGE_NEEDS: \"roof\": expected root, writable-root, new-privileges"), "{said}");
        assert!(said.contains("REGISTRY_USERNAME: is nothing without"), "{said}");
    }

    #[test]
    fn credentials_are_for_their_registry_alone() {
        let given =
            [("REGISTRY_USERNAME", "me"), ("REGISTRY_PASSWORD", "hush"), ("REGISTRY_SERVER", "reg.example:5000")];
        let images = images(&given).expect("valid");
        assert!(images.credentials("reg.example:5000/a/b:1").is_some());
        for other in ["ghcr.io/a/b:1", "debian:12", "library/debian", "localhost/x"] {
            assert!(images.credentials(other).is_none(), "{other}");
        }
    }
}
