//! Real browsers in pages that misbehave, in short. `./dev chaos --trouble pages` visits all of them.

use std::path::Path;

use greenroom_scenarios::pages::{Misbehaviour, visit};

#[tokio::test(flavor = "multi_thread")]
async fn bots_in_pages_that_reload_open_dialogs_and_put_them_back_are_done_and_say_what_they_missed() {
    let program = Path::new(env!("CARGO_BIN_EXE_greenroom-node"));
    assert!(
        program.with_file_name("greenroom-bot").is_file(),
        "greenroom-bot is not built: cargo build -p greenroom-bot --bins"
    );
    let pages = [Misbehaviour::Reloads, Misbehaviour::OpensDialogs, Misbehaviour::PutsBack];
    assert_eq!(visit(program, &pages).await.expect("the story is played"), []);
}
