//! `greenroom` with one kind of platform more: a simulated one.

use std::process::ExitCode;

use greenroom_testkit::simulated::SimulatedDeployer;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        end_with_parent();
    }
    let platforms = greenroom::Platforms::default().with("simulated", |settings| {
        let url: Option<String> =
            settings.section("deployer-simulated").optional("SIMULATED_URL", "Where the simulated platform is.");
        move |_: &greenroom_domain::PlatformName, _: &_| SimulatedDeployer::new(url.clone().unwrap_or_default())
    });
    greenroom::main(platforms)
}

/// A sandbox that was killed leaves nobody behind: its end of the pipe closes.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
}
