//! What the command line prints. Names, notes, reasons and logs come from others: a terminal must not obey them.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io::Write as _;

pub(super) use greenroom_contracts::text::shown;
use greenroom_contracts::text::shown_lines;

/// Prints lines. Whatever a terminal would obey, or a reader would not see, stands there by its number.
pub(super) fn say(text: impl Display) {
    let text = text.to_string();
    // Whoever stopped reading, such as `head`, wants no more.
    let _ = writeln!(std::io::stdout().lock(), "{}", shown_lines(&text));
}

/// Prints JSON that a terminal does not obey either.
pub(super) fn say_json(text: &str) {
    let mut json = String::new();
    for c in text.chars() {
        // Outside of strings JSON has none of these.
        if c != '\n' && matches!(shown(c.encode_utf8(&mut [0; 4])), Cow::Owned(_)) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(json, "\\u{unit:04x}");
            }
        } else {
            json.push(c);
        }
    }
    say(json);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn nothing_is_printed_past_it() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let source = fs::read_to_string(&path).expect("a file").replace("eprintln!(", "");
                assert!(path.ends_with("shown.rs") || !source.contains("println!("), "{}: use say()", path.display());
                files += 1;
            }
        }
        assert!(files > 5, "{files} files were looked at");
    }
}
