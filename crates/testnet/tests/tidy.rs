//! Tidy: what the compiler cannot see about this repository, checked over its text.
//!
//! Each rule is a function from text to complaints, so that a small test beside it shows that it can fail. A rule that
//! is in the way is changed here, with its reason; there is no list of exceptions elsewhere.

#![expect(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The most lines of a source file.
const LONGEST: usize = 600;

/// Who may use whom, of our own crates.
const LAYERS: &[(&str, &[&str])] = &[
    ("content", &[]),
    ("wire", &["content"]),
    ("daemon", &[]),
    ("directory", &["content", "wire", "daemon"]),
    ("peer", &["content", "wire", "daemon"]),
    ("testnet", &["content", "wire", "daemon", "directory", "peer"]),
    ("fuzz", &["content", "wire", "directory", "peer"]),
    ("fuzz/libfuzzer", &["fuzz"]),
];

/// Words that only some places may name: the places, and why.
const PLACES: &[(&[&str], &[&str], &str)] = &[
    (
        &["rusqlite", "sqlx", "tokio_postgres", "deadpool_postgres", "libsqlite3_sys"],
        &[
            "crates/directory/src/catalog/",
            "crates/peer/src/store/",
            // The library's own tables, in the store's file and by its writer.
            "crates/peer/src/library/tables.rs",
            "crates/peer/src/library/announce.rs",
        ],
        "databases are the catalog's and the store's business",
    ),
    (
        &["lapin", "amqprs"],
        &[
            "crates/peer/src/relay/broker/",
            "crates/peer/examples/",
            "crates/testnet/",
            // Its name in the filter of logs.
            "crates/daemon/src/logging.rs",
        ],
        "the broker's client has one place",
    ),
    (
        &["reqwest"],
        &[
            "crates/peer/src/directory_link/",
            "crates/peer/src/pclient/cli/",
            "crates/testnet/",
            // To the collector that the operator names.
            "crates/daemon/src/traces.rs",
            // To the same program, on this machine.
            "crates/daemon/src/health.rs",
        ],
        "HTTP is asked by the link to the directory, by the command line, by traces, by health checks, and by tests from outside",
    ),
];

/// The modules that decide; they name no transport and no SQL.
const DECIDERS: &[&str] = &[
    "crates/content/src/",
    "crates/directory/src/leases.rs",
    "crates/directory/src/words.rs",
    "crates/peer/src/download/plan",
    "crates/peer/src/link/choose.rs",
    "crates/peer/src/service/",
];
const TRANSPORTS_AND_SQL: &[&str] = &[
    "axum", "h2", "http", "hyper", "lapin", "reqwest", "rusqlite", "tonic", "SELECT", "INSERT", "UPDATE",
    "DELETE",
];

/// Those of them that do no I/O either: time and chance are arguments.
const PURE: &[&str] = &[
    "crates/content/src/",
    "crates/directory/src/leases.rs",
    "crates/directory/src/words.rs",
    "crates/peer/src/download/plan",
    "crates/peer/src/link/choose.rs",
];
const IO: &[&str] = &["tokio", "std::fs", "std::net", "std::io", "now()", "SystemTime", "rand", "async"];

// ── The repository ──────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn crates_use_only_what_lies_below_them() {
    let mut complaints = Vec::new();
    for manifest in files_under("crates", "Cargo.toml") {
        let name = manifest.trim_start_matches("crates/").trim_end_matches("/Cargo.toml");
        complaints.extend(layers(name, &text(&manifest)));
    }
    assert_tidy(&complaints);
}

#[test]
fn words_stay_in_their_places() {
    let check = |path: &str, text: &str| {
        let mut complaints = Vec::new();
        for (words, places, why) in PLACES {
            complaints.extend(misplaced(path, text, words, places, why));
        }
        complaints
    };
    assert_tidy(&over_sources(check));
}

#[test]
fn what_decides_names_no_transport_and_does_no_io() {
    let check = |path: &str, text: &str| {
        let mut complaints = Vec::new();
        complaints.extend(named_in(DECIDERS, path, text, TRANSPORTS_AND_SQL));
        complaints.extend(named_in(PURE, path, text, IO));
        complaints
    };
    assert_tidy(&over_sources(check));
    for place in DECIDERS.iter().chain(PURE) {
        assert!(
            source_paths().iter().any(|path| path.starts_with(place)),
            "{place} is gone: change the table"
        );
    }
}

#[test]
fn every_module_tells_its_story_and_ends_in_time() {
    assert_tidy(&over_sources(story));
}

#[test]
fn the_example_of_settings_is_complete_and_true() {
    let configs = ["crates/directory/src/config.rs", "crates/peer/src/config.rs"].map(text);
    let mut settings = BTreeMap::new();
    for config in &configs {
        settings.extend(settings_of(config));
    }
    assert!(settings.len() > 20, "the settings are no longer found: {settings:?}");
    assert_tidy(&example(&settings, &text(".env.example")));
}

#[test]
fn every_metric_is_explained_and_exists() {
    let kept = source_paths().iter().flat_map(|path| metrics(&text(path))).collect();
    let explained = explained_metrics(&text("docs/operations.md"));
    assert!(explained.len() > 30, "the metrics are no longer found");
    assert_tidy(&unequal(&kept, &explained));
}

#[test]
fn every_proto_is_explained() {
    let protos = files_under("proto", ".proto");
    assert!(!protos.is_empty());
    assert_tidy(&protos.iter().flat_map(|path| explained(path, &text(path))).collect::<Vec<_>>());
}

#[test]
fn documents_name_only_what_exists() {
    let mut documents = files_under("docs", ".md");
    documents.extend(["README.md", "SECURITY.md"].map(str::to_owned));
    let exists = |path: &str| root().join(path).exists();
    let complaints = documents.iter().flat_map(|path| references(path, &text(path), exists, text));
    assert_tidy(&complaints.collect::<Vec<_>>());
}

#[test]
fn every_hole_has_a_test() {
    assert_tidy(&untested("SECURITY.md", &text("SECURITY.md")));
}

// ── The rules ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Which of our crates a manifest names that it may not.
fn layers(name: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == name) else {
        return vec![format!("crates/{name}: has no place in the table of layers")];
    };
    let mut complaints = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            in_dependencies = section.contains("dependencies");
            continue;
        }
        let key: String = line.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let is_ours = LAYERS.iter().any(|(known, _)| *known == key);
        if in_dependencies && is_ours && !allowed.contains(&key.as_str()) {
            complaints.push(format!("crates/{name}: may not use {key}"));
        }
    }
    complaints
}

/// Where a source outside of `places` names one of `words`.
fn misplaced(path: &str, text: &str, words: &[&str], places: &[&str], why: &str) -> Vec<String> {
    if places.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let found = words.iter().filter(|word| names(&code(text), word));
    found.map(|word| format!("{path}: names {word}; {why}")).collect()
}

/// Where a source in one of `places` names one of `words`, tests aside.
fn named_in(places: &[&str], path: &str, text: &str, words: &[&str]) -> Vec<String> {
    let is_test = path.ends_with("tests.rs");
    if is_test || !places.iter().any(|place| path.starts_with(place)) {
        return Vec::new();
    }
    let code = code(text);
    let found = words.iter().filter(|word| names(&code, word));
    found.map(|word| format!("{path}: names {word}, and is a module that only decides")).collect()
}

/// A source opens with `//!` and is not too long.
fn story(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//! ") {
        complaints.push(format!("{path}: does not open with what it is (`//!`)"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        complaints.push(format!("{path}: has {lines} lines, and {LONGEST} is the most"));
    }
    complaints
}

/// The settings of a config, each with its default.
fn settings_of(config: &str) -> BTreeMap<String, String> {
    let config = code(config);
    let mut settings = BTreeMap::new();
    // A field is what stands between two `pub`s.
    for field in config.split("pub ") {
        let quoted = |key: &str| field.split_once(key)?.1.split('"').nth(1).map(str::to_owned);
        if let Some(name) = quoted("env = ") {
            settings.insert(name, quoted("default_value = ").unwrap_or_default());
        }
    }
    // Secrets are no flags: they are read by name.
    for name in config.split('"').skip(1).step_by(2) {
        let is_name =
            ["DIRECTORY_", "PEER_", "PSERVER_", "PCLIENT_"].iter().any(|prefix| name.starts_with(prefix));
        if is_name && name.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
            settings.entry(name.to_owned()).or_default();
        }
    }
    settings
}

/// Whether `.env.example` has every setting, with its default, explained, and nothing else.
fn example(settings: &BTreeMap<String, String>, example: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut seen = BTreeMap::new();
    let mut explained = false;
    for line in example.lines() {
        if line.starts_with('#') {
            explained = true;
        } else if let Some((name, value)) = line.split_once('=') {
            if !explained {
                complaints.push(format!(".env.example: no line says what {name} is"));
            }
            seen.insert(name, value);
        } else {
            explained = false;
        }
    }
    for (name, default) in settings {
        match seen.remove(name.as_str()) {
            Some(value) if value == default => {}
            Some(value) => {
                complaints.push(format!(".env.example: {name} is {default:?} by default, not {value:?}"))
            }
            None => complaints.push(format!(".env.example: lacks {name}")),
        }
    }
    complaints.extend(seen.keys().map(|name| format!(".env.example: {name} is no setting")));
    complaints
}

/// A proto file opens with a comment and has one above each call.
fn explained(path: &str, proto: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !proto.starts_with("// ") {
        complaints.push(format!("{path}: does not open with what it is"));
    }
    let mut above = "";
    for line in proto.lines().map(str::trim) {
        if line.starts_with("rpc ") && !above.starts_with("//") {
            complaints.push(format!("{path}: no comment above `{line}`"));
        }
        above = line;
    }
    complaints
}

/// Files that a document names in backquotes exist, and so do tests, named as `path/file.rs::test`.
fn references(
    document: &str,
    markdown: &str,
    exists: impl Fn(&str) -> bool,
    read: impl Fn(&str) -> String,
) -> Vec<String> {
    let is_ours = |name: &&str| {
        ["crates/", "script/", "proto/", "docs/"].iter().any(|folder| name.starts_with(folder))
            && !name.contains(['*', '{', ' ', '…'])
    };
    // Code blocks hold output and commands; only the prose between them makes claims.
    let prose: String = markdown.split("```").step_by(2).collect();
    let mut complaints = Vec::new();
    for name in prose.split('`').skip(1).step_by(2).filter(is_ours) {
        let (path, item) = name.split_once("::").map_or((name, None), |(path, item)| (path, Some(item)));
        if !exists(path) {
            complaints.push(format!("{document}: names {path}, which does not exist"));
        } else if let Some(item) = item
            && !names(&read(path), &format!("fn {item}"))
        {
            complaints.push(format!("{document}: there is no fn {item} in {path}"));
        }
    }
    complaints
}

/// Rows of the table of holes whose last cell names no test. That the tests exist, [`references`] looks at.
fn untested(document: &str, markdown: &str) -> Vec<String> {
    let rows = markdown.lines().skip_while(|line| !line.starts_with("| hole |")).skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    let has_test = |row: &str| {
        row.trim_end_matches(['|', ' ']).rsplit('|').next().is_some_and(|tests| tests.contains(".rs::"))
    };
    let untested = rows.iter().filter(|row| !has_test(row));
    let complaints = untested.map(|row| format!("{document}: no test is named for {row}"));
    let none = rows.is_empty().then(|| format!("{document}: there is no table of holes"));
    complaints.chain(none).collect()
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A source without its comments and its unit tests.
fn code(text: &str) -> String {
    let text = text
        .split_once("#[cfg(test)]\nmod ")
        .filter(|(_, tests)| tests.contains('{'))
        .map_or(text, |(code, _)| code);
    let uncommented = text.lines().map(|line| match line.find("//") {
        Some(at) if at == 0 || line[..at].ends_with(' ') => &line[..at],
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

/// The metrics that a source keeps: the first arguments of the macros.
fn metrics(source: &str) -> BTreeSet<String> {
    let macros = ["counter!(", "gauge!(", "histogram!("];
    let arguments = macros.iter().flat_map(|name| source.split(name).skip(1));
    let names = arguments.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next());
    names.map(str::to_owned).collect()
}

/// Those that a document explains: in backticks, with or without labels.
fn explained_metrics(document: &str) -> BTreeSet<String> {
    let quoted = document.split('`').skip(1).step_by(2).map(|word| word.split('{').next().unwrap_or(word));
    let ours = |word: &&str| {
        ["trueque_", "directory_"].iter().any(|program| word.starts_with(program))
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    quoted.filter(ours).map(str::to_owned).collect()
}

fn unequal(kept: &BTreeSet<String>, explained: &BTreeSet<String>) -> Vec<String> {
    let nowhere =
        kept.difference(explained).map(|name| format!("docs/operations.md does not explain {name}"));
    let gone = explained
        .difference(kept)
        .map(|name| format!("docs/operations.md explains {name}, which is not kept"));
    nowhere.chain(gone).collect()
}

/// Whether `word` stands somewhere in `text` on its own.
fn names(text: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

fn over_sources(check: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    source_paths().iter().flat_map(|path| check(path, &text(path))).collect()
}

/// All `.rs` files of the crates' `src` folders.
fn source_paths() -> Vec<String> {
    let mut paths = files_under("crates", ".rs");
    paths.retain(|path| path.split('/').nth(2) == Some("src"));
    assert!(paths.len() > 50, "the sources are no longer found");
    paths
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Paths, from the root on, of the files under `folder` whose names end so.
fn files_under(folder: &str, ending: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                paths.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    paths.sort();
    paths
}

#[track_caller]
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ── Each rule can fail ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn layers_can_fail() {
    let manifest =
        "[package]\nname = \"wire\"\n[dependencies]\ncontent.workspace = true\npeer.workspace = true\n";
    assert_eq!(layers("wire", manifest), ["crates/wire: may not use peer"]);
    assert_eq!(layers("directory", "[dev-dependencies]\npeer = { path = \"../peer\" }").len(), 1);
    assert_eq!(layers("peer", "[dev-dependencies]\ntestnet.workspace = true").len(), 1);
    assert_eq!(layers("newcomer", "").len(), 1);
    assert!(layers("testnet", "[dependencies]\npeer.workspace = true\n[features]\nwire = []").is_empty());
}

#[test]
fn misplaced_can_fail() {
    let found = |path, text| misplaced(path, text, &["rusqlite"], &["crates/peer/src/store/"], "why").len();
    assert_eq!(found("crates/peer/src/app.rs", "use rusqlite::Connection;"), 1);
    assert_eq!(found("crates/peer/src/app.rs", "fn f() -> rusqlite::Result<()> {}"), 1);
    assert_eq!(found("crates/peer/src/store/mod.rs", "use rusqlite::Connection;"), 0);
    assert_eq!(found("crates/peer/src/app.rs", "// not by rusqlite\nuse rusqlite_like::X; // rusqlite"), 0);
    assert_eq!(found("crates/peer/src/app.rs", "let url = \"http://x\"; rusqlite::open()"), 1);
}

#[test]
fn named_in_can_fail() {
    let found =
        |path, text| named_in(&["crates/peer/src/service/"], path, text, &["tonic", "SELECT", "now()"]).len();
    assert_eq!(found("crates/peer/src/service/mod.rs", "use tonic::Status;"), 1);
    assert_eq!(found("crates/peer/src/service/mod.rs", "let sql = \"SELECT 1\"; Instant::now()"), 2);
    assert_eq!(found("crates/peer/src/pserver/mod.rs", "use tonic::Status;"), 0);
    assert_eq!(
        found("crates/peer/src/service/mod.rs", "#[cfg(test)]\nmod tests {\n use tonic::Status; }"),
        0
    );
    assert_eq!(found("crates/peer/src/service/mod.rs", "#[cfg(test)]\nmod tests;\nuse tonic::Status;"), 1);
}

#[test]
fn story_can_fail() {
    assert_eq!(story("a.rs", "use std::fs;\n").len(), 1);
    assert_eq!(story("a.rs", &format!("//! A.\n{}", "\n".repeat(LONGEST))).len(), 1);
    assert!(story("a.rs", &format!("//! A.\n{}", "\n".repeat(LONGEST - 1))).is_empty());
}

#[test]
fn example_can_fail() {
    let config = r#"
        /// Where.
        #[arg(long, env = "PEER_WHERE")]
        #[arg(default_value = "here")]
        pub place: String,
        /// Who.
        #[arg(long, env = "LOG_WHO")]
        pub who: Option<String>,
        const SECRETS: [&str; 1] = ["PEER_SECRET"];
    "#;
    let settings = settings_of(config);
    let complaints = |text| example(&settings, text).len();
    assert_eq!(settings.len(), 3);
    assert_eq!(complaints("# Where.\nPEER_WHERE=here\n# Who.\nLOG_WHO=\nPEER_SECRET=\n"), 0);
    assert_eq!(
        complaints("# Where.\nPEER_WHERE=there\n# Who.\nLOG_WHO=\nPEER_SECRET=\n"),
        1,
        "not the default"
    );
    assert_eq!(complaints("# Where.\nPEER_WHERE=here\n# Who.\nLOG_WHO=\n"), 1, "one is missing");
    assert_eq!(
        complaints("# Where.\nPEER_WHERE=here\n\nLOG_WHO=\nPEER_SECRET=\n"),
        2,
        "two are not explained"
    );
    assert_eq!(complaints("# All.\nPEER_WHERE=here\nLOG_WHO=\nPEER_SECRET=\nPEER_OLD=\n"), 1, "one too many");
}

#[test]
fn unequal_can_fail() {
    let kept =
        metrics("metrics::counter!(\"trueque_a_total\", \"reason\" => why); gauge!(\n    \"trueque_b\")");
    assert_eq!(kept, ["trueque_a_total", "trueque_b"].map(str::to_owned).into());
    let explained =
        explained_metrics("`trueque_b`, `trueque_c{path=\"direct\"}`, `directory --help` and `PEER_X`");
    assert_eq!(explained, ["trueque_b", "trueque_c"].map(str::to_owned).into());
    assert_eq!(unequal(&kept, &explained).len(), 2);
    assert!(unequal(&kept, &kept).is_empty());
}

#[test]
fn explained_can_fail() {
    let calls = "service S {\n  // What it does.\n  rpc A(B) returns (C);\n  rpc D(E) returns (F);\n}\n";
    assert_eq!(explained("a.proto", calls).len(), 2);
    assert_eq!(explained("a.proto", &format!("// Calls.\n{calls}")).len(), 1);
}

#[test]
fn untested_can_fail() {
    let table = |rows: &str| format!("Text.\n\n| hole | guard | test |\n|---|---|---|\n{rows}\nMore.\n");
    assert!(untested("S.md", &table("| a | b | `crates/a.rs::c` |\n")).is_empty());
    assert_eq!(untested("S.md", &table("| a | b | `crates/a.rs::c` |\n| a | `x.rs::c` | – |\n")).len(), 1);
    assert_eq!(untested("S.md", "No table.").len(), 1);
}

#[test]
fn references_can_fail() {
    let exists = |path: &str| path == "crates/a.rs";
    let read = |_: &str| "fn there() {}".to_owned();
    let complaints = |text: &str| references("d.md", text, exists, read).len();
    assert_eq!(complaints("See `crates/a.rs`, `crates/a.rs::there` and `crates/{x,y}.rs`."), 0);
    assert_eq!(complaints("See `crates/b.rs`."), 1);
    assert_eq!(complaints("See `crates/a.rs::gone`."), 1);
    assert_eq!(complaints("```text\n`crates/b.rs`\n```\n"), 0);
}
