//! `greenroom` with one kind of platform more: a simulated one.

use std::process::ExitCode;

use greenroom_testkit::simulated::SimulatedDeployer;

fn main() -> ExitCode {
    let platforms = greenroom::Platforms::default().with("simulated", |settings| {
        let url: Option<String> =
            settings.section("deployer-simulated").optional("SIMULATED_URL", "Where the simulated platform is.");
        move |_: &greenroom_domain::PlatformName, _: &_| SimulatedDeployer::new(url.clone().unwrap_or_default())
    });
    greenroom::main(platforms)
}
