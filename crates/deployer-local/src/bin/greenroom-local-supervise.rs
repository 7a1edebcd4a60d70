//! The supervisor alone, for tests of this crate: in production it is `greenroom local-supervise`.

fn main() -> std::process::ExitCode {
    greenroom_deployer_local::supervise()
}
