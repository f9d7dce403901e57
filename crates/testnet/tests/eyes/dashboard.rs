//! The dashboard for Grafana: it can be read, and each metric that it names is one that the programs have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../../docs/grafana/trueque.json");
/// What the names of our metrics begin with.
const OURS: [&str; 2] = ["trueque_", "directory_"];
/// What Prometheus puts behind the name of a histogram.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Histogram,
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let metrics = metrics_of(&sources());
    assert!(metrics.len() > 40, "the metrics are no longer found: {metrics:?}");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "the expressions are no longer found: {expressions:?}");
    let unknown: Vec<String> = expressions.iter().flat_map(|text| unknown(text, &metrics)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn it_takes_any_prometheus_and_its_panels_are_in_order() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|it| it["type"] == "datasource" && it["name"] == "datasource"));
    let (mut ids, mut rows) = (BTreeSet::new(), Vec::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's too");
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title} shows nothing");
        for part in targets.iter().chain([panel]) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
    assert_eq!(rows, ["Transfers", "Pieces and outcomes", "Relay", "Refusals", "Directory"]);
}

/// Everything that is asked of Prometheus.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        Value::Object(fields) => {
            let here = ["expr", "definition"].iter().filter_map(|key| fields.get(*key)?.as_str());
            here.map(str::to_owned).chain(fields.values().flat_map(expressions)).collect()
        }
        _ => Vec::new(),
    }
}

/// Which metrics an expression names that nobody has, or has as something else.
fn unknown(expression: &str, metrics: &BTreeMap<String, Kind>) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words =
        expression.split(|c| !is_part(c)).filter(|word| OURS.iter().any(|ours| word.starts_with(ours)));
    let is_known = |word: &str| {
        let base = OF_HISTOGRAMS.iter().find_map(|end| word.strip_suffix(end));
        let is_histogram = |name: &str| metrics.get(name) == Some(&Kind::Histogram);
        metrics.get(word) == Some(&Kind::Plain) || base.is_some_and(is_histogram)
    };
    words.filter(|word| !is_known(word)).map(|word| format!("{word} in {expression}")).collect()
}

/// The metrics that sources name, wherever they do: some are in tables.
fn metrics_of(sources: &[String]) -> BTreeMap<String, Kind> {
    let mut metrics = BTreeMap::new();
    for (source, ours) in sources.iter().flat_map(|source| OURS.map(|ours| (source, format!("\"{ours}")))) {
        for (at, _) in source.match_indices(&ours) {
            let Some((name, _)) = source[at + 1..].split_once('"') else { continue };
            if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                let is_histogram = source[..at].trim_end().ends_with("histogram!(");
                let kind = if is_histogram { Kind::Histogram } else { Kind::Plain };
                metrics.insert(name.to_owned(), kind);
            }
        }
    }
    metrics
}

fn sources() -> Vec<String> {
    let mut folders: Vec<PathBuf> = ["daemon", "directory", "peer", "wire"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src"))
        .into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    sources
}

#[test]
fn the_check_can_fail() {
    let source = r#"
        metrics::counter!("trueque_a_total", "path" => "direct").increment(1);
        metrics::histogram!("directory_b_seconds").record(1.0);
        for (name, value) in [("trueque_c", 1)] {}
    "#;
    let metrics = metrics_of(&[source.to_owned()]);
    assert_eq!(metrics.len(), 3, "{metrics:?}");
    let complaints = |expression: &str| unknown(expression, &metrics).len();
    assert_eq!(complaints("sum by (path) (rate(trueque_a_total{x=\"y\"}[5m])) + trueque_c"), 0);
    assert_eq!(complaints("histogram_quantile(0.9, sum by (le) (rate(directory_b_seconds_bucket[5m])))"), 0);
    assert_eq!(complaints("rate(trueque_gone_total[5m]) + trueque_c"), 1);
    assert_eq!(complaints("trueque_a_total_bucket"), 1, "no histogram");
    assert_eq!(complaints("directory_b_seconds"), 1, "a histogram has no value of its own");
}
