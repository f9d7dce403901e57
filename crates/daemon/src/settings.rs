//! Settings: the shapes they come in, and the `.env` file. A flag beats the environment, which beats `.env`, which
//! beats the default; a value that is wrong stops the program with a message that names the setting.

use std::{fmt, str::FromStr, time::Duration};

use secrecy::SecretString;

/// Reads `.env` of the working folder into the environment, where it does not override what is there.
///
/// # Errors
/// Where the file is there and cannot be read; the message names it.
pub fn load_dotenv() -> anyhow::Result<()> {
    match dotenvy::dotenv() {
        Ok(_) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(anyhow::anyhow!(".env: {error}")),
    }
}

/// The settings that there are, of all the programs. A test of each keeps it complete.
const EXAMPLE: &str = include_str!("../../../.env.example");
/// What the names of settings begin with.
const PREFIXES: [&str; 4] = ["DIRECTORY_", "PEER_", "PSERVER_", "PCLIENT_"];

/// Says which lines of `.env` look like settings and are none: misspelt, most likely. Call it once logs are written.
pub fn warn_of_unknown() {
    let Ok(lines) = dotenvy::dotenv_iter() else { return };
    for name in unknown(lines.filter_map(Result::ok).map(|(name, _)| name)) {
        tracing::warn!(
            setting = name,
            "`.env` sets what is no setting of Trueque; .env.example has those there are"
        );
    }
}

fn unknown(names: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &str| EXAMPLE.lines().any(|line| line.split('=').next() == Some(name));
    names.filter(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !known(name)).collect()
}

/// A duration such as `30s`, `5m` or `1h 30m`.
///
/// # Errors
/// A message for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 30s, 5m or 2h"))
}

/// A size in bytes, written `10MiB`, `2GB` or `4096`; for rates, a second is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let unit = unit.trim().trim_end_matches("/s");
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            _ => return Err(format!("`{unit}` is not a unit; write sizes as 512KiB, 10MiB or 2GB")),
        };
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is not a size; write it as 512KiB or 10MiB"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A secret setting: kept out of `Debug`, logs and help.
///
/// # Errors
/// Never; the shape is clap's.
pub fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("4096", 4096), ("10MiB", 10 << 20), ("10 MiB/s", 10 << 20), ("2GB", 2_000_000_000)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "1.5GiB", "-1", "10 apples", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!(ByteSize(10 << 20).to_string(), "10MiB");
        assert_eq!(ByteSize(1_000_000).to_string(), "1000000");
    }

    #[test]
    fn misspelt_settings_are_noticed() {
        let names = ["PEER_UPLOD_LIMIT", "PEER_UPLOAD_LIMIT", "DIRECTORY_LISTEN", "PCLIENT_HOST", "HOME"];
        assert_eq!(unknown(names.map(str::to_owned).into_iter()), ["PEER_UPLOD_LIMIT", "PCLIENT_HOST"]);
    }

    #[test]
    fn durations() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert!(duration("30").unwrap_err().contains("30s"));
    }
}
