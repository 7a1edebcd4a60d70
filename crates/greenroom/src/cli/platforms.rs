//! `greenroom platforms …`: what the settings say about platforms, held against the platforms themselves. It needs no Greenroom
//! that runs.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use comfy_table::{Table, presets};
use greenroom_chassis::{Clock, RunnerToken, Settings};
use greenroom_contracts::probe;
use greenroom_deployer::{Finding, Probe, Verdict, Wanted};
use greenroom_domain::{Attempt, BotId, Provider, RunnerId, RunnerSpec, TenantId};
use greenroom_tasks::Tasks;
use serde_json::json;

use super::shown::{say, say_json, shown};
use crate::configuration::{Configuration, Role};
use crate::platforms::{Driven, Home};
use crate::{Error, Platforms};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Looks at credentials, reachability, quotas and images of every platform in PLATFORM_PRIORITY, and says what to do.
    Check {
        /// Only these.
        platforms: Vec<String>,
        /// Also starts a runner on each, which looks at names, the gateway and storage from inside and leaves nothing behind.
        #[arg(long)]
        inside: bool,
        /// Whose image looks around, and how large a runner is.
        #[arg(long, default_value = "web")]
        provider: Provider,
        /// How long one platform may take, in seconds.
        #[arg(long, default_value_t = 120)]
        within: u64,
        /// For programs.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    pub async fn run(self, settings: Settings, platforms: &Platforms) -> Result<(), Error> {
        let Self::Check { platforms: only, inside, provider, within, json } = self;
        let (configuration, _, _) =
            Configuration::read(settings, platforms, Role { deploys: true, ..Role::default() })?;
        let there = &configuration.pool_manager.platforms;
        if let Some(unknown) = only.iter().find(|name| !there.iter().any(|platform| platform.name.as_str() == *name)) {
            return Err(Error::Plain(format!("{unknown}: there is no such platform in PLATFORM_PRIORITY")));
        }
        let within = Duration::from_secs(within);
        let mut found = Vec::new();
        for platform in
            there.iter().filter(|platform| only.is_empty() || only.iter().any(|name| platform.name.as_str() == name))
        {
            if !json {
                eprintln!("looking at {}…", platform.name);
            }
            let home = Home {
                installation: configuration.common.installation.clone(),
                clock: Clock::system(),
                tasks: Tasks::default(),
            };
            let size = configuration.scheduler.size_of(&provider);
            let wanted = Wanted { limit: platform.limit, size };
            let make =
                configuration.deployers.get(&platform.name).ok_or_else(|| Error::Plain(platform.name.to_string()))?;
            let findings = match make(platform.name.clone(), home).await {
                Ok(driver) => {
                    let probe = inside.then(|| probe_of(&configuration, &provider, &wanted, within));
                    look(driver.as_ref(), &wanted, probe, within).await
                }
                Err(problem) => vec![Finding::failed("settings", problem, "correct the setting")],
            };
            found.push((platform.name.clone(), platform.kind.clone(), findings));
        }
        let failed = found
            .iter()
            .flat_map(|(.., findings)| findings)
            .filter(|finding| finding.verdict == Verdict::Failed)
            .count();
        if json {
            let found: Vec<_> = found.iter().map(|(name, kind, findings)| json!({
                "platform": name, "kind": kind,
                "findings": findings.iter().map(|finding| json!({
                    "subject": finding.subject, "verdict": finding.verdict.to_string(), "detail": finding.detail, "advice": finding.advice,
                })).collect::<Vec<_>>(),
            })).collect();
            say_json(&format!("{:#}", json!({ "platforms": found })));
        } else {
            say(table(&found));
        }
        if failed > 0 {
            return Err(Error::Plain(format!("{failed} of what was looked at does not work")));
        }
        Ok(())
    }
}

async fn look(driver: &dyn Driven, wanted: &Wanted, probe: Option<Probe>, within: Duration) -> Vec<Finding> {
    let mut found = match tokio::time::timeout(within, driver.check(wanted)).await {
        Ok(found) => found,
        Err(_) => {
            let detail = format!("no answer within {} s", within.as_secs());
            vec![Finding::failed("reachability", detail, "look at the platform's address and at the network between")]
        }
    };
    // Where the platform cannot be reached from here nobody gets inside.
    let stuck = found.iter().any(|finding| finding.verdict == Verdict::Failed);
    match probe {
        Some(_) if stuck => found.push(Finding::skipped("inside", "what is above does not work", "mend that first")),
        Some(probe) => found.extend(driver.probe(probe).await),
        None => found.push(Finding::skipped("inside", "nobody looked from inside a runner", "add --inside")),
    }
    found
}

/// A runner of nobody's bot, with what a bot's would get.
fn probe_of(configuration: &Configuration, provider: &Provider, wanted: &Wanted, within: Duration) -> Probe {
    let runner = RunnerId::of_bot(BotId::generate(), Attempt::FIRST);
    let tenant = TenantId::generate();
    let token = RunnerToken { runner, tenant }.sign(&configuration.common.secret);
    let environment = BTreeMap::from([
        ("GREENROOM_URL".to_owned(), configuration.scheduler.runner_gateway_url.clone()),
        ("BOT_ID".to_owned(), runner.id.to_string()),
        ("ATTEMPT".to_owned(), runner.attempt.to_string()),
        ("GREENROOM_TOKEN".to_owned(), token),
        (probe::ASKED.to_owned(), "1".to_owned()),
    ]);
    let spec = RunnerSpec {
        runner,
        tenant,
        provider: provider.clone(),
        image: None,
        resources: wanted.size,
        max_lifetime: within * 2,
    };
    Probe { spec, environment, within }
}

fn table(found: &[(greenroom_domain::PlatformName, String, Vec<Finding>)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["PLATFORM", "WHAT", "", "FOUND"]);
    for (name, kind, findings) in found {
        let name = if name.as_str() == kind { name.to_string() } else { format!("{name} ({kind})") };
        for finding in findings {
            table.add_row([
                name.clone(),
                shown(&finding.subject).into_owned(),
                finding.verdict.to_string(),
                shown(&finding.detail).into_owned(),
            ]);
            if let Some(advice) = &finding.advice {
                table.add_row([String::new(), String::new(), String::new(), format!("→ {}", shown(advice))]);
            }
        }
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
