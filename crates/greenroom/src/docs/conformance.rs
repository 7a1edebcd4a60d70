//! The table of what every deployer passes, in `docs/platforms.md`: made of the records that the drivers' own tests hold to.

use std::fmt::Write;

use serde_json::Value;

use crate::Error;

/// What the suite came to with each driver; a test of its crate fails when it comes to anything else.
const RECORDS: &[&str] = &[
    include_str!("../../../deployer-local/tests/conformance.json"),
    include_str!("../../../deployer-docker/tests/conformance.json"),
    include_str!("../../../deployer-k8s/tests/conformance.json"),
    include_str!("../../../deployer-aws/tests/conformance.json"),
    include_str!("../../../deployer-coolify/tests/conformance.json"),
    include_str!("../../../deployer-nomad/tests/conformance.json"),
];
const BEGINS: &str =
    "<!-- The table is made by `./dev docs` of crates/deployer-*/tests/conformance.json; do not edit. -->";
const ENDS: &str = "<!-- That was the table. -->";

/// The page with the table as it is now; without a page, the table alone.
pub(super) fn within(page: &str) -> Result<String, Error> {
    let (before, after) = match (page.split_once(BEGINS), page.split_once(ENDS)) {
        (Some((before, _)), Some((_, after))) => (before, after),
        (None, None) if page.is_empty() => ("# Platforms\n\n", "\n"),
        _ => {
            return Err(Error::Plain(format!(
                "platforms.md: the lines {BEGINS:?} and {ENDS:?} say where the table stands"
            )));
        }
    };
    Ok(format!("{before}{BEGINS}\n\n{}\n{ENDS}{after}", table()?))
}

fn table() -> Result<String, Error> {
    let records: Vec<Value> = RECORDS
        .iter()
        .map(|record| {
            serde_json::from_str(record).map_err(|error| Error::Plain(format!("a conformance record: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let word = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let kinds: Vec<String> = records.iter().map(|record| word(record, "kind")).collect();
    let cases: Vec<Vec<(&str, bool)>> = records.iter().map(cases).collect();
    let mut text =
        format!("| what has to be true | {} |\n| --- |{}\n", kinds.join(" | "), " :-: |".repeat(kinds.len()));
    let Some(first) = cases.first() else { return Ok(text) };
    for (case, _) in first {
        let mark = |cases: &Vec<(&str, bool)>| match cases.iter().find(|(known, _)| known == case) {
            Some((_, true)) => "✓",
            Some((_, false)) => "–",
            None => "",
        };
        let marks: Vec<&str> = cases.iter().map(mark).collect();
        let _ = writeln!(text, "| {} | {} |", case.replace('_', " "), marks.join(" | "));
    }
    text.push_str("\n✓ passed · – the platform cannot do it, or nobody could make that trouble there. Played on:\n\n");
    for record in &records {
        let _ = writeln!(text, "- `{}`: {}", word(record, "kind"), word(record, "against"));
    }
    Ok(text)
}

/// The cases of a record in their order, and whether each was passed.
fn cases(record: &Value) -> Vec<(&str, bool)> {
    let cases = record["cases"].as_array().into_iter().flatten();
    cases.filter_map(|case| Some((case[0].as_str()?, case[1] == "passed"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_one_before() {
        let page = format!("# P\n\nabove\n{BEGINS}\nyesterday\n{ENDS}\nbelow\n");
        let new = within(&page).expect("a page");
        assert!(
            new.starts_with("# P\n\nabove\n<!--") && new.ends_with("-->\nbelow\n") && !new.contains("yesterday"),
            "{new}"
        );
        assert!(new.contains("| a runner runs and is listed | ✓ |"), "{new}");
        assert_eq!(within(&new).expect("a page"), new);
        assert!(within("# P\n").is_err());
    }
}
