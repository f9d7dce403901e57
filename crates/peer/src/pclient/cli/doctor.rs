//! `peer doctor`: the peer examines itself; here its findings are shown. `peer health`: no more than whether it is there.
//!
//! That pclient answers at all is the first finding, and is made here.

use http::Method;
use serde_json::json;
use wire::rest::pclient::{Check, CheckResult, Examination};

use super::{
    Stop,
    api::Api,
    screen::{Screen, counted, escaped},
};

pub(super) async fn doctor(api: &Api, screen: &mut Screen) -> Result<(), Stop> {
    let Examination { version, checks, .. } = api.ask_nothing(Method::POST, "/v1/doctor").await?;
    let checks: Vec<Check> = std::iter::once(pclient(api, &version)).chain(checks).collect();
    let healthy = checks.iter().all(|check| check.result != CheckResult::Failed);
    let failed = checks.iter().filter(|check| check.result == CheckResult::Failed).count();
    if screen.json {
        screen.json(&Examination { version, healthy, checks })?;
    } else {
        show(&checks, screen)?;
    }
    if healthy { Ok(()) } else { Err(Stop::failed(format!("{} failed", counted(failed, "check")))) }
}

/// Asked every few seconds, by what starts the peer again where it does not answer.
pub(super) async fn health(api: &Api, screen: &mut Screen) -> Result<(), Stop> {
    api.tell(Method::GET, "/readyz").await?;
    if screen.json { screen.json(&json!({ "ready": true })) } else { screen.line("ready") }
}

fn pclient(api: &Api, version: &str) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    let (result, advice) = if version == own {
        (CheckResult::Ok, None)
    } else {
        (CheckResult::Warning, Some(format!("this command is {own}: start the peer again after an update")))
    };
    let found = format!("{} answers, version {version}", api.address());
    Check { name: "pclient".to_owned(), result, found, advice }
}

/// A line for each, and what to do beneath it.
fn show(checks: &[Check], screen: &mut Screen) -> Result<(), Stop> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for Check { name, result, found, advice } in checks {
        screen.line(format!("{:<7}  {:<width$}  {}", word(*result), escaped(name), escaped(found)))?;
        if let Some(advice) = advice {
            screen.line(format!("{:<7}  {:<width$}  -> {}", "", "", escaped(advice)))?;
        }
    }
    Ok(())
}

fn word(result: CheckResult) -> &'static str {
    match result {
        CheckResult::Ok => "ok",
        CheckResult::Warning => "warning",
        CheckResult::Failed => "failed",
    }
}
