//! The program itself: what it prints, what it refuses to start with, and what it still knows after `kill -9`.

#![expect(clippy::unwrap_used, reason = "help for tests")]

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use common::{PASSWORD, csr, file, session};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

fn program(folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_directory"));
    command
        .current_dir(folder)
        .env_clear()
        .env("DIRECTORY_LISTEN", "127.0.0.1:0")
        .env("DIRECTORY_DATA_DIR", "data");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts the program; the address that it says.
fn start(folder: &std::path::Path) -> (Child, String) {
    let mut child = program(folder).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address =
        line.trim().strip_prefix("directory listening on http://").unwrap_or_else(|| panic!("{line:?}"));
    let address = address.to_owned();
    (child, address)
}

fn call(address: &str, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    let body = body.to_string();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, address) = start(folder.path());
    let account = json!({ "username": "ana", "password": PASSWORD });
    assert_eq!(call(&address, "POST", "/v1/accounts", "", &account).0, 201);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let (status, reply) = call(&address, "POST", "/v1/sessions", "", &session("ana", &csr(&key)));
    assert_eq!(status, 201, "{reply}");
    let token = reply["token"].as_str().unwrap();
    for revision in 1..=5 {
        let put = [file(&format!("file {revision}.txt"))];
        let delta = json!({ "base_revision": revision - 1, "revision": revision, "put": put });
        assert_eq!(call(&address, "POST", "/v1/catalog", token, &delta).0, 200);
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let (mut child, address) = start(folder.path());
    let (status, found) = call(&address, "GET", "/v1/search?q=file", token, &Value::Null);
    assert_eq!((status, found["items"].as_array().map(Vec::len)), (200, Some(5)), "{found}");
    let (status, renewed) = call(&address, "PUT", "/v1/sessions/current", token, &json!({}));
    assert_eq!((status, &renewed["catalog_revision"]), (200, &json!(5)));
    assert_eq!(call(&address, "POST", "/v1/accounts", "", &account).0, 409);

    // And a stop in order is one with success.
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_broken_setting_stops_it_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a file"), "in the way").unwrap();
    for (name, value) in [
        ("DIRECTORY_DATA_DIR", "a file"),
        ("DIRECTORY_DATA_DIR", "a file/data"),
        ("DIRECTORY_DATA_DIR", "/proc/nowhere"),
        ("DIRECTORY_LISTEN", "nowhere"),
        ("DIRECTORY_LEASE", "10"),
        ("DIRECTORY_REGISTRATION", "maybe"),
        ("DIRECTORY_TLS_CERT", "missing.pem"),
        ("DIRECTORY_ADMIN_TOKEN", "short"),
        ("DIRECTORY_ADMIN_TOKEN", "secret-in-url contraseña larga"),
        ("DIRECTORY_ADMIN_TOKEN", "secret-in-url with spaces"),
        ("DIRECTORY_AMQP_URL", "http://secret-in-url"),
        ("DIRECTORY_DATABASE_URL", "postgres://secret-in-url"),
        ("RUST_LOG", "directory=loud=very"),
        ("LOG_FORMAT", "xml"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret-in-url@localhost:4318"),
    ] {
        let output = program(folder.path()).env(name, value).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{name}");
        assert!(error.contains(name) && !error.contains("secret-in-url"), "{name}: {error}");
    }
    std::fs::write(folder.path().join(".env"), "DIRECTORY_LEASE=forever\n").unwrap();
    let output = program(folder.path()).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("DIRECTORY_LEASE"));
}

#[test]
fn help_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let output = program(folder.path())
        .arg("--help")
        .env("DIRECTORY_ADMIN_TOKEN", "a-very-secret-token")
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && help.contains("DIRECTORY_ADMIN_TOKEN") && !help.contains("a-very-secret")
    );
}

#[test]
fn a_folder_belongs_to_one_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = start(folder.path());
    let second = program(folder.path()).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("catalog.sqlite"), "{error}");
    assert!(error.contains("DIRECTORY_DATA_DIR"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn health_is_asked_of_the_one_that_runs_here() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, address) = start(folder.path());
    let health = |listen: &str| {
        let output = program(folder.path()).arg("health").env("DIRECTORY_LISTEN", listen).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(health(&address), (Some(0), String::new()));
    // As a container has it.
    let port = address.rsplit(':').next().unwrap();
    assert_eq!(health(&format!("0.0.0.0:{port}")), (Some(0), String::new()));
    child.kill().unwrap();
    child.wait().unwrap();
    let (code, error) = health(&address);
    assert!(code == Some(1) && error.contains("/readyz does not answer"), "{error}");
}

/// What health says of a directory that serves HTTPS with `shown`, to one whose settings have `known`: the code, and why.
fn health_over_https(shown: (String, &KeyPair), known: (String, &KeyPair)) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let secured = |name: &str, (chain, key): (String, &KeyPair)| {
        let (cert_file, key_file) = (format!("{name}.crt"), format!("{name}.key"));
        std::fs::write(folder.path().join(&cert_file), chain).unwrap();
        std::fs::write(folder.path().join(&key_file), key.serialize_pem()).unwrap();
        let mut command = program(folder.path());
        command.env("DIRECTORY_TLS_CERT", cert_file).env("DIRECTORY_TLS_KEY", key_file);
        command
    };
    let mut child = secured("shown", shown).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("directory listening on https://").unwrap();
    let output = secured("known", known).arg("health").env("DIRECTORY_LISTEN", address).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn health_of_one_that_serves_https() {
    let authority = {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    };
    let key = KeyPair::generate().unwrap();
    let of = |name: &str, year: i32| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params
    };
    let alone = |name: &str| of(name, 4000).self_signed(&key).unwrap().pem();
    let signed =
        |name: &str, year| of(name, year).signed_by(&key, &authority.1).unwrap().pem() + &authority.0;
    for good in [alone("directory.example.org"), alone("127.0.0.1"), signed("*.example.org", 4000)] {
        let said = health_over_https((good.clone(), &key), (good, &key));
        assert_eq!(said, (Some(0), String::new()));
    }
    // Somebody else there, or the same one before its certificate was renewed; and one that ran out.
    let other_key = KeyPair::generate().unwrap();
    let other = of("directory.example.org", 4000).self_signed(&other_key).unwrap().pem();
    let old = signed("directory.example.org", 2020);
    for (shown, known) in
        [((alone("directory.example.org"), &key), (other, &other_key)), ((old.clone(), &key), (old, &key))]
    {
        let (code, error) = health_over_https(shown, known);
        assert!(code == Some(1) && error.contains("certificate"), "{error}");
    }
}
