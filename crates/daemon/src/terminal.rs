//! Texts that come from somebody else, fit for a terminal: in logs and in what the command line prints.
//!
//! A name may hold anything. Control characters would speak to the terminal (move, clear, colour, set its title), a new
//! line would make up a line of log, and some marks reorder what stands behind them, so that `exe.pdf` is read where
//! `fdp.exe` is. All of them are shown as escapes; letters of every script are left as they are.

use std::fmt::{self, Write};

/// The text with everything escaped that would speak to a terminal.
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    // Writing into a string cannot fail.
    let _never = write_escaped(&mut shown, text);
    shown
}

/// JSON that says the same, with everything escaped that would speak to a terminal, the way JSON does it. Such characters
/// stand in its strings alone; lines and indents stay.
pub fn escaped_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if (c.is_control() && c != '\n') || reorders(c) {
            // All of them are below 0x10000.
            let _never = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Writes the text with everything escaped that would speak to a terminal.
///
/// # Errors
/// What the writer says.
pub fn write_escaped(to: &mut impl Write, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            c if reorders(c) => write!(to, "{}", c.escape_unicode())?,
            c if c.is_control() => write!(to, "{}", c.escape_default())?,
            c => to.write_char(c)?,
        }
    }
    Ok(())
}

/// Line and paragraph separators, and the marks that change the direction of what follows.
fn reorders(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_speaks_to_the_terminal() {
        assert_eq!(escaped("plain né שלום 🦀"), "plain né שלום 🦀");
        assert_eq!(escaped("\u{1b}[2Ja\nb\u{9b}"), "\\u{1b}[2Ja\\nb\\u{9b}");
        assert_eq!(escaped("\u{202e}fdp.exe"), "\\u{202e}fdp.exe");
        let name = "a\u{9b}\u{202e}b\u{7f}\n né 🦀";
        let json = escaped_json(&format!("{{\n  \"name\": \"{}\"\n}}", name.replace('\n', "\\n")));
        assert_eq!(json, "{\n  \"name\": \"a\\u009b\\u202eb\\u007f\\n né 🦀\"\n}");
        assert_eq!(escaped("a\u{2028}b\rc\t\u{7f}"), "a\\u{2028}b\\rc\\t\\u{7f}");
    }
}
