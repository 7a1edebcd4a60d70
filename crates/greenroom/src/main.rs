//! `greenroom`.

use std::process::ExitCode;

fn main() -> ExitCode {
    greenroom::main(greenroom::Platforms::default())
}
