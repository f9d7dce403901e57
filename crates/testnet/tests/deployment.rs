//! What is written for those who run Trueque and those who write to it, held against what there is: `docker-compose.yml`
//! keeps its promises in form (`script/test-compose` proves them in deed), and `docs/api.md` has an example of every call.
//!
//! As in `tidy`, each rule is a function from text to complaints, and a test beside it shows that it can fail.

#![expect(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

/// Those that see each other, and the one that must not see them.
const TOGETHER: [&str; 2] = ["ana", "beto"];
const APART: &str = "carla";
/// What every network reaches.
const SHARED: [&str; 2] = ["directory", "rabbitmq"];

// ── docker-compose.yml ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn compose_keeps_everybody_in_their_place() {
    assert_tidy(&confined(&text("docker-compose.yml")));
}

#[test]
fn compose_has_no_secret_and_every_variable_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let written = folder.path().join("env");
    let made = Command::new(root().join("script/compose-env")).arg(&written).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let settings = text(".env.example");
    let mut complaints = variables(
        &text("docker-compose.yml"),
        &text("docs/deployment.md"),
        &fs::read_to_string(&written).unwrap(),
    );
    complaints.extend(settings_given(&text("docker-compose.yml"), &settings));
    assert_tidy(&complaints);
}

#[test]
fn what_is_written_for_compose_is_secret_and_stays() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    fs::write(&file, "TRUEQUE_ANA_TOKEN=mine").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let run = || Command::new(root().join("script/compose-env")).arg(&file).output().unwrap();
    assert!(run().status.success());
    let first = fs::read_to_string(&file).unwrap();
    assert!(run().status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), first, "a second run changes nothing");
    let values: BTreeMap<_, _> = first.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert_eq!((values.len(), values["TRUEQUE_ANA_TOKEN"]), (6, "mine"));
    assert_eq!(values.values().collect::<BTreeSet<_>>().len(), 6, "no two are the same");

    let fresh = folder.path().join("fresh");
    assert!(Command::new(root().join("script/compose-env")).arg(&fresh).output().unwrap().status.success());
    assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o600);
}

/// What stands in the way of a service that was broken into, and of peers that must not see each other.
fn confined(compose: &str) -> Vec<String> {
    let services = services(compose);
    let mut complaints = Vec::new();
    let networks =
        |name: &str| -> BTreeSet<String> { words(&services[name]["networks"]).into_iter().collect() };
    for (name, service) in &services {
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                complaints.push(format!("docker-compose.yml: {name}: {what}"));
            }
        };
        let is = |key: &str, wanted: &Yaml| service.get(key) == Some(wanted);
        expect(is("read_only", &Yaml::Boolean(true)), "its root can be written");
        expect(words_of(service, "cap_drop") == ["ALL"], "it keeps capabilities");
        expect(words_of(service, "security_opt") == ["no-new-privileges:true"], "it may gain privileges");
        expect(is("restart", &Yaml::String("unless-stopped".to_owned())), "nobody starts it again");
        let user = service.get("user").and_then(Yaml::as_str).unwrap_or_default();
        expect(user.starts_with(|c: char| ('1'..='9').contains(&c)), "it runs as root");
        expect(service.contains_key("healthcheck"), "nobody sees whether it is well");
        let ports = words_of(service, "ports");
        expect(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "other machines reach it");
        expect(!service.contains_key("network_mode"), "it leaves its networks");
    }
    let together: BTreeSet<String> = TOGETHER.iter().flat_map(|name| networks(name)).collect();
    let apart = networks(APART);
    for name in apart.intersection(&together) {
        complaints.push(format!("docker-compose.yml: {APART} is on {name} with the others"));
    }
    for shared in SHARED {
        if !networks(shared).is_superset(&together.union(&apart).cloned().collect()) {
            complaints.push(format!("docker-compose.yml: {shared} is not on every network"));
        }
    }
    complaints
}

/// Whether each variable is explained, is written by `script/compose-env` where it must be set, and no secret has a value.
fn variables(compose: &str, document: &str, written: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut needed = BTreeSet::new();
    for after in compose.split("${").skip(1) {
        let inside = after.split('}').next().unwrap_or_default();
        let name = inside.split(':').next().unwrap_or_default();
        if !document.contains(&format!("`{name}`")) {
            complaints.push(format!("docs/deployment.md does not explain {name}"));
        }
        if inside.starts_with(&format!("{name}:?")) {
            needed.insert(name.to_owned());
        }
    }
    let written: BTreeSet<_> = written.lines().filter_map(|line| line.split_once('=')).collect();
    let names: BTreeSet<String> = written.iter().map(|(name, _)| (*name).to_owned()).collect();
    if needed != names {
        complaints.push(format!("script/compose-env writes {names:?}, and {needed:?} are needed"));
    }
    if written.iter().any(|(_, value)| value.len() < 16) {
        complaints.push("script/compose-env writes secrets that can be guessed".to_owned());
    }
    for (service, body) in services(compose) {
        for (name, value) in environment(&body) {
            let is_secret = ["PASSWORD", "TOKEN", "SECRET", "KEY"].iter().any(|word| name.ends_with(word));
            let comes_from_outside =
                value.starts_with("${") && (value.contains(":?") || value.ends_with(":-}"));
            if (is_secret && !comes_from_outside)
                || value.split("://").nth(1).is_some_and(|at| at.contains('@'))
            {
                complaints
                    .push(format!("docker-compose.yml: {service}: {name} is a secret that everybody knows"));
            }
        }
    }
    complaints
}

/// Whether what the programs are given are settings.
fn settings_given(compose: &str, example: &str) -> Vec<String> {
    let known: BTreeSet<&str> = example.lines().filter_map(|line| line.split('=').next()).collect();
    let of_programs = |name: &String| name != "rabbitmq";
    let given = services(compose).into_iter().filter(|(name, _)| of_programs(name));
    let names = given.flat_map(|(_, body)| environment(&body).into_keys());
    let unknown: BTreeSet<String> = names.filter(|name| !known.contains(name.as_str())).collect();
    unknown.iter().map(|name| format!("docker-compose.yml: {name} is no setting")).collect()
}

type Map = BTreeMap<String, Yaml>;

fn services(compose: &str) -> BTreeMap<String, Map> {
    let documents = YamlLoader::load_from_str(compose).unwrap();
    let services = map(&documents[0]["services"]);
    services.into_iter().map(|(name, body)| (name, map(&body))).collect()
}

/// A mapping, with what `<<` merges into it.
fn map(yaml: &Yaml) -> Map {
    let mut merged = Map::new();
    for (key, value) in yaml.as_hash().into_iter().flatten() {
        match key.as_str().unwrap() {
            "<<" => merged.extend(map(value)),
            _ => continue,
        }
    }
    for (key, value) in yaml.as_hash().into_iter().flatten() {
        if key.as_str() != Some("<<") {
            merged.insert(key.as_str().unwrap().to_owned(), value.clone());
        }
    }
    merged
}

fn environment(service: &Map) -> BTreeMap<String, String> {
    let values = service.get("environment").map(map).unwrap_or_default();
    values.into_iter().map(|(name, value)| (name, value.into_string().unwrap())).collect()
}

fn words(yaml: &Yaml) -> Vec<String> {
    yaml.as_vec().into_iter().flatten().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn words_of(service: &Map, key: &str) -> Vec<String> {
    service.get(key).map(words).unwrap_or_default()
}

// ── docs/api.md ─────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn every_call_has_an_example_and_every_example_is_a_call() {
    let markdown = text("docs/api.md");
    let mut complaints = Vec::new();
    for (api, base) in [("pclient", "$P"), ("directory", "$D")] {
        complaints.extend(examples(&markdown, base, &text(&format!("docs/openapi/{api}.json"))));
    }
    assert_tidy(&complaints);
}

/// Compares the `curl`s that ask `base` with the calls of an OpenAPI document, both ways.
fn examples(markdown: &str, base: &str, openapi: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(openapi).unwrap();
    let calls: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let mut missing = calls.clone();
    let mut complaints = Vec::new();
    for (method, path) in curls(markdown, base) {
        // `/v1/files/locate` is itself before it is a file.
        let exact = calls.iter().find(|call| call.0 == method && call.1 == path);
        match exact.or_else(|| calls.iter().find(|call| call.0 == method && fits(&call.1, &path))) {
            Some(call) => {
                missing.remove(call);
            }
            None => complaints.push(format!("docs/api.md: there is no {method} {base}{path}")),
        }
    }
    complaints.extend(
        missing.iter().map(|(method, path)| format!("docs/api.md has no example of {method} {base}{path}")),
    );
    complaints
}

/// The method and path of each `curl` in the blocks of shell.
fn curls(markdown: &str, base: &str) -> Vec<(String, String)> {
    let blocks = markdown.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let commands = blocks.flat_map(str::lines).flat_map(|line| line.split("curl ").skip(1));
    let asked = commands.filter_map(|command| {
        let after = command.split_once(&format!("{base}/"))?.1;
        let path = after.split([' ', '"', ';', '?', '\n']).next()?;
        let posts = ["--json", " -d ", " -F "].iter().any(|option| command.contains(option));
        let method = match command.split_once("-X ") {
            Some((_, method)) => method.split_whitespace().next()?,
            None if posts => "POST",
            None => "GET",
        };
        Some((method.to_owned(), format!("/{path}")))
    });
    asked.collect()
}

fn fits(template: &str, path: &str) -> bool {
    let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (template, path) = (parts(template), parts(path));
    template.len() == path.len()
        && template.iter().zip(&path).all(|(wanted, part)| wanted == part || wanted.starts_with('{'))
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn assert_tidy(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

// ── Each rule can fail ──────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn confined_can_fail() {
    let compose = text("docker-compose.yml");
    let complaints = |from: &str, to: &str| {
        assert!(compose.contains(from), "{from}");
        confined(&compose.replace(from, to)).len()
    };
    assert_eq!(complaints("networks: [apart]", "networks: [together]"), 1, "carla sees the others");
    assert_eq!(complaints("networks: [apart]", "networks: [apart, elsewhere]"), 2, "nobody else is there");
    assert_eq!(complaints("read_only: true", "read_only: false"), 5);
    assert_eq!(complaints("  cap_drop: [ALL]\n", ""), 5);
    assert_eq!(complaints("user: \"999:999\"", "user: \"0:0\""), 1);
    assert_eq!(complaints("127.0.0.1:${TRUEQUE_ANA_PORT", "${TRUEQUE_ANA_PORT"), 1);
}

#[test]
fn variables_can_fail() {
    let compose = "services:\n  a:\n    environment:\n      X_TOKEN: ${T_A:?why}\n      Y: ${T_B:-b}\n";
    let secret = "0123456789abcdef";
    let written = format!("T_A={secret}\n");
    assert!(variables(compose, "`T_A` `T_B`", &written).is_empty());
    assert_eq!(variables(compose, "`T_A`", &written).len(), 1, "not explained");
    assert_eq!(variables(compose, "`T_A` `T_B`", "").len(), 1, "not written");
    assert_eq!(variables(compose, "`T_A` `T_B`", "T_A=short\n").len(), 1);
    assert_eq!(variables(&compose.replace(":?why", ":-known"), "`T_A` `T_B`", "").len(), 1, "a known secret");
    assert_eq!(variables("services:\n  a:\n    environment:\n      U: amqp://u:p@h\n", "", "").len(), 1);
    let given = "services:\n  a:\n    environment:\n      PEER_X: y\n";
    assert!(settings_given(given, "PEER_X=\n").is_empty());
    assert_eq!(settings_given(given, "PEER_Y=\n").len(), 1);
}

#[test]
fn examples_can_fail() {
    let openapi = r#"{"paths": {"/a/{id}": {"get": {}, "delete": {}}, "/a": {"post": {}}}}"#;
    let markdown = |lines: &str| format!("```sh\n{lines}```\n");
    let all = "curl $P/a/$ID; curl -X DELETE $P/a/7\ncurl \"$P/a\" --json '{}'\n";
    assert!(examples(&markdown(all), "$P", openapi).is_empty());
    assert_eq!(examples(&markdown("curl $P/a/$ID\n"), "$P", openapi).len(), 2);
    assert_eq!(examples(&markdown(&format!("{all}curl $P/b\n")), "$P", openapi).len(), 1);
    assert_eq!(examples(all, "$P", openapi).len(), 3, "not in a block");
}
