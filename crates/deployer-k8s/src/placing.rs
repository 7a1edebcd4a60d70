//! Words of the settings that say where pods run, and with what.

use std::str::FromStr;

use k8s_openapi::api::core::v1::{SeccompProfile, Toleration as Tolerated};

use crate::config::word;

/// `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair(pub String, pub String);

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once('=').filter(|(key, _)| !key.trim().is_empty());
        let (key, value) = pair.ok_or_else(|| format!("{text:?}: expected key=value"))?;
        Ok(Self(key.trim().to_owned(), value.trim().to_owned()))
    }
}

/// A taint that runners bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    /// Its key.
    pub key: String,
    /// Its value; none: any.
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; none: any.
    pub effect: Option<&'static str>,
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (taint, effect) = match text.rsplit_once(':') {
            Some((taint, effect)) => (
                taint,
                Some(
                    word(effect, &EFFECTS.map(|effect| (effect, effect)))
                        .map_err(|error| format!("{text:?}: {error}"))?,
                ),
            ),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        if key.is_empty() {
            return Err(format!("{text:?}: expected key=value:Effect, key:Effect or key"));
        }
        Ok(Self { key: key.to_owned(), value, effect })
    }
}

impl Toleration {
    /// As it stands in a pod.
    #[must_use]
    pub fn spec(&self) -> Tolerated {
        Tolerated {
            key: Some(self.key.clone()),
            operator: Some(if self.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
            value: self.value.clone(),
            effect: self.effect.map(str::to_owned),
            toleration_seconds: None,
        }
    }
}

/// When a node pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start it asks whether there is a newer one.
    Always,
    /// When it has none.
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Always, Self::IfNotPresent, Self::Never];

    /// As it stands in a pod.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Which system calls a runner has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seccomp {
    /// Those that the nodes' runtime lets containers have: no namespaces of their own, and so no sandbox of Chromium's.
    RuntimeDefault,
    /// A profile on the nodes.
    Localhost(String),
    /// All of them.
    Unconfined,
}

impl FromStr for Seccomp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some(("Localhost" | "localhost", file)) if !file.is_empty() => Ok(Self::Localhost(file.to_owned())),
            _ => word(text, &[("RuntimeDefault", false), ("Unconfined", true)])
                .map(|open| if open { Self::Unconfined } else { Self::RuntimeDefault })
                .map_err(|error| format!("{error} or Localhost/FILE")),
        }
    }
}

impl Seccomp {
    /// As it stands in a pod.
    #[must_use]
    pub fn spec(&self) -> SeccompProfile {
        let (type_, file) = match self {
            Self::RuntimeDefault => ("RuntimeDefault", None),
            Self::Localhost(file) => ("Localhost", Some(file.clone())),
            Self::Unconfined => ("Unconfined", None),
        };
        SeccompProfile { localhost_profile: file, type_: type_.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_said_as_kubectl_shows_them() {
        let of = |text: &str| text.parse::<Toleration>().map(|toleration| toleration.spec());
        let equal = of("greenroom.dev/bots=true:noschedule").expect("valid");
        assert_eq!((equal.operator.as_deref(), equal.value.as_deref()), (Some("Equal"), Some("true")));
        assert_eq!(equal.effect.as_deref(), Some("NoSchedule"));
        let any = of("spot").expect("valid");
        assert_eq!((any.operator.as_deref(), any.value, any.effect), (Some("Exists"), None, None));
        assert_eq!(of("").expect_err("no key"), "\"\": expected key=value:Effect, key:Effect or key");
        assert!(
            of("a:Sometimes").expect_err("no effect").ends_with("expected NoSchedule, PreferNoSchedule, NoExecute")
        );
    }

    #[test]
    fn words_are_the_apis_own() {
        assert_eq!("always".parse::<PullPolicy>(), Ok(PullPolicy::Always));
        assert!("Sometimes".parse::<PullPolicy>().is_err());
        assert_eq!("Localhost/chrome.json".parse::<Seccomp>(), Ok(Seccomp::Localhost("chrome.json".to_owned())));
        assert_eq!("unconfined".parse::<Seccomp>(), Ok(Seccomp::Unconfined));
        assert!("Localhost/".parse::<Seccomp>().expect_err("no file").ends_with("or Localhost/FILE"));
        assert_eq!("zone = eu".parse::<Pair>(), Ok(Pair("zone".to_owned(), "eu".to_owned())));
        assert!("zone".parse::<Pair>().is_err());
    }
}
