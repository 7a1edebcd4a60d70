//! The whole matrix: every trouble, all in one, split, and with two replicas of everything. `./dev chaos`.

use std::process::ExitCode;

use clap::Parser;
use greenroom_scenarios::pages::{Misbehaviour, visit};
use greenroom_scenarios::{Plan, ServerTrouble, Trouble, endure, run};
use greenroom_testkit::Layout;
use greenroom_testkit::order::Order;

/// Plays stories while everything fails, and checks the promises.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this trouble: none, kill, pause, double, postgres, nats, operators, refusing, alone, late, pooled,
    /// clock, combined, pages; of the servers of `greenroom up`: servers, disk.
    #[arg(long)]
    trouble: Option<String>,
    /// Only this layout: all, split, twice or up.
    #[arg(long)]
    layout: Option<String>,
    /// Bots in each story.
    #[arg(long, default_value_t = 200)]
    bots: usize,
    /// Slots of the platform.
    #[arg(long, default_value_t = 20)]
    slots: u32,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many times, each with the next seed.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let program = std::env::current_exe().map(|own| own.with_file_name("greenroom-node")).unwrap_or_default();
    let wanted = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let mut failed = 0;
    let mut passed = 0;
    for seed in arguments.seed..arguments.seed + arguments.rounds {
        for layout in Layout::ALL.into_iter().filter(|layout| wanted(&arguments.layout, layout.as_str())) {
            let name = layout.as_str();
            let fitting = Trouble::ALL.into_iter().filter(|trouble| trouble.fits(layout));
            for trouble in fitting.filter(|trouble| wanted(&arguments.trouble, trouble.as_str())) {
                print!("{trouble:<9} {name:<6} seed {seed:<3} ");
                let _ = std::io::Write::flush(&mut std::io::stdout());
                let plan = Plan {
                    program: program.clone(),
                    layout,
                    trouble,
                    bots: arguments.bots,
                    slots: arguments.slots,
                    seed,
                };
                match run(&plan).await {
                    Ok(outcome) if outcome.violations.is_empty() => {
                        passed += 1;
                        let ends: Vec<_> = outcome.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
                        let Order { kept, broken } = &outcome.evidence.order;
                        println!(
                            "kept    {:>5.1} s  drained {:>5.1} s  order {} of {}  {}",
                            outcome.took.as_secs_f64(),
                            outcome.evidence.drained.as_secs_f64(),
                            kept,
                            kept + broken.len(),
                            ends.join(", ")
                        );
                    }
                    Ok(outcome) => {
                        failed += 1;
                        println!("BROKEN  {:>5.1} s", outcome.took.as_secs_f64());
                        for violation in outcome.violations.iter().take(20) {
                            println!("    {}: {}", violation.promise, violation.how);
                        }
                        println!("    {} in all; ends: {:?}", outcome.violations.len(), outcome.ends);
                        let file = std::env::temp_dir().join(format!("greenroom-chaos-{trouble}-{name}-{seed}.json"));
                        let written = serde_json::to_vec(&outcome.evidence).map(|json| std::fs::write(&file, json));
                        if matches!(written, Ok(Ok(()))) {
                            println!("    evidence in {}", file.display());
                        }
                        eprintln!("{}", outcome.logs);
                    }
                    Err(error) => {
                        failed += 1;
                        println!("could not be played: {error}");
                    }
                }
            }
        }
    }
    for seed in arguments.seed..arguments.seed + arguments.rounds {
        for trouble in ServerTrouble::ALL {
            let name = trouble.as_str();
            if !wanted(&arguments.layout, "up") || !wanted(&arguments.trouble, name) {
                continue;
            }
            print!("{name:<9} up     seed {seed:<3} ");
            let _ = std::io::Write::flush(&mut std::io::stdout());
            if let Some(why) = trouble.obstacle() {
                println!("skipped: {why}");
                continue;
            }
            match endure(&program, trouble, arguments.bots, seed).await {
                Ok(endured) if endured.violations.is_empty() => {
                    passed += 1;
                    println!("kept    {:>5.1} s  {} DONE", endured.took.as_secs_f64(), endured.done);
                }
                Ok(endured) => {
                    failed += 1;
                    println!("BROKEN  {:>5.1} s", endured.took.as_secs_f64());
                    for violation in endured.violations.iter().take(20) {
                        println!("    {}: {}", violation.promise, violation.how);
                    }
                    eprintln!("{}", endured.log);
                }
                Err(error) => {
                    failed += 1;
                    println!("could not be played: {error}");
                }
            }
        }
    }
    // Beside the matrix: no service is in trouble, and the pages are.
    let plays_pages = wanted(&arguments.trouble, "pages") && wanted(&arguments.layout, Layout::AllInOne.as_str());
    for _ in 0..if plays_pages { arguments.rounds } else { 0 } {
        print!("pages     {:<6} ", Layout::AllInOne.as_str());
        let _ = std::io::Write::flush(&mut std::io::stdout());
        match visit(&program, &Misbehaviour::ALL).await {
            Ok(violations) if violations.is_empty() => {
                passed += 1;
                println!("kept");
            }
            Ok(violations) => {
                failed += 1;
                println!("BROKEN");
                for violation in violations {
                    println!("    {}: {}", violation.promise, violation.how);
                }
            }
            Err(error) => {
                failed += 1;
                println!("could not be played: {error}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
