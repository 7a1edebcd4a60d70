//! Times as text.

use jiff::civil::DateTime;

use super::Timestamp;

/// Why a text is not taken as a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadTime {
    /// It is not written as RFC 3339 says.
    #[error("must be a time with its offset (RFC 3339), such as 2027-01-31T10:00:00Z or 2027-01-31T11:00:00+01:00")]
    Form,
    /// Times are kept in nanoseconds at most.
    #[error("must not have more than nine digits after the second")]
    Fraction,
    /// No calendar or clock shows it.
    #[error("must be a day and a time of day that exist; 29 February needs a leap year, and seconds go from 00 to 59")]
    Nowhere,
    /// Beyond the last time that can be kept.
    #[error("must not be after 9999-12-30T22:00:00Z")]
    TooLate,
}

/// Parses a time of RFC 3339 (`date-time` in its section 5.6), with at most nine digits of a fraction of a second.
///
/// Every time that comes in as text is parsed here. jiff alone takes more: time zones in brackets, ISO 8601 without separators,
/// a space for the `T`, hours without minutes, offsets of more than a day, a sixtieth second in any minute. Whoever sends one of
/// those means something else than RFC 3339 says, so it is refused instead of guessed.
///
/// # Errors
/// When the text is anything else.
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, BadTime> {
    let time_zone = check_form(text.as_bytes())?;
    text.parse().map_err(|_| {
        // The local day and time exist, so only the time in UTC can be out of range.
        let local = text.len().checked_sub(time_zone.len()).and_then(|end| text.get(..end));
        match local.map(str::parse::<DateTime>) {
            Some(Ok(_)) => BadTime::TooLate,
            _ => BadTime::Nowhere,
        }
    })
}

/// Checks that each character stands where the grammar has it, and returns the offset. Which days and hours there are, jiff
/// knows.
fn check_form(text: &[u8]) -> Result<&[u8], BadTime> {
    let (date_time, rest) = text.split_at_checked("2027-01-31T10:00:00".len()).ok_or(BadTime::Form)?;
    let (digits, offset) = match rest {
        [b'.', fraction @ ..] => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (Some(digits), &fraction[digits..])
        }
        rest => (None, rest),
    };
    let is_offset = is_like(offset, b"Z") || is_like(offset, b"+00:00") || is_like(offset, b"-00:00");
    if !is_like(date_time, b"0000-00-00T00:00:00") || digits == Some(0) || !is_offset {
        return Err(BadTime::Form);
    }
    if digits.is_some_and(|digits| digits > 9) {
        return Err(BadTime::Fraction);
    }
    // An offset has at most 23 hours and 59 minutes.
    if offset.len() > 1 && (offset[1..3] > b"23"[..] || offset[4..] > b"59"[..]) {
        return Err(BadTime::Form);
    }
    // Leap seconds are not announced as far ahead as meetings are; jiff would take one for the second before it.
    if date_time.ends_with(b"60") {
        return Err(BadTime::Nowhere);
    }
    Ok(offset)
}

/// Whether a text has digits where the pattern has zeros, and the pattern's own characters elsewhere, in either case.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    text.len() == pattern.len()
        && text.iter().zip(pattern).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte.eq_ignore_ascii_case(like),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_rfc_3339_are_taken() {
        for (text, same) in [
            ("2027-07-01T10:00:00Z", "2027-07-01T10:00:00Z"),
            ("2027-07-01t10:00:00z", "2027-07-01T10:00:00Z"),
            ("2027-07-01T10:00:00+01:00", "2027-07-01T09:00:00Z"),
            ("2027-07-01T10:00:00-00:00", "2027-07-01T10:00:00Z"),
            ("2027-07-01T10:00:00.5-03:30", "2027-07-01T13:30:00.5Z"),
            ("2027-07-01T10:00:00.123456789Z", "2027-07-01T10:00:00.123456789Z"),
            ("2024-02-29T23:59:59+14:00", "2024-02-29T09:59:59Z"),
            ("2024-02-29T23:59:59+23:59", "2024-02-29T00:00:59Z"),
        ] {
            assert_eq!(parse_rfc3339(text).map(|at| at.to_string()), Ok(same.to_owned()), "{text}");
        }
    }

    #[test]
    fn invalid_times_are_refused_with_a_reason() {
        for (text, why) in [
            ("2027-07-01T10:00:00+01:00[Europe/Berlin]", BadTime::Form),
            ("2027-07-01T10:00:00Z[UTC]", BadTime::Form),
            ("20270101T100000Z", BadTime::Form),
            ("2027-01-01T100000Z", BadTime::Form),
            ("2027-01-01 10:00:00Z", BadTime::Form),
            ("2027-01-01T10:00Z", BadTime::Form),
            ("2027-01-01T10:00:00", BadTime::Form),
            ("2027-01-01T10:00:00+01", BadTime::Form),
            ("2027-01-01T10:00:00+0100", BadTime::Form),
            ("2027-01-01T10:00:00+01:00:00", BadTime::Form),
            ("2027-01-01T10:00:00+24:00", BadTime::Form),
            ("2027-01-01T10:00:00-25:00", BadTime::Form),
            ("2027-01-01T10:00:00+01:60", BadTime::Form),
            ("2027-01-01T10:00:00,5Z", BadTime::Form),
            ("2027-01-01T10:00:00.Z", BadTime::Form),
            ("2027-01-01", BadTime::Form),
            ("+002027-01-01T10:00:00Z", BadTime::Form),
            ("2027-W01-1T10:00:00Z", BadTime::Form),
            (" 2027-01-01T10:00:00Z", BadTime::Form),
            ("2027-01-01T10:00:00Z\n", BadTime::Form),
            ("２027-01-01T10:00:00Z", BadTime::Form),
            ("1795000000", BadTime::Form),
            ("tomorrow", BadTime::Form),
            ("", BadTime::Form),
            ("2027-01-01T10:00:00.1234567890Z", BadTime::Fraction),
            ("2027-01-01T10:00:00.0000000000+01:00", BadTime::Fraction),
            ("2027-01-01T10:00:60Z", BadTime::Nowhere),
            ("2026-12-31T23:59:60Z", BadTime::Nowhere),
            ("2027-02-29T10:00:00Z", BadTime::Nowhere),
            ("2027-13-01T10:00:00+01:00", BadTime::Nowhere),
            ("2027-01-01T25:00:00.5Z", BadTime::Nowhere),
            ("9999-12-31T23:59:59Z", BadTime::TooLate),
            ("9999-12-31T23:59:59.999999999-12:00", BadTime::TooLate),
        ] {
            assert_eq!(parse_rfc3339(text), Err(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_as_it_was(seconds in 0_i64..253_402_207_200, nanos in 0_i32..1_000_000_000) {
            let at = Timestamp::new(seconds, nanos).expect("in range");
            prop_assert_eq!(parse_rfc3339(&at.to_string()), Ok(at));
        }

        #[test]
        fn only_the_grammar_is_taken(text in r"[0-9]{4}-?[01][0-9]-?[0-3][0-9][Tt ]?[0-2][0-9]:?[0-5][0-9]:?[0-5][0-9]([.,][0-9]{0,10})?([Zz]|[+-][0-9]{2}(:?[0-9]{2}){0,2})?(\[[A-Za-z/]{0,8}\])?") {
            let grammar = follows_the_grammar(&text);
            if let Ok(at) = parse_rfc3339(&text) {
                prop_assert!(grammar, "{:?} was taken as {}", text, at);
            } else if grammar {
                prop_assert!(text.parse::<Timestamp>().is_err(), "{:?} was refused", text);
            }
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _answered = parse_rfc3339(&text);
        }
    }

    /// The grammar once more, in another way: split at what stands between the numbers.
    fn follows_the_grammar(text: &str) -> bool {
        let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        let Some((date, time)) = text.split_once(['T', 't']) else { return false };
        let date: Vec<&str> = date.split('-').collect();
        let [year, month, day] = date[..] else { return false };
        let (time, offset) = match time.find(['Z', 'z', '+', '-']) {
            Some(at) => time.split_at(at),
            None => return false,
        };
        let time: Vec<&str> = time.split(':').collect();
        let [hour, minute, second] = time[..] else { return false };
        let (second, fraction) = second.split_once('.').map_or((second, "0"), |(second, fraction)| (second, fraction));
        let offset_is_good = offset.eq_ignore_ascii_case("z")
            || offset[1..]
                .split_once(':')
                .is_some_and(|(hour, minute)| digits(hour, 2) && digits(minute, 2) && hour < "24" && minute < "60");
        digits(year, 4)
            && [month, day, hour, minute, second].iter().all(|part| digits(part, 2))
            && (1..=9).contains(&fraction.len())
            && digits(fraction, fraction.len())
            && offset_is_good
    }
}
