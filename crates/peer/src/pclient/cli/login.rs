//! `peer login` and `peer logout`.

use std::io::{BufRead, IsTerminal};

use http::Method;
use secrecy::{ExposeSecret, SecretString};
use wire::rest::{accounts::LoginRequest, pclient::Status};

use super::{Exit, LoginArgs, Stop, api::Api, screen::Screen};
use crate::config::Settings;

/// No password is longer; a line without an end is not read for ever.
const MAX_PASSWORD: u64 = 4096;

pub(super) async fn login(
    api: &Api,
    args: LoginArgs,
    settings: &Settings,
    screen: &mut Screen,
) -> Result<(), Stop> {
    let username = args.user.or_else(|| settings.username.clone());
    let username = username.ok_or_else(|| Stop::new(Exit::Usage, "say who logs in: peer login NAME"))?;
    let password = if args.password_stdin {
        first_line(std::io::stdin().lock())?
    } else if let Some(password) = &settings.password {
        password.clone()
    } else {
        ask("password: ")?
    };
    let invite = args.invite.map(|invite| invite.expose_secret().to_owned().into());
    let request = LoginRequest { username, password: password.expose_secret().to_owned().into(), invite };
    let status: Status = api.post("/v1/login", &request).await?;
    if screen.json {
        return screen.json(&status);
    }
    screen.line(format!("logged in as {} at {}", request.username, status.directory.url))
}

pub(super) async fn logout(api: &Api, screen: &mut Screen) -> Result<(), Stop> {
    api.tell(Method::POST, "/v1/logout").await?;
    if screen.json {
        return screen.json(&serde_json::json!({ "logged_out": true }));
    }
    let status: Status = api.get("/v1/status", &()).await?;
    if let Some(why) = status.directory.error {
        screen.remark(&why);
    }
    screen.line("logged out")
}

pub(super) fn first_line(input: impl BufRead) -> Result<SecretString, Stop> {
    let mut line = String::new();
    input.take(MAX_PASSWORD).read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(Stop::new(Exit::Usage, "standard input has no password"));
    }
    Ok(SecretString::from(password))
}

pub(super) fn ask(question: &str) -> Result<SecretString, Stop> {
    if !std::io::stdin().is_terminal() {
        let how = "there is no terminal to ask for the password: use --password-stdin or PEER_PASSWORD";
        return Err(Stop::new(Exit::Usage, how));
    }
    Ok(rpassword::prompt_password(question).map(SecretString::from)?)
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn the_password_is_the_first_line() {
        let read = |text: &str| first_line(text.as_bytes()).map(|secret| secret.expose_secret().to_owned());
        assert_eq!(read("secret words\nmore").unwrap(), "secret words");
        assert_eq!(read("secret\r\n").unwrap(), "secret");
        assert_eq!(read(" spaces stay ").unwrap(), " spaces stay ");
        assert_eq!(read("\n").unwrap_err().exit, Exit::Usage);
    }
}
