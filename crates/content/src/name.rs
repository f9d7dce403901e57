//! [`SafeName`]: a file name from outside that cannot leave the folder meant for it.
//!
//! A name is a relative path with `/` between its parts, so that a shared folder keeps its tree. What could choose a
//! path elsewhere, or speak to a terminal, is refused here, once, for every way in; nothing is silently rewritten,
//! because a name that changes on the way is a name that nobody finds again. Markup is not refused: a name is text,
//! and whoever shows it shows text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

const MAX_PART: usize = 255;
const MAX_TOTAL: usize = 1024;
const MAX_PARTS: usize = 32;
/// Files of our own that live beside the user's (parts of downloads) start like this.
const RESERVED: &str = ".trueque";

/// A relative path that stays below the folder it is joined to: 1 to 32 parts of 1 to 255 bytes, 1,024 bytes in all.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafeName(Box<str>);

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a file name is empty or has an empty part")]
    Empty,
    #[error("a file name of {0} bytes is longer than {MAX_TOTAL}")]
    TooLong(usize),
    #[error("a part of {0} bytes in a file name is longer than {MAX_PART}")]
    PartTooLong(usize),
    #[error("a file name has more than {MAX_PARTS} parts")]
    TooDeep,
    #[error("a file name is an absolute path")]
    Absolute,
    #[error("a file name begins with a letter and a colon, which some systems take for a drive")]
    Drive,
    #[error("a file name has the part `{0}`, which leads elsewhere")]
    Dots(&'static str),
    #[error("a file name has the character U+{:04X}, which is not allowed", *.0 as u32)]
    Character(char),
    #[error("a part of a file name starts with `{RESERVED}`, which is kept for Trueque itself")]
    Reserved,
}

impl SafeName {
    /// # Errors
    /// [`NameError`] for whatever could choose a path outside its folder or speak to a terminal.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.len() > MAX_TOTAL {
            return Err(NameError::TooLong(name.len()));
        }
        if name.starts_with('/') {
            return Err(NameError::Absolute);
        }
        if has_drive(name) {
            return Err(NameError::Drive);
        }
        if let Some(bad) = name.chars().find(|&c| is_forbidden(c)) {
            return Err(NameError::Character(bad));
        }
        for (at, part) in name.split('/').enumerate() {
            match part {
                "" => return Err(NameError::Empty),
                "." => return Err(NameError::Dots(".")),
                ".." => return Err(NameError::Dots("..")),
                _ if part.len() > MAX_PART => return Err(NameError::PartTooLong(part.len())),
                _ if part.starts_with(RESERVED) => return Err(NameError::Reserved),
                _ if at >= MAX_PARTS => return Err(NameError::TooDeep),
                _ => {}
            }
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part: the file's own name.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The parts before the last; `None` for a file at the top.
    pub fn folder(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }

    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The name with ` (n)` before its extension, for a folder that already has one: `a.tar` → `a (2).tar`. A stem
    /// that would grow beyond 255 bytes is cut at a character. `None` where the folders leave no room for a number.
    pub fn numbered(&self, n: u32) -> Option<Self> {
        let file = self.file_name();
        let (stem, extension) = match file.rfind('.') {
            Some(dot) if dot > 0 && file.len() - dot <= 32 => file.split_at(dot),
            _ => (file, ""),
        };
        let tail = format!(" ({n}){extension}");
        let folder = self.folder().map(|folder| format!("{folder}/")).unwrap_or_default();
        let room = MAX_PART.min(MAX_TOTAL.saturating_sub(folder.len())).checked_sub(tail.len())?;
        let mut cut = room.min(stem.len());
        while !stem.is_char_boundary(cut) {
            cut -= 1;
        }
        Some(Self(format!("{folder}{}{tail}", &stem[..cut]).into()))
    }
}

/// `C:` and the like at the start. A colon elsewhere is an ordinary character.
fn has_drive(name: &str) -> bool {
    matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Control characters (C0, C1, DEL, NUL), the other system's separator, and the marks that reorder what follows:
/// right-to-left *text* is fine, but `U+202E` makes `exe.pdf` out of `fdp.exe`.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\\' | '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

impl FromStr for SafeName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl fmt::Display for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SafeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SafeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SafeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn ordinary_and_odd_names_are_kept_as_they_are() {
        for name in [
            "a",
            "-rf",
            "<img src=x>",
            "two words.txt",
            "🦀 crab.mp4",
            "שלום.txt",
            "Talk: part 1.mp4",
            "...",
            ".hidden",
            "photos/2024/a.jpg",
            "~",
            "$(rm -rf)",
            "'\"",
            "C",
            "ab:c",
            &"é".repeat(127),
        ] {
            assert_eq!(SafeName::new(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for (name, why) in [
            ("", NameError::Empty),
            ("a//b", NameError::Empty),
            ("a/", NameError::Empty),
            (".", NameError::Dots(".")),
            ("../x", NameError::Dots("..")),
            ("a/../../x", NameError::Dots("..")),
            ("/etc/x", NameError::Absolute),
            ("C:x", NameError::Drive),
            ("C:\\x", NameError::Drive),
            ("a:b", NameError::Drive),
            ("a\\b", NameError::Character('\\')),
            ("a\0b", NameError::Character('\0')),
            ("\u{1b}[2J", NameError::Character('\u{1b}')),
            ("a\nb", NameError::Character('\n')),
            ("\u{9b}31m", NameError::Character('\u{9b}')),
            ("\u{202e}fdp.exe", NameError::Character('\u{202e}')),
            (".trueque-part", NameError::Reserved),
        ] {
            assert_eq!(SafeName::new(name), Err(why), "{name:?}");
        }
        assert_eq!(SafeName::new(&"x".repeat(256)), Err(NameError::PartTooLong(256)));
        assert_eq!(SafeName::new(&"x/".repeat(600)), Err(NameError::TooLong(1200)));
        assert_eq!(SafeName::new(&["x"; 33].join("/")), Err(NameError::TooDeep));
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let numbered = |name: &str| SafeName::new(name).unwrap().numbered(2).unwrap().to_string();
        assert_eq!(numbered("a.tar"), "a (2).tar");
        assert_eq!(numbered("dir.d/a"), "dir.d/a (2)");
        assert_eq!(numbered(".hidden"), ".hidden (2)");
        let long = numbered(&format!("{}.txt", "é".repeat(125)));
        assert!(long.len() <= 255 && long.ends_with(" (2).txt"), "{long}");
    }

    #[test]
    fn a_name_whose_folders_leave_no_room_gets_no_number() {
        let folder = ["d".repeat(255), "e".repeat(255), "f".repeat(255), "g".repeat(240)].join("/");
        let name = |file: &str| SafeName::new(&format!("{folder}/{file}")).unwrap();
        assert_eq!(name("a.txt").as_str().len(), 1014);
        assert_eq!(name("a.txt").numbered(2).unwrap().file_name(), "a (2).txt");
        assert_eq!(name("a.txt").numbered(9999).unwrap().file_name(), "a (9999).txt");
        assert_eq!(name("a.abcdefghijk").numbered(99), None);
    }

    proptest! {
        #[test]
        fn never_leaves_its_folder(name in "[./\\\\a:C\u{0}é-]{0,12}") {
            if let Ok(safe) = SafeName::new(&name) {
                let normal = |c: Component<'_>| matches!(c, Component::Normal(_));
                prop_assert!(Path::new(safe.as_str()).components().all(normal));
                prop_assert!(safe.numbered(7).is_none_or(|name| SafeName::new(name.as_str()).is_ok()));
            }
        }

        #[test]
        fn any_text_is_kept_or_refused(name in any::<String>()) {
            if let Ok(safe) = SafeName::new(&name) {
                prop_assert_eq!(safe.as_str(), name);
            }
        }
    }
}
