//! How a run ended, and whose fault that is. Pure.

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Whose fault a failure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The program cannot be started: somebody has to install it.
    Program,
    /// The input is not what it has to be; it would fail again.
    Input,
    /// The input asks for more than a run may have: which limit was reached.
    Limit(&'static str),
    /// The machine could not do it now: what failed, in its words.
    Machine(String),
}

/// What `strerror` says of failures that have nothing to do with the input. Out of memory and out of files are here though
/// a limit of ours may be the reason: joining a sound recording comes nowhere near the limits, and a try that fails at
/// once costs little.
const OF_THE_MACHINE: &[&str] = &[
    "No space left on device",
    "Disk quota exceeded",
    "Cannot allocate memory",
    "Too many open files",
    "Too many open files in system",
    "Resource temporarily unavailable",
    "Read-only file system",
    "Input/output error",
    "Stale file handle",
    "Permission denied",
    "Operation not permitted",
];

const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// Returns whose fault it is that a run failed; `None` when it did not.
pub fn judge(exit: Exit, log: &str) -> Option<Fault> {
    match exit {
        Exit::Signal(signal) => return Some(by_signal(signal)),
        // The shell's words for a program that is not there and one that cannot be executed.
        Exit::Code(126 | 127) => return Some(Fault::Program),
        Exit::Code(_) => {}
    }
    // ffmpeg catches some signals and ends by itself.
    if let Some(signal) = log.lines().rev().find_map(caught) {
        return Some(by_signal(signal));
    }
    // When the end of a file cannot be written, ffmpeg says so and ends as if nothing were wrong.
    if let Some(line) = log.lines().rev().find(|line| is_of_the_machine(line)) {
        return Some(if line.contains("File too large") {
            Fault::Limit("its output is too large")
        } else {
            Fault::Machine(complaint(line))
        });
    }
    (exit != Exit::Code(0)).then_some(Fault::Input)
}

fn by_signal(signal: i32) -> Fault {
    match signal {
        SIGXCPU => Fault::Limit("processor time"),
        SIGXFSZ => Fault::Limit("its output is too large"),
        // SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS: the program broke over its input.
        4..=8 | 11 | 31 => Fault::Input,
        // SIGKILL when memory runs out, SIGTERM when the machine goes down: the input has no part in it.
        _ => Fault::Machine(format!("it was ended by signal {signal}")),
    }
}

/// The signal that ffmpeg says it has caught.
fn caught(line: &str) -> Option<i32> {
    line.strip_prefix("Exiting normally, received signal ")?.trim_end_matches('.').parse().ok()
}

/// Whether a line reports a failure of the machine. What ffmpeg repeats of a file, such as its title, is indented.
fn is_of_the_machine(line: &str) -> bool {
    !line.starts_with(' ')
        && OF_THE_MACHINE
            .iter()
            .chain(&["File too large"])
            .any(|text| line.strip_suffix(text).is_some_and(|rest| rest.ends_with(": ")))
}

/// The last line of a log, without paths, which are of no use to whoever reads it.
pub fn complaint<'a>(log: &'a str) -> String {
    let last = log.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
    let name = |word: &'a str| if word.starts_with('/') { word.rsplit('/').next().unwrap_or(word) } else { word };
    let words = last.split_whitespace().map(name);
    let words = words.collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_machine_are_told_from_failures_of_the_input() {
        let machine = |what: &str| Some(Fault::Machine(what.to_owned()));
        let cases: &[(&str, Exit, &str, Option<Fault>)] = &[
            ("a good run", Exit::Code(0), "Output #0\nsize=  10kB\n", None),
            (
                "a full disk",
                Exit::Code(1),
                "av_interleaved_write_frame(): No space left on device\nConversion failed!\n",
                machine("av_interleaved_write_frame(): No space left on device"),
            ),
            (
                "a full disk that shows at the end only",
                Exit::Code(0),
                "Error writing trailer of clean-1.webm: No space left on device\nvideo:0kB audio:9kB\n",
                machine("Error writing trailer of clean-1.webm: No space left on device"),
            ),
            ("a quota", Exit::Code(1), "whole.webm: Disk quota exceeded\n", machine("whole.webm: Disk quota exceeded")),
            ("no memory", Exit::Code(1), "pipe:0: Cannot allocate memory\n", machine("pipe:0: Cannot allocate memory")),
            ("no files", Exit::Code(1), "x: Too many open files\n", machine("x: Too many open files")),
            ("a lost disk", Exit::Code(1), "x: Input/output error\n", machine("x: Input/output error")),
            ("killed", Exit::Signal(9), "", machine("it was ended by signal 9")),
            ("the machine goes down", Exit::Signal(15), "", machine("it was ended by signal 15")),
            (
                "the same, caught",
                Exit::Code(255),
                "Exiting normally, received signal 15.\n",
                machine("it was ended by signal 15"),
            ),
            (
                "processor time",
                Exit::Code(255),
                "Exiting normally, received signal 24.\n",
                Some(Fault::Limit("processor time")),
            ),
            ("processor time, not caught", Exit::Signal(24), "", Some(Fault::Limit("processor time"))),
            ("output", Exit::Signal(25), "", Some(Fault::Limit("its output is too large"))),
            ("output, caught", Exit::Code(1), "x: File too large\n", Some(Fault::Limit("its output is too large"))),
            ("no program", Exit::Code(127), "sh: 1: exec: ffmpeg: not found\n", Some(Fault::Program)),
            ("no right to execute it", Exit::Code(126), "sh: ffmpeg: Permission denied\n", Some(Fault::Program)),
            ("a crash", Exit::Signal(11), "", Some(Fault::Input)),
            ("bad input", Exit::Code(1), "pipe:0: Invalid data found when processing input\n", Some(Fault::Input)),
            (
                "bad input that pretends",
                Exit::Code(1),
                "    title           : x: No space left on device\npipe:0: Invalid data found\n",
                Some(Fault::Input),
            ),
            ("a name that pretends", Exit::Code(1), "No space left on device at all\n", Some(Fault::Input)),
            ("no words", Exit::Code(1), "", Some(Fault::Input)),
        ];
        for (what, exit, log, expected) in cases {
            assert_eq!(judge(*exit, log), *expected, "{what}");
        }
    }

    #[test]
    fn a_complaint_has_no_paths_and_no_control_characters() {
        assert_eq!(
            complaint("first\n/tmp/work/attempt-1.webm: Invalid data found\n\n"),
            "attempt-1.webm: Invalid data found"
        );
        assert_eq!(complaint("\u{1b}[31mred"), "[31mred");
        assert_eq!(complaint(""), "nothing");
    }
}
