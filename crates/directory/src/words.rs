//! How names and queries become words, and words become entries of an index. Pure.
//!
//! A name is *folded*: lower case, without accents, every run of punctuation or spaces one space. A query is folded the
//! same way and falls into words, so quotes, stars, dashes and operators are separators and nothing more. A name
//! matches when it contains every word: at the start of a word, inside it, in any order. A word of one letter matches
//! where a word begins, because a letter inside a word matches nearly everything.
//!
//! The index knows *grams*: every run of three and of two neighbouring characters of a word, and its first character.
//! Grams only nominate: three grams of a name do not say that they stand side by side. So whoever asks the index
//! checks each nominated name with [`Query::matches`], and a query asks for a few grams only.

use unicode_normalization::UnicodeNormalization;

/// The longest `q`, in bytes.
pub const MAX_QUERY: usize = 512;
/// Further words of a query are not looked at.
const MAX_WORDS: usize = 16;
/// More grams would narrow the candidates less than they cost.
const MAX_GRAMS_OF_WORD: usize = 3;
const MAX_GRAMS: usize = 6;

/// The words of a query, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Vec<String>);

impl Query {
    pub fn new(text: &str) -> Self {
        let folded = fold(text);
        let mut words: Vec<String> = folded.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect();
        words.truncate(MAX_WORDS);
        words.dedup();
        Self(words)
    }

    /// Nothing but punctuation: such a query finds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a folded name contains every word.
    pub fn matches(&self, folded: &str) -> bool {
        self.0.iter().all(|word| {
            if is_single(word) { begins_a_word(folded, word) } else { folded.contains(word.as_str()) }
        })
    }

    /// A few grams that each matching name has, the rarest first. `frequency` says how common one is.
    ///
    /// A common gram has a long list, and reading it costs more than looking at some names too many. So of each word
    /// only the rarest count, and of those only a few.
    pub fn grams(&self, frequency: impl Fn(&str) -> u32) -> Vec<&str> {
        let mut chosen: Vec<(u32, &str)> = Vec::new();
        for word in &self.0 {
            let mut of_word: Vec<(u32, &str)> =
                grams_of_word(word).into_iter().map(|gram| (frequency(gram), gram)).collect();
            of_word.sort_unstable();
            chosen.extend(of_word.into_iter().take(MAX_GRAMS_OF_WORD));
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen.truncate(MAX_GRAMS);
        chosen.into_iter().map(|(_, gram)| gram).collect()
    }
}

/// Appends the grams of a folded name to `out`, each followed by a space.
pub fn push_grams(folded: &str, out: &mut String) {
    let mut push = |gram: &str| {
        out.push_str(gram);
        out.push(' ');
    };
    for word in folded.split(' ').filter(|word| !word.is_empty()) {
        if word.is_ascii() {
            push(&word[..1]);
            for at in 0..word.len() - 1 {
                push(&word[at..at + 2]);
                if at + 3 <= word.len() {
                    push(&word[at..at + 3]);
                }
            }
            continue;
        }
        let ends: Vec<usize> = ends(word);
        for at in 0..ends.len() {
            let start = if at == 0 { 0 } else { ends[at - 1] };
            let first = &word[start..ends[at]];
            if at == 0 || stands_alone(first) {
                push(first);
            }
            for length in [2, 3] {
                if let Some(&end) = ends.get(at + length - 1) {
                    push(&word[start..end]);
                }
            }
        }
    }
}

/// Lower case, without accents, with one space for every run of what is not part of a word.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    if text.is_ascii() {
        for byte in text.bytes() {
            push_folded(&mut folded, char::from(byte.to_ascii_lowercase()));
        }
    } else {
        for c in text.nfkd().filter(|c| !is_accent(*c)).flat_map(char::to_lowercase) {
            // Lower case may bring an accent of its own, as in `İ`.
            if !is_accent(c) {
                push_folded(&mut folded, c);
            }
        }
    }
    if folded.ends_with(' ') {
        folded.pop();
    }
    folded
}

fn push_folded(folded: &mut String, c: char) {
    if !is_separator(c) {
        folded.push(c);
    } else if !folded.is_empty() && !folded.ends_with(' ') {
        folded.push(' ');
    }
}

/// Signs outside ASCII, emoji among them, can be searched for; only what nobody types is a separator.
fn is_separator(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_alphanumeric();
    }
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '\u{80}'..='\u{BF}' if !c.is_alphanumeric())
        || matches!(c, '\u{2000}'..='\u{206F}' | '\u{3000}'..='\u{3003}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}')
}

fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}')
}

/// Scripts without spaces, and signs: each character begins a word.
fn stands_alone(c: &str) -> bool {
    c.chars().next().is_some_and(|c| c >= '\u{2100}')
}

fn is_single(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some() && chars.next().is_none()
}

fn begins_a_word(folded: &str, letter: &str) -> bool {
    if stands_alone(letter) {
        return folded.contains(letter);
    }
    folded.split(' ').any(|word| word.starts_with(letter))
}

/// Where each character ends.
fn ends(word: &str) -> Vec<usize> {
    word.char_indices().map(|(at, c)| at + c.len_utf8()).collect()
}

/// The longest grams of a word of a query.
fn grams_of_word(word: &str) -> Vec<&str> {
    let ends = ends(word);
    if ends.len() <= 3 {
        return vec![word];
    }
    let start = |at: usize| if at == 0 { 0 } else { ends[at - 1] };
    (0..ends.len() - 2).map(|at| &word[start(at)..ends[at + 2]]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grams_of(name: &str) -> Vec<String> {
        let mut out = String::new();
        push_grams(&fold(name), &mut out);
        out.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn folding() {
        for (name, folded) in [
            ("photos/2024/IMG_2034.JPG", "photos 2024 img 2034 jpg"),
            ("Año Nuevo — canción.mp3", "ano nuevo cancion mp3"),
            ("\"rock\" -n* (roll)", "rock n roll"),
            ("🦀 crab", "🦀 crab"),
            ("İstanbul", "istanbul"),
            ("東京の夜", "東京の夜"),
            ("***", ""),
        ] {
            assert_eq!(fold(name), folded, "{name}");
        }
    }

    #[test]
    fn matching() {
        let name = fold("Holiday Video 2024 – Canción de Año.mkv");
        for yes in [
            "video holiday",
            "holi",
            "liday",
            "DEO",
            "canción",
            "cancion ano",
            "\"2024\"",
            "h v",
            "de",
            "024",
        ] {
            assert!(Query::new(yes).matches(&name), "{yes}");
        }
        for no in ["videos", "x", "holiday zebra", "🦀", "o"] {
            assert!(!Query::new(no).matches(&name), "{no}");
        }
        assert!(Query::new("京").matches(&fold("大東京駅")));
    }

    #[test]
    fn the_rarest_grams_are_asked_for() {
        let frequency = |gram: &str| match gram {
            "day" => 1,
            "go" => 2,
            "hol" => 3,
            _ => 9,
        };
        assert_eq!(Query::new("holidays go x").grams(frequency), ["day", "go", "hol", "ays", "x"]);
    }

    proptest! {
        #[test]
        fn what_matches_is_nominated(name in "\\PC{0,40}", from in 0usize..40, len in 0usize..12) {
            let query: String = name.chars().skip(from).take(len).collect();
            let query = Query::new(&query);
            let known = grams_of(&name);
            if query.matches(&fold(&name)) {
                for gram in query.grams(|_| 0) {
                    prop_assert!(known.iter().any(|g| g == gram), "{gram:?} of {query:?} in {name:?}");
                }
            }
        }

        #[test]
        fn folding_twice_changes_nothing(name in "\\PC{0,40}") {
            let once = fold(&name);
            prop_assert_eq!(fold(&once), once);
        }
    }
}
