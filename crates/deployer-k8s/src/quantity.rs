//! Kubernetes' quantities: `500m`, `1Gi`, `2e3`.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Thousandths of whatever it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u128);

impl Amount {
    /// So many, rounded down.
    #[must_use]
    pub fn whole(self) -> u64 {
        u64::try_from(self.0 / 1000).unwrap_or(u64::MAX)
    }

    /// So many thousandths.
    #[must_use]
    pub fn millis(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }

    /// What a quantity of the API comes to; none: it is none that anybody knows.
    #[must_use]
    pub fn of(quantity: &Quantity) -> Option<Self> {
        quantity.0.parse().ok()
    }
}

/// Powers of ten of the suffixes; binary ones are dealt with apart.
const DECIMAL: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| "expected a quantity as Kubernetes has them: 500m, 1.5, 2Gi".to_owned())
    }
}

fn parse(text: &str) -> Option<Amount> {
    let (number, scale) = match BINARY.iter().find_map(|(suffix, bits)| Some((text.strip_suffix(suffix)?, bits))) {
        Some((number, bits)) => (number, Scale::Binary(*bits)),
        None => match DECIMAL.iter().find_map(|(suffix, power)| Some((text.strip_suffix(suffix)?, power))) {
            Some((number, power)) => (number, Scale::Decimal(*power)),
            None => match text.split_once(['e', 'E']) {
                Some((number, power)) => (number, Scale::Decimal(power.parse().ok()?)),
                None => (text, Scale::Decimal(0)),
            },
        },
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits: u128 = digits.parse().ok()?;
    let power = 3 - i32::try_from(part.len()).ok()?;
    let (digits, power) = match scale {
        Scale::Binary(bits) => (digits.checked_mul(1 << bits)?, power),
        Scale::Decimal(more) => (digits, power.checked_add(more)?),
    };
    let factor = 10u128.checked_pow(power.unsigned_abs())?;
    // A part of a thousandth is one: nobody asks for nothing.
    Some(Amount(if power < 0 { digits.div_ceil(factor) } else { digits.checked_mul(factor)? }))
}

enum Scale {
    Decimal(i32),
    Binary(u32),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let table = [
            ("500m", 500, 0),
            ("1", 1000, 1),
            ("1.5", 1500, 1),
            ("0.1", 100, 0),
            ("2e3", 2_000_000, 2000),
            ("1Gi", (1 << 30) * 1000, 1 << 30),
            ("1.5Gi", 1_610_612_736_000, 1_610_612_736),
            ("128974848", 128_974_848_000, 128_974_848),
            ("129M", 129_000_000_000, 129_000_000),
            ("12345678n", 13, 0),
            ("45k", 45_000_000, 45_000),
            ("0", 0, 0),
        ];
        for (text, millis, whole) in table {
            let amount: Amount = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((amount.millis(), amount.whole()), (millis, whole), "{text}");
        }
        for text in ["", "m", "Gi", "-1", "1.2.3", "one", "1 Gi", "1e", "5K", "1e99"] {
            assert!(text.parse::<Amount>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn quantities_round_trip(millis in 0u64..u64::MAX / 2) {
            let amount = Amount(u128::from(millis));
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
        }

        #[test]
        fn nothing_makes_it_panic(text in "[0-9.eEKMGTPimunk+-]{0,12}") {
            let _ = text.parse::<Amount>();
        }
    }
}
