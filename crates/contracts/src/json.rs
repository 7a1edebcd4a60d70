//! JSON of callers: what is wrong with it, in words that do not repeat what was given.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::BadField;

/// How deep arrays and objects may stand in each other: as deep as serde_json goes.
const DEEPEST: usize = 127;
/// How the error of a name that stands twice begins; the name follows.
const TWICE: &str = "twice: ";

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadJson {
    /// It does not follow the grammar, from a line and a column on.
    Malformed(String),
    /// It does, and cannot be taken all the same.
    Field(BadField),
}

impl From<&serde_json::Error> for BadJson {
    fn from(error: &serde_json::Error) -> Self {
        let (text, at) = (error.to_string(), format!("at line {}, column {}", error.line(), error.column()));
        let body = |problem: String| Self::Field(BadField::new("(body)", problem));
        if error.is_eof() {
            Self::Malformed(format!("ends too early {at}"))
        } else if text.starts_with("recursion limit exceeded") {
            body(format!("must not be nested deeper than {DEEPEST} levels ({at})"))
        } else if text.starts_with("number out of range") {
            body(format!("must not contain numbers beyond 1.7e308 ({at})"))
        } else if text.contains("surrogate") || text.starts_with("unexpected end of hex escape") {
            body(format!("must not contain one half of a surrogate pair ({at})"))
        } else {
            Self::Malformed(format!("is not valid JSON {at}"))
        }
    }
}

/// Parses a text whose objects have no name twice.
///
/// # Errors
/// Why it is not taken.
pub fn parse(text: &[u8]) -> Result<Value, BadJson> {
    let deserializer = &mut serde_json::Deserializer::from_slice(text);
    let parsed = serde_path_to_error::deserialize::<_, Unique>(&mut *deserializer);
    let Unique(value) = parsed.map_err(|error| {
        let said = error.inner().to_string();
        let Some(name) = said.strip_prefix(TWICE).filter(|_| error.inner().is_data()) else {
            return BadJson::from(error.inner());
        };
        let name = name.rsplit_once(" at line ").map_or(name, |(name, _)| name);
        let path = error.path().to_string();
        let field = if path == "." { name.to_owned() } else { format!("{path}.{name}") };
        BadJson::Field(BadField::new(shortened(&field), "must not be given twice"))
    })?;
    deserializer.end().map_err(|error| BadJson::from(&error))?;
    Ok(value)
}

/// What is wrong with JSON of a known shape, by the field.
#[must_use]
pub fn misshapen(error: &serde_path_to_error::Error<serde_json::Error>) -> BadJson {
    let inner = error.inner();
    if !inner.is_data() {
        return inner.into();
    }
    let said = inner.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let of = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let quoted = |kind: &str| Some(said.strip_prefix(kind)?.split('`').nth(1)?.to_owned());
    let (field, problem) = if let Some(name) = quoted("missing field") {
        (of(&name), "is missing".to_owned())
    } else if let Some(name) = quoted("duplicate field") {
        (of(&name), "must not be given twice".to_owned())
    } else if let Some(name) = quoted("unknown field") {
        // The path names it already.
        (if path.ends_with(&name) { path } else { of(&name) }, "there is no such field".to_owned())
    } else {
        let expected = match said.rsplit_once("expected ") {
            // The sentence is of our own reader.
            None => said.to_owned(),
            Some((_, "a string")) => "must be a string".to_owned(),
            Some((_, "a boolean")) => "must be true or false".to_owned(),
            Some((_, "a sequence")) => "must be an array".to_owned(),
            Some((_, kind)) if kind.starts_with(['u', 'i']) => {
                "must be a whole number, not negative and not too large".to_owned()
            }
            Some(_) => "must be an object".to_owned(),
        };
        (if path.is_empty() { "(body)".to_owned() } else { path }, expected)
    };
    BadJson::Field(BadField::new(shortened(&field), problem))
}

/// A name that a client made up, fit to be said back.
#[must_use]
pub fn shortened(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// A value whose objects have no name twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{TWICE}{name}")));
            }
            let value = fields.next_value_seed(Self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        match parse(text.as_bytes()).expect_err(text) {
            BadJson::Malformed(what) => what,
            BadJson::Field(bad) => format!("{} {}", bad.field, bad.problem),
        }
    }

    #[test]
    fn every_text_that_is_refused_says_why() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        for (text, expected) in [
            ("", "ends too early at line 1, column 0"),
            ("{\"a\": 1", "ends too early at line 1, column 7"),
            ("{\n  \"a\": hush}", "is not valid JSON at line 2, column 8"),
            ("{} {}", "is not valid JSON at line 1, column 4"),
            ("\u{feff}{}", "is not valid JSON at line 1, column 1"),
            (&deep(128), "(body) must not be nested deeper than 127 levels (at line 1, column 128)"),
            (r#"{"a": 1e400}"#, "(body) must not contain numbers beyond 1.7e308 (at line 1, column 11)"),
            (r#"{"a": "\ud800"}"#, "(body) must not contain one half of a surrogate pair (at line 1, column 14)"),
            (r#"{"a": "\udc00"}"#, "(body) must not contain one half of a surrogate pair (at line 1, column 13)"),
            (r#"{"a": 1, "a": 2}"#, "a must not be given twice"),
            (r#"{"a": [{"b": {"c": 1, "\u0063": 2}}]}"#, "a[0].b.c must not be given twice"),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
        assert!(parse(deep(127).as_bytes()).is_ok());
    }

    #[test]
    fn accepted_json_equals_serde_jsons() {
        for text in [
            "null",
            "true",
            "-0",
            "1.0",
            "1e308",
            "18446744073709551615",
            "-9223372036854775808",
            r#"{"a": {"a": [1, "a", {}, []]}, "\ud83c\udf99": "\u0000"}"#,
        ] {
            let expected: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(parse(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_wrong_shape_is_named_without_what_was_given() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Outer {
            inner: Vec<Inner>,
            #[serde(default)]
            word: String,
        }
        #[derive(Debug, Deserialize)]
        #[allow(dead_code)]
        struct Inner {
            number: u32,
            #[serde(default)]
            flag: bool,
        }
        for (text, field, problem) in [
            ("{}", "inner", "is missing"),
            (r#"{"inner": "hush"}"#, "inner", "must be an array"),
            (r#"{"inner": ["hush"]}"#, "inner[0]", "must be an object"),
            (r#"{"inner": [{}]}"#, "inner[0].number", "is missing"),
            (
                r#"{"inner": [{"number": 1}, {"number": -7}]}"#,
                "inner[1].number",
                "must be a whole number, not negative and not too large",
            ),
            (
                r#"{"inner": [{"number": "hush"}]}"#,
                "inner[0].number",
                "must be a whole number, not negative and not too large",
            ),
            (r#"{"inner": [{"number": 1, "flag": "hush"}]}"#, "inner[0].flag", "must be true or false"),
            (r#"{"inner": [], "word": 7}"#, "word", "must be a string"),
            (r#"{"inner": [], "inner": []}"#, "inner", "must not be given twice"),
            (r#"{"inner": [], "colour": 1}"#, "colour", "there is no such field"),
            (r#""hush""#, "(body)", "must be an object"),
        ] {
            let deserializer = &mut serde_json::Deserializer::from_str(text);
            let error = serde_path_to_error::deserialize::<_, Outer>(deserializer).expect_err(text);
            assert_eq!(misshapen(&error), BadJson::Field(BadField::new(field, problem)), "{text}");
        }
    }
}
