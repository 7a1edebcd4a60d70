//! JSON merge patches (RFC 7386) of a bot's metadata. What a patch does not name keeps its very text: a number is as long as it
//! was.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::{RawValue, to_raw_value};

/// The target with the patch applied; both are nested no deeper than [`greenroom_contracts::json::parse`] takes. The names of an object that was patched are in alphabetical order; a patch that changes
/// nothing leaves the text as it is.
///
/// # Errors
/// When one of the two is not JSON.
pub fn merge(target: &str, patch: &str) -> Result<String, serde_json::Error> {
    let (target, patch): (&RawValue, &RawValue) = (serde_json::from_str(target)?, serde_json::from_str(patch)?);
    let after = merged(Some(target), patch)?;
    Ok(if is_same(target, &after)? { target.get() } else { after.get() }.to_owned())
}

fn merged(target: Option<&RawValue>, patch: &RawValue) -> Result<Box<RawValue>, serde_json::Error> {
    if !is_object(patch) {
        return Ok(patch.to_owned());
    }
    let mut object: BTreeMap<String, Cow<'_, RawValue>> = match target.filter(|target| is_object(target)) {
        Some(target) => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(target.get())?;
            fields.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect()
        }
        None => BTreeMap::new(),
    };
    let patch: BTreeMap<String, &RawValue> = serde_json::from_str(patch.get())?;
    for (name, value) in patch {
        if value.get() == "null" {
            object.remove(&name);
        } else {
            let value = merged(object.get(&name).map(AsRef::as_ref), value)?;
            object.insert(name, Cow::Owned(value));
        }
    }
    to_raw_value(&object)
}

/// Whether two documents say the same. Numbers and texts are the same when they are written alike: no number is rounded for it.
fn is_same(one: &RawValue, other: &RawValue) -> Result<bool, serde_json::Error> {
    if !is_object(one) || !is_object(other) {
        return Ok(one.get() == other.get());
    }
    let one: BTreeMap<String, &RawValue> = serde_json::from_str(one.get())?;
    let other: BTreeMap<String, &RawValue> = serde_json::from_str(other.get())?;
    if !one.keys().eq(other.keys()) {
        return Ok(false);
    }
    for (one, other) in one.values().zip(other.values()) {
        if !is_same(one, other)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_object(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// The function of RFC 7386, section 2, word by word.
    fn merge_patch(target: Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else { return patch.clone() };
        let mut target = match target {
            Value::Object(target) => target,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                target.remove(name);
            } else {
                let before = target.remove(name).unwrap_or(Value::Null);
                target.insert(name.clone(), merge_patch(before, value));
            }
        }
        Value::Object(target)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (target, patch, after) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"a":1,"e":null}"#),
            (r#"{"a":"foo"}"#, r#"{"a":{"b":{"c":null}}}"#, r#"{"a":{"b":{}}}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            assert_eq!(merge(target, patch).expect("JSON"), after, "{target} {patch}");
        }
    }

    /// serde_json reads an object that begins with this name as the JSON in its value.
    #[test]
    fn a_name_that_serde_json_uses_itself_is_a_name() {
        let target = r#"{"a":{"$serde_json::private::RawValue":"zzz"}}"#;
        let after = r#"{"a":{"$serde_json::private::RawValue":"zzz"},"b":1}"#;
        assert_eq!(merge(target, r#"{"b":1}"#).expect("JSON"), after);
        assert_eq!(merge("{}", target).expect("JSON"), target);
    }

    #[test]
    fn unnamed_fields_keep_their_text() {
        let target = r#"{"id": 12345678901234567890123, "price": 1.10, "deep": {"a":[1,  2]}}"#;
        let after = r#"{"deep":{"a":[1,  2]},"id":12345678901234567890123,"price":1.20}"#;
        assert_eq!(merge(target, r#"{"price": 1.20, "gone": null}"#).expect("JSON"), after);
        assert_eq!(merge(target, r#"{"deep": {}, "gone": null}"#).expect("JSON"), target, "nothing changes");
        let next = r#"{"id": 12345678901234567890124}"#;
        assert!(merge(target, next).expect("JSON").contains("12345678901234567890124"), "the last digit counts");
        assert!(merge("{", "{}").is_err() && merge("{}", "{").is_err());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(|n| json!(n)),
            "[a-z\"\\\\é]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc\"]{1,2}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_does_what_the_rfc_says(target in value(), patch in value()) {
            let after = merge(&target.to_string(), &patch.to_string()).expect("JSON");
            let after: Value = serde_json::from_str(&after).expect("JSON");
            prop_assert_eq!(&after, &merge_patch(target, &patch));
            // The same again changes nothing.
            let again = merge(&after.to_string(), &patch.to_string()).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Value>(&again).expect("JSON"), after);
        }
    }
}
