//! What Terraform says fits what the driver reads.

use std::collections::BTreeSet;
use std::fs;

use greenroom_chassis::Settings;
use greenroom_deployer_aws::Config;

fn read(file: &str) -> String {
    let path = format!("{}/../../deploy/terraform/aws/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every name in a text that looks like a setting of ours, whole or as the beginning of several.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    words.filter(|word| word.starts_with("AWS_")).collect()
}

#[test]
fn outputs_are_settings() {
    let mut settings = Settings::new([], "");
    let _ = settings.unneeded(Config::parse);
    let asked = settings.finish().expect("nothing is needed");
    let known: BTreeSet<&str> = asked.iter().map(|asked| asked.name.as_str()).collect();
    let outputs = read("outputs.tf");
    let unknown: Vec<&str> = names(&outputs)
        .into_iter()
        .filter(|name| !known.contains(name))
        // The beginning of those for each provider.
        .filter(|name| !(name.ends_with('_') && known.iter().any(|known| known.starts_with(name))))
        .collect();
    assert!(unknown.is_empty(), "deploy/terraform/aws/outputs.tf says what nobody reads: {unknown:?}");
}

#[test]
fn outputs_are_all_that_is_needed() {
    let outputs = read("outputs.tf");
    let said =
        outputs.split("settings = merge(").nth(1).expect("the settings").split("output ").next().expect("they end");
    let given = names(said).into_iter().map(|name| {
        let value = if name == "AWS_ECS_ASSIGN_PUBLIC_IP" { "true" } else { "x" };
        (name.trim_end_matches('_').to_owned(), value.to_owned())
    });
    let mut settings = Settings::new(given, "");
    Config::parse(&mut settings);
    assert_eq!(settings.finish().map(|_| ()), Ok(()));
}

#[test]
fn tasks_are_as_hardened_as_a_check_wants_them() {
    let tasks = read("tasks.tf");
    for words in ["10001:10001", "readonlyRootFilesystem", "drop = [\"ALL\"]", "awslogs-stream-prefix", "stopTimeout"] {
        assert!(tasks.contains(words), "{words}");
    }
    assert!(!tasks.contains("privileged"));
}
