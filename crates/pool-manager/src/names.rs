//! What slots are called.
//!
//! A slot that was made up to a limit is called after its platform: `local-007`. A standing slot is called after whose runners
//! it is for, wherever it is: `pool-google-meet-001`; so no platform's name begins with `pool-`.

use greenroom_domain::{PlatformName, Provider};

/// How the names of standing slots begin.
pub const STANDING: &str = "pool-";

/// A slot as people name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Row(PlatformName, i32),
    Standing(Provider, i32),
}

/// `local-007`, or of a pool `pool-google-meet-001`.
pub fn slot_name(platform: &PlatformName, pool: Option<&Provider>, number: i32) -> String {
    match pool {
        Some(provider) => format!("{STANDING}{provider}-{number:03}"),
        None => format!("{platform}-{number:03}"),
    }
}

/// What a slot's name says.
pub fn parse_slot(name: &str) -> Option<Named> {
    let (whose, number) = name.rsplit_once('-')?;
    let number = number.bytes().all(|digit| digit.is_ascii_digit()).then(|| number.parse().ok())??;
    match whose.strip_prefix(STANDING) {
        Some(provider) => Some(Named::Standing(Provider::new(provider).ok()?, number)),
        None => Some(Named::Row(PlatformName::new(whose).ok()?, number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slots_name_says_where_it_is() {
        let platform = PlatformName::new("k8s-eu").expect("a name");
        assert_eq!(slot_name(&platform, None, 7), "k8s-eu-007");
        assert_eq!(parse_slot("k8s-eu-007"), Some(Named::Row(platform.clone(), 7)));
        let long = slot_name(&platform, None, 12_345);
        assert_eq!(parse_slot(&long), Some(Named::Row(platform.clone(), 12_345)));
        let provider = Provider::new("google-meet").expect("a name");
        assert_eq!(slot_name(&platform, Some(&provider), 1), "pool-google-meet-001");
        assert_eq!(parse_slot("pool-google-meet-001"), Some(Named::Standing(provider, 1)));
        for bad in ["", "007", "k8s-eu", "K8S-007", "k8s--", "k8s-+7", "-7", "pool--007"] {
            assert_eq!(parse_slot(bad), None, "{bad}");
        }
    }
}
