//! A runner without a browser, for platforms that really run something.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    greenroom_testkit::simulated::walk().await
}
