//! A file sent to `POST /v1/files` as a form: streamed to disk, whatever its size, and shared.
//!
//! The bytes go into a hidden file in the shared folder, which is moved to its place when it is whole. Whatever ends
//! the request before that (the client goes away, the disk is full, the form is broken) removes it. No step holds more
//! than a chunk in memory.

use std::{
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::extract::{
    DefaultBodyLimit, FromRequest, Multipart, Request,
    multipart::{Field, MultipartError},
};
use content::SafeName;
use http::StatusCode;
use tokio::{fs::File, io::AsyncWriteExt, time::timeout};
use wire::{ErrorCode, http::Problem, rest::Audience};

use super::Pclient;
use crate::{Failure, library::SharedEntry};

/// A client that sends nothing for so long has gone.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// A thousand usernames.
const MAX_AUDIENCE_TEXT: usize = 64 << 10;

/// Takes the form: one `file`, and at most one `audience`, in any order.
pub(super) async fn receive(pclient: &Pclient, mut request: Request) -> Result<Arc<SharedEntry>, Problem> {
    let shares = &pclient.shares;
    DefaultBodyLimit::disable().apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let mut file = None;
    let mut audience = None;
    while let Some(field) = in_time(form.next_field()).await?.map_err(|error| broken(&error))? {
        match field.name() {
            Some("file") if file.is_none() => {
                let name = file_name(&field)?;
                let temp = Temp::create(shares.upload_target()).await?;
                file = Some((temp.fill(field).await?, name));
            }
            Some("audience") if audience.is_none() => audience = Some(parse_audience(&text(field).await?)?),
            Some(twice @ ("file" | "audience")) => {
                return Err(Problem::invalid(format!("the form has `{twice}` more than once")));
            }
            other => {
                let other = other.unwrap_or_default();
                return Err(Problem::invalid(format!("the form has the unknown field {other:?}")));
            }
        }
    }
    let (temp, name) = file.ok_or_else(|| Problem::invalid("the form has no `file`"))?;
    pclient.check_audience(audience.as_ref()).await?;
    let entry = shares.adopt_upload(temp.hand_over(), name, audience.clone()).await?;
    pclient.learn_groups(audience.as_ref()).await;
    Ok(entry)
}

fn file_name(field: &Field<'_>) -> Result<SafeName, Problem> {
    let name = field.file_name().ok_or_else(|| Problem::invalid("the part `file` has no file name"))?;
    SafeName::new(name).map_err(|error| Problem::invalid(format!("the part `file`: {error}")))
}

/// The file that is being received; removed unless it is handed over.
struct Temp {
    path: Option<PathBuf>,
    file: File,
}

impl Temp {
    async fn create(folder: &Path) -> Result<Self, Problem> {
        let path = folder.join(format!(".trueque-upload-{:032x}", rand::random::<u128>()));
        // The blocking thread makes the whole guard: a request that is dropped meanwhile drops it there.
        let create = move || {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            Ok::<_, std::io::Error>(Self { path: Some(path), file: File::from_std(file) })
        };
        let created = tokio::task::spawn_blocking(create).await.map_err(Problem::internal)?;
        Ok(created.map_err(|error| Failure::storage(&error))?)
    }

    async fn fill(mut self, mut field: Field<'_>) -> Result<Self, Problem> {
        while let Some(chunk) = in_time(field.chunk()).await?.map_err(|error| broken(&error))? {
            self.file.write_all(&chunk).await.map_err(|error| Failure::storage(&error))?;
        }
        // Writes are finished in the background: only this tells that the last one fitted on the disk.
        self.file.flush().await.map_err(|error| Failure::storage(&error))?;
        Ok(self)
    }

    /// From here on somebody else removes it.
    fn hand_over(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(%error, "a broken upload cannot be removed");
        }
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    while let Some(chunk) = in_time(field.chunk()).await?.map_err(|error| broken(&error))? {
        if bytes.len() + chunk.len() > MAX_AUDIENCE_TEXT {
            return Err(Problem::new(ErrorCode::TooLarge, "`audience` is too long"));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid("`audience` is not UTF-8"))
}

/// As in JSON (`"network"`, `["ana","@lab"]`), or plainly: `network`, `ana,@lab`.
pub(crate) fn parse_audience(text: &str) -> Result<Audience, Problem> {
    let text = text.trim();
    let value = if text.starts_with(['[', '"']) {
        serde_json::from_str(text).map_err(|error| Problem::invalid(format!("`audience`: {error}")))?
    } else if text == "network" {
        serde_json::Value::from(text)
    } else {
        text.split(',').map(|name| serde_json::Value::from(name.trim())).collect()
    };
    serde_json::from_value(value).map_err(|error| Problem::invalid(format!("`audience`: {error}")))
}

async fn in_time<T>(step: impl Future<Output = T>) -> Result<T, Problem> {
    timeout(IDLE_LIMIT, step).await.map_err(|_| {
        metrics::counter!("trueque_refusals_total", "reason" => "slow body").increment(1);
        Problem::new(ErrorCode::Timeout, "the upload stands still")
    })
}

fn broken(error: &MultipartError) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(ErrorCode::TooLarge, error.body_text()),
        _ => Problem::invalid(format!("the form cannot be read: {}", error.body_text())),
    }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn an_audience_is_written_in_either_way() {
        let users =
            |names: &[&str]| Audience::Users(names.iter().map(|name| name.parse().unwrap()).collect());
        for (text, expected) in [
            ("network", Audience::Network),
            ("\"network\"", Audience::Network),
            ("ana", users(&["ana"])),
            (" ana, ben ", users(&["ana", "ben"])),
            ("[\"ana\",\"ben\"]", users(&["ana", "ben"])),
            ("ana,@lab", users(&["ana", "@lab"])),
            ("[]", users(&[])),
        ] {
            assert_eq!(parse_audience(text), Ok(expected), "{text}");
        }
        for text in ["", "Ana", "[1]", "[", "{}", "ana,,ben", "@", "@@lab", "\"x\""] {
            assert!(parse_audience(text).is_err(), "{text}");
        }
    }
}
