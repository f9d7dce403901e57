//! No call is forgotten: both documents, as they are served, are walked against the programs, by somebody without a token.
//! What is not on the lists here gets 401, however the path is written.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::Value;
use testnet::{Api, Network};

/// What anybody may ask a directory.
const OF_DIRECTORY: [&str; 5] =
    ["GET /healthz", "GET /metrics", "GET /openapi.json", "GET /readyz", "GET /v1/ca.pem"];
/// What anybody may try there: an account and a password are the token.
const OF_ENTERING: [&str; 2] = ["POST /v1/accounts", "POST /v1/sessions"];
/// What is the broker's business, and nobody's where there is none.
const OF_BROKER: &str = "/v1/broker/";
/// What anybody may ask a pclient that has a token.
const OF_PCLIENT: [&str; 2] = ["GET /healthz", "GET /readyz"];

fn exact(path: &str) -> String {
    let path = path.replace("{content_id}", &"ab".repeat(32)).replace("{peer_id}", &"ab".repeat(16));
    // Whatever else a path has a part of, this is one.
    let mut exact = String::new();
    let mut rest = path.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        exact.push_str(before);
        exact.push_str("somebody");
        rest = after.split_once('}').unwrap().1;
    }
    exact + rest
}

/// The calls of a document that somebody without a token gets another answer to than 401.
async fn open(base: &str, document: &Value, token: Option<&str>) -> BTreeSet<String> {
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).tls_certs_only([]);
    let client = client.no_proxy().build().unwrap();
    let ask = async |method: &str, path: &str| {
        let request = client.request(method.parse().unwrap(), format!("{base}{path}"));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Api::reply(request).await.status
    };
    let mut open = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let mut known: Vec<String> =
            methods.as_object().unwrap().keys().map(|it| it.to_uppercase()).collect();
        known.retain(|method| ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()));
        assert!(!known.is_empty(), "{path}");
        for method in known {
            if ask(&method, &exact(path)).await != StatusCode::UNAUTHORIZED {
                open.insert(format!("{method} {path}"));
                continue;
            }
            // The same, written otherwise.
            let plain = exact(path);
            let last = plain.rsplit_once('/').unwrap();
            let escaped = format!("{}/%{:02x}{}", last.0, last.1.as_bytes()[0], &last.1[1..]);
            let upper = plain.replacen("/v1", "/V1", 1);
            for other in
                [escaped, upper, format!("{plain}/"), format!("/{plain}"), format!("{plain}?token=x")]
            {
                let status = ask(&method, &other).await;
                assert!(status.is_client_error(), "{method} {other}: {status}");
            }
            if method == "GET" {
                assert_eq!(ask("HEAD", &plain).await, StatusCode::UNAUTHORIZED, "HEAD {path}");
            }
        }
    }
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_but_those_on_the_list_wants_a_token() {
    let network =
        Network::with(|config| config.admin_token = Some("the-admin-token-of-tests".to_owned().into())).await;
    let token = "the-token-of-pclient";
    let ana = network
        .peer_unconnected_with("ana", |settings| settings.pclient_token = Some(token.to_owned().into()));
    let ana = ana.await;
    let base = network.url().as_str().trim_end_matches('/').to_owned();
    // The client goes at once: its connection would be a task that is left.
    let document: Value = {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        client.get(format!("{base}/openapi.json")).send().await.unwrap().json().await.unwrap()
    };
    assert!(document["paths"].as_object().unwrap().len() > 15);
    for token in [None, Some("of-nobody"), Some("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")] {
        let mut open = open(&base, &document, token).await;
        open.retain(|call| !call.contains(OF_BROKER));
        let listed = OF_DIRECTORY.iter().chain(&OF_ENTERING).map(|call| (*call).to_owned()).collect();
        assert_eq!(open, listed);
    }

    let document = ana.request(reqwest::Method::GET, "/openapi.json").bearer_auth(token);
    let document: Value = Api::reply(document).await.json();
    assert!(document["paths"].as_object().unwrap().len() > 20);
    let base = format!("http://{}", ana.address());
    for token in [None, Some("of-nobody"), Some("")] {
        assert_eq!(open(&base, &document, token).await, OF_PCLIENT.map(str::to_owned).into());
    }
    network.end([ana]).await;
}
