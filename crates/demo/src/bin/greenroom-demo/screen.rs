//! What is shown: finished steps as lines, and what is waited for beside a spinner. Without a terminal: lines alone.

use std::error::Error;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const TICK: Duration = Duration::from_millis(100);

/// The terminal.
pub struct Screen {
    spinner: ProgressBar,
    terminal: bool,
    color: bool,
}

impl Screen {
    pub fn new() -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let spinner = if terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if terminal {
            if let Ok(style) = ProgressStyle::with_template("  {spinner:.green} {msg} {elapsed:.dim}") {
                spinner.set_style(style);
            }
            spinner.enable_steady_tick(TICK);
        }
        Self { spinner, terminal, color: terminal && std::env::var_os("NO_COLOR").is_none() }
    }

    /// What is waited for now.
    pub fn waiting(&self, what: &str) {
        if self.spinner.is_finished() && self.terminal {
            self.spinner.reset();
            self.spinner.enable_steady_tick(TICK);
        }
        self.spinner.reset_elapsed();
        self.spinner.set_message(format!("{what} …"));
        if !self.terminal {
            println!("    … {what}");
        }
    }

    /// A step that is done.
    pub fn good(&self, what: &str) {
        self.line(&format!("  {} {what}", self.paint("32", "✓")));
    }

    /// What went wrong.
    pub fn bad(&self, what: &str) {
        self.line(&format!("  {} {what}", self.paint("31", "✗")));
    }

    /// A heading.
    pub fn title(&self, what: &str) {
        self.line(&format!("\n{}", self.paint("1", what)));
    }

    /// Any line.
    pub fn line(&self, text: &str) {
        self.spinner.suspend(|| println!("{text}"));
    }

    /// The last lines of each log that is there.
    pub fn log_tail(&self, logs: &[PathBuf]) {
        for log in logs {
            let Ok(text) = std::fs::read(log) else { continue };
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            if lines.is_empty() {
                continue;
            }
            self.title(&format!("the end of {}", log.display()));
            for line in &lines[lines.len().saturating_sub(25)..] {
                self.line(&format!("  {}", line.chars().take(400).collect::<String>()));
            }
        }
    }

    /// Nothing is waited for now.
    pub fn idle(&self) {
        // Not only hidden, or its last picture stays.
        self.spinner.finish_and_clear();
    }

    /// Nothing more is waited for.
    pub fn done(&self) {
        self.spinner.finish_and_clear();
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
