//! The OpenAPI documents of both APIs: kept as they are generated, and complete.

#![expect(clippy::unwrap_used, reason = "a test: what it does not expect ends it")]

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use testnet::documents;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parsed() -> [(&'static str, Value); 2] {
    documents().map(|(name, document)| (name, serde_json::from_str(&document).unwrap()))
}

#[test]
fn the_kept_documents_are_the_generated_ones() {
    for (name, document) in documents() {
        assert!(
            text(&format!("docs/openapi/{name}")) == document,
            "docs/openapi/{name} is not what the code says; write it anew with `cargo run -p testnet --example openapi`"
        );
    }
}

#[test]
fn every_part_of_the_documents_is_described() {
    let mut lacking = Vec::new();
    for (name, document) in parsed() {
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, call) in item.as_object().unwrap() {
                let here = format!("{name}: {method} {path}");
                let id = call["operationId"].as_str().unwrap();
                assert!(ids.insert(id.to_owned()), "{here}: {id} is another call's");
                assert!(!text_of(&call["summary"]).is_empty(), "{here}: no summary");
                for parameter in call["parameters"].as_array().into_iter().flatten() {
                    described(&format!("{here}: {}", parameter["name"]), parameter, &mut lacking);
                }
                for (status, response) in call["responses"].as_object().unwrap() {
                    described(&format!("{here}: {status}"), response, &mut lacking);
                }
            }
        }
        for (schema, about) in document["components"]["schemas"].as_object().unwrap() {
            walk(&format!("{name}: {schema}"), about, &mut lacking);
        }
    }
    assert!(lacking.is_empty(), "not described, or for readers of Rust alone:\n{}", lacking.join("\n"));
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn described(here: &str, about: &Value, lacking: &mut Vec<String>) {
    let description = text_of(&about["description"]);
    if description.is_empty() || description.contains("[`") {
        lacking.push(format!("{here}: {description:?}"));
    }
}

/// Every property is described, here or where it refers to.
fn walk(here: &str, schema: &Value, lacking: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let refers = property.get("$ref").is_some() || property.get("oneOf").is_some();
        // The word that tells the kinds of an event apart.
        let tells_apart = property["enum"].as_array().is_some_and(|words| words.len() == 1);
        if !refers && !tells_apart {
            described(&format!("{here}.{name}"), property, lacking);
        }
        walk(&format!("{here}.{name}"), property, lacking);
    }
    for part in ["oneOf", "allOf"].into_iter().filter_map(|part| schema[part].as_array()).flatten() {
        walk(here, part, lacking);
    }
}

#[test]
fn what_has_bounds_tells_them() {
    let [(_, directory), (_, pclient)] = parsed();
    let of = |document: &Value, pointer: &str| document.pointer(pointer).cloned().unwrap_or_default();
    let schema = |document, field: &str| of(document, &format!("/components/schemas/{field}"));
    for (field, bound) in [
        ("AccountRequest/properties/password/minLength", directory::passwords::SHORTEST as u64),
        ("AccountRequest/properties/password/maxLength", directory::passwords::LONGEST as u64),
        ("CatalogDelta/properties/put/maxItems", wire::rest::directory::MAX_DELTA_ENTRIES as u64),
        ("CatalogDelta/properties/remove/maxItems", wire::rest::directory::MAX_DELTA_ENTRIES as u64),
        ("CatalogPut/properties/size/maximum", content::MAX_FILE_SIZE),
        ("CatalogPut/properties/pieces_held/maximum", content::MAX_FILE_SIZE / content::PIECE_SIZE),
        ("LocateRequest/properties/content_ids/maxItems", wire::rest::directory::MAX_LOCATE as u64),
    ] {
        assert_eq!(schema(&directory, field), bound, "{field}");
    }
    let batch = wire::rest::pclient::MAX_BATCH as u64;
    assert_eq!(schema(&pclient, "BatchRequest/properties/downloads/maxItems"), batch);

    for document in [&directory, &pclient] {
        let mut limits = 0;
        for item in document["paths"].as_object().unwrap().values() {
            for parameter in item["get"]["parameters"].as_array().into_iter().flatten() {
                let (name, schema) = (text_of(&parameter["name"]), &parameter["schema"]);
                if name == "limit" {
                    limits += 1;
                    assert_eq!(schema["minimum"], 1);
                    assert_eq!(schema["maximum"], wire::http::page::MAX_LIMIT);
                    assert_eq!(schema["default"], wire::http::page::DEFAULT_LIMIT);
                }
                let is_null = |kind: &Value| {
                    kind == "null" || kind.as_array().is_some_and(|k| k.contains(&"null".into()))
                };
                assert!(
                    !is_null(&schema["type"]) && schema.get("oneOf").is_none(),
                    "{name}: a query has no null"
                );
            }
        }
        assert!(limits >= 3, "{limits}");
        for id in ["ContentId", "PeerId", "Username"] {
            assert!(of(document, &format!("/components/schemas/{id}/pattern")).is_string(), "{id}");
        }
    }
}

#[test]
fn every_refusal_is_a_problem_with_its_codes() {
    for (name, document) in parsed() {
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, call) in item.as_object().unwrap() {
                let responses = call["responses"].as_object().unwrap();
                assert!(
                    responses.contains_key("400") && responses.contains_key("500"),
                    "{name}: {method} {path}"
                );
                for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                    let schema = text_of(&response["content"]["application/problem+json"]["schema"]["$ref"]);
                    let schema = document.pointer(schema.trim_start_matches('#')).unwrap();
                    let schema = &schema["allOf"];
                    assert_eq!(schema[0]["$ref"], "#/components/schemas/Problem");
                    let codes = schema[1]["properties"]["code"]["enum"].as_array().unwrap();
                    for code in codes {
                        let code: wire::ErrorCode = text_of(code).parse().unwrap();
                        assert_eq!(code.http_status().as_str(), status, "{name}: {method} {path}");
                    }
                }
            }
        }
    }
}
