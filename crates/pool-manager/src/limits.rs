//! Which limit holds: pure.
//!
//! The least of what is said: by the settings, and by an operator at run time. So nobody can be surprised by more than they
//! allowed. (A preset was a platform's, too, in a version before; a replica of that version may still write one. It is a limit
//! of the installation now.)

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `GREENROOM_ENV`.
    Preset,
    /// The platform's own setting.
    Setting,
    /// An operator, at run time.
    Operator,
}

impl Source {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preset => "preset",
            Self::Setting => "setting",
            Self::Operator => "operator",
        }
    }
}

/// What was said about a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// By the preset of the environment.
    pub preset: Option<u32>,
    /// By the platform's own setting.
    pub setting: Option<u32>,
    /// By an operator.
    pub operator: Option<u32>,
}

impl Limit {
    /// What holds, and whose it is; of equals the one that is easiest to change. None: nobody said anything.
    pub fn effective(&self) -> Option<(u32, Source)> {
        let said = [(self.operator, Source::Operator), (self.setting, Source::Setting), (self.preset, Source::Preset)];
        said.into_iter().filter_map(|(value, source)| Some((value?, source))).min_by_key(|(value, _)| *value)
    }
}

/// The environment's preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// `development`: 5.
    Development,
    /// `staging`: 20.
    Staging,
    /// `production`: 100.
    Production,
}

impl Preset {
    const ALL: [Self; 3] = [Self::Development, Self::Staging, Self::Production];

    fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }

    /// Most runners at once on all platforms together.
    pub fn slots(self) -> u32 {
        match self {
            Self::Development => 5,
            Self::Staging => 20,
            Self::Production => 100,
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|preset| preset.as_str() == text);
        known.ok_or_else(|| format!("expected one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_least_holds_and_says_whose_it_is() {
        use Source::{Operator, Preset, Setting};
        let rows = [
            ([None, None, None], None),
            ([None, Some(20), None], Some((20, Setting))),
            ([Some(5), Some(20), None], Some((5, Preset))),
            ([Some(5), Some(20), Some(3)], Some((3, Operator))),
            ([Some(5), Some(20), Some(30)], Some((5, Preset))),
            ([Some(20), Some(20), None], Some((20, Setting))),
            ([Some(20), Some(20), Some(20)], Some((20, Operator))),
            ([None, Some(20), Some(0)], Some((0, Operator))),
        ];
        for ([preset, setting, operator], expected) in rows {
            assert_eq!(
                Limit { preset, setting, operator }.effective(),
                expected,
                "{preset:?} {setting:?} {operator:?}"
            );
        }
    }

    #[test]
    fn presets_have_names() {
        for preset in Preset::ALL {
            assert_eq!(preset.as_str().parse(), Ok(preset));
        }
        assert_eq!("prod".parse::<Preset>(), Err("expected one of development, staging, production".to_owned()));
    }

    proptest! {
        #[test]
        fn the_lowest_limit_is_effective(said in prop::array::uniform3(prop::option::of(0..50_u32))) {
            let [preset, setting, operator] = said;
            let effective = Limit { preset, setting, operator }.effective().map(|(value, _)| value);
            prop_assert_eq!(effective, said.into_iter().flatten().min());
        }
    }
}
