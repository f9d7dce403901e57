//! [`Screen`]: what the user sees. Answers go to standard output, all else to standard error.
//!
//! Names come from other people, and so do words of errors: control characters of all that is written are escaped, here
//! and for every command, so that none speaks to the terminal.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
};

pub(super) use daemon::terminal::escaped;
use daemon::terminal::escaped_json;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use wire::rest::Audience;

use super::Stop;

/// Where answers go.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    pub(super) json: bool,
    bars: bool,
}

impl Screen {
    pub(super) fn of_process(json: bool) -> Self {
        let bars = io::stderr().is_terminal();
        Self { out: Box::new(io::stdout()), err: Box::new(io::stderr()), json, bars }
    }

    #[cfg(test)]
    pub(super) fn into(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>, json: bool) -> Self {
        Self { out, err, json, bars: false }
    }

    /// A line of the answer.
    pub(super) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Stop> {
        Ok(writeln!(self.out, "{}", escaped(text.as_ref()))?)
    }

    /// The answer as JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string_pretty(value).map_err(|error| Stop::failed(error.to_string()))?;
        Ok(writeln!(self.out, "{}", escaped_json(&text))?)
    }

    /// A part of the answer as one line of JSON.
    pub(super) fn json_line(&mut self, value: &impl Serialize) -> Result<(), Stop> {
        let text = serde_json::to_string(value).map_err(|error| Stop::failed(error.to_string()))?;
        Ok(writeln!(self.out, "{}", escaped_json(&text))?)
    }

    /// A remark that is no part of the answer.
    pub(super) fn remark(&mut self, text: &str) {
        let _closed = writeln!(self.err, "{}", escaped(text));
    }

    pub(super) fn complain(&mut self, text: &str) {
        let _closed = writeln!(self.err, "peer: {}", escaped(text));
    }

    /// For file bytes.
    pub(super) fn out(&mut self) -> &mut (dyn Write + Send) {
        &mut *self.out
    }

    /// A table with aligned columns; those in `right` hold numbers and are flush right.
    pub(super) fn table(
        &mut self,
        heads: &[&str],
        right: &[usize],
        rows: &[Vec<String>],
    ) -> Result<(), Stop> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
        for row in std::iter::once(&heads).chain(rows) {
            let mut text = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                let _never_fails = if right.contains(&column) {
                    write!(text, "{gap}{cell:>width$}")
                } else {
                    write!(text, "{gap}{cell:<width$}")
                };
            }
            self.line(text.trim_end())?;
        }
        Ok(())
    }

    /// A bar for so many files; drawn on a terminal only.
    pub(super) fn bar_of_files(&self, files: u64) -> ProgressBar {
        self.bar_in("{wide_bar} {pos:>7} of {len} files  {prefix}", files)
    }

    /// A bar for so many bytes; drawn on a terminal only.
    pub(super) fn bar(&self, bytes: u64, name: &str) -> ProgressBar {
        let bar = self.bar_in("{msg:16!} {wide_bar} {bytes:>10} of {total_bytes}  {prefix}", bytes);
        bar.set_message(escaped(name));
        bar
    }

    fn bar_in(&self, template: &str, length: u64) -> ProgressBar {
        if !self.bars || self.json {
            return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar
    }
}

/// `1.5 GiB`, for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// `1 source`, `2 sources`.
pub(super) fn counted(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// `network`, or who: `ana,@lab`; `nobody else`.
pub(super) fn named(audience: &Audience) -> String {
    match audience {
        Audience::Network => "network".to_owned(),
        Audience::Users(users) if users.is_empty() => "nobody else".to_owned(),
        Audience::Users(users) => users.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    }
}

/// `1 h 5 min`, `40 s`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_that_is_shown_speaks_to_the_terminal() {
        let evil = "a\u{1b}]0;title\u{7}\u{9b}2J\r\u{202e}fdp.exe";
        let (out, err) = (Buffer::default(), Buffer::default());
        let mut screen = Screen::into(Box::new(out.clone()), Box::new(err.clone()), false);
        screen.line(evil).unwrap();
        screen.table(&["name"], &[], &[vec![evil.to_owned()]]).unwrap();
        screen.json(&serde_json::json!({ "name": evil })).unwrap();
        screen.json_line(&serde_json::json!([evil])).unwrap();
        screen.remark(evil);
        screen.complain(evil);
        for written in [out, err] {
            let written = String::from_utf8(written.0.lock().clone()).unwrap();
            let speaks = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(written.contains("fdp.exe") && !written.contains(speaks), "{written:?}");
        }
        // And programs read the same name.
        let text = escaped_json(&serde_json::to_string(evil).unwrap());
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), evil);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(size(1536), "1.50 KiB");
        assert_eq!(counted(1, "source"), "1 source");
        assert_eq!(counted(3, "source"), "3 sources");
        assert_eq!(duration(59), "59 s");
        assert_eq!(duration(61), "1 min 1 s");
        assert_eq!(duration(7265), "2 h 1 min");
    }
}
