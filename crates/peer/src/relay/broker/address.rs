//! Which broker to use, and as whom: from the setting and from what the directory says. Pure.
//!
//! An address is `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://` for TLS; several of one cluster are separated by
//! commas, each with its own user or none. What has a meaning in a URL (a comma too) is written as `%2C`. An empty path
//! and `/` are the virtual host `/`. What RabbitMQ's own tools put behind a `?` is refused: nothing of it is taken here.

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};
use wire::rest::directory;

use crate::{
    config::AmqpSetting,
    directory_link::{LinkState, LinkStatus},
};

/// AMQP's names have no more bytes.
const LONGEST_NAME: usize = 255;
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;
/// RabbitMQ's user for those who say nothing; it lets this one in from its own machine only.
const GUEST: &str = "guest";

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Off(&'static str),
    /// A broker is named in a way that cannot be used.
    Unusable(String),
    /// These, tried in turn; at least one.
    At(Vec<Place>),
}

/// A broker, and as whom to log in there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) server: Server,
    pub(super) logins: Logins,
}

/// One for each connection. They differ where the directory is the broker's authority, which gives the right to publish
/// and the right to declare to nobody together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logins {
    pub(super) publishing: Login,
    pub(super) taking: Login,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) tls: bool,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
}

#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: SecretString,
}

/// One address of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    server: Server,
    /// None where the address names no user.
    login: Option<Login>,
}

/// Whether a list of addresses can be used.
///
/// # Errors
/// What is wrong, without a word of the text, which may hold a password.
pub fn check_addresses(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

impl Target {
    pub(super) fn of(setting: &AmqpSetting, link: &LinkStatus) -> Self {
        match setting {
            AmqpSetting::Never => Self::Off("switched off by PEER_AMQP_URL"),
            AmqpSetting::At(text) => match parse(text.expose_secret()) {
                Ok(addresses) => Self::At(as_set(addresses, link.broker.as_ref())),
                Err(why) => Self::Unusable(format!("PEER_AMQP_URL: {why}")),
            },
            AmqpSetting::FromDirectory => Self::of_directory(link),
        }
    }

    fn of_directory(link: &LinkStatus) -> Self {
        if matches!(link.state, LinkState::LoggedOut { .. }) {
            return Self::Off("logged out");
        }
        match &link.broker {
            Some(broker) => match parse(&broker.url).and_then(|addresses| as_told(addresses, broker)) {
                Ok(places) => Self::At(places),
                Err(why) => Self::Unusable(format!("the directory's broker: {why}")),
            },
            None if link.state == LinkState::Connected => Self::Off("the directory names no broker"),
            None => Self::Off("the directory, which would name the broker, is away"),
        }
    }

    /// Whether this differs from `other` in passwords alone.
    pub(super) fn differs_in_passwords_alone(&self, other: &Self) -> bool {
        let (Self::At(ours), Self::At(theirs)) = (self, other) else { return false };
        let same = |(one, two): (&Place, &Place)| one.is_but_for_password(two);
        self != other && ours.len() == theirs.len() && ours.iter().zip(theirs).all(same)
    }
}

impl Place {
    /// The same server and users.
    pub(super) fn is_but_for_password(&self, other: &Self) -> bool {
        let users = |place: &Self| {
            [&place.logins.publishing, &place.logins.taking].map(|login| login.username.clone())
        };
        self.server == other.server && users(self) == users(other)
    }
}

impl Logins {
    fn both(login: Login) -> Self {
        Self { publishing: login.clone(), taking: login }
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        self.username == other.username && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Eq for Login {}

/// The user of an address wins; where it names none, the directory's does, if it is for the same server.
fn as_set(addresses: Vec<Address>, broker: Option<&directory::Broker>) -> Vec<Place> {
    let told = broker.and_then(|broker| as_told(parse(&broker.url).ok()?, broker).ok()).unwrap_or_default();
    let place = |Address { server, login }: Address| {
        let of_directory = || {
            let same = |place: &&Place| place.server.host == server.host && place.server.port == server.port;
            told.iter().find(same).map(|place| place.logins.clone())
        };
        let logins = login.map(Logins::both).or_else(of_directory);
        Place { server, logins: logins.unwrap_or_else(|| Logins::both(guest())) }
    };
    addresses.into_iter().map(place).collect()
}

/// What the directory says beside the addresses wins over what stands in them.
fn as_told(addresses: Vec<Address>, broker: &directory::Broker) -> Result<Vec<Place>, String> {
    let place = |Address { server, login }: Address| {
        let mut login = login.unwrap_or_else(guest);
        if let Some(username) = &broker.username {
            login.username.clone_from(username);
        }
        if let Some(password) = &broker.password {
            login.password = password.clone().into();
        }
        check_username(&login.username)?;
        let mut logins = Logins::both(login);
        if let Some(directory::BrokerLogin { username, password }) = broker.taking.clone() {
            check_username(&username)?;
            logins.taking = Login { username, password: password.into() };
        }
        Ok(Place { server, logins })
    };
    addresses.into_iter().map(place).collect()
}

fn guest() -> Login {
    Login { username: GUEST.to_owned(), password: GUEST.to_owned().into() }
}

fn parse(text: &str) -> Result<Vec<Address>, String> {
    text.split(',').map(|one| parse_one(one.trim())).collect()
}

fn parse_one(text: &str) -> Result<Address, String> {
    const SHAPE: &str = "write it as amqp://HOST:PORT or amqps://HOST:PORT";
    let url = Url::parse(text).map_err(|_| SHAPE)?;
    let tls = match url.scheme() {
        "amqp" => false,
        "amqps" => true,
        _ => return Err(SHAPE.to_owned()),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return Err("takes nothing after `?` or `#`".to_owned());
    }
    let host = match Host::parse(url.host_str().unwrap_or_default()).map_err(|_| SHAPE)? {
        Host::Ipv6(address) => address.to_string(),
        other => other.to_string(),
    };
    let port = url.port().unwrap_or(if tls { TLS_PORT } else { PORT });
    let vhost = match url.path().strip_prefix('/').unwrap_or_default() {
        "" => "/".to_owned(),
        path if path.contains('/') => return Err("a `/` in a virtual host is written as %2F".to_owned()),
        path => decoded(path)?,
    };
    if vhost.len() > LONGEST_NAME {
        return Err(format!("a virtual host's name has at most {LONGEST_NAME} bytes"));
    }
    let login = match (url.username(), url.password()) {
        ("", None) => None,
        (username, password) => {
            let username = decoded(username)?;
            check_username(&username)?;
            Some(Login { username, password: decoded(password.unwrap_or_default())?.into() })
        }
    };
    Ok(Address { server: Server { tls, host, port, vhost }, login })
}

fn check_username(username: &str) -> Result<(), String> {
    if username.len() > LONGEST_NAME {
        return Err(format!("a user's name has at most {LONGEST_NAME} bytes"));
    }
    Ok(())
}

fn decoded(text: &str) -> Result<String, String> {
    let bytes = percent_encoding::percent_decode_str(text);
    bytes.decode_utf8().map(Into::into).map_err(|_| "has %XX that are not UTF-8".to_owned())
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(state: LinkState, broker: Option<directory::Broker>) -> LinkStatus {
        LinkStatus { username: None, state, broker }
    }

    fn broker(url: &str, username: Option<&str>, password: Option<&str>) -> directory::Broker {
        directory::Broker {
            url: url.to_owned(),
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            expires_in: None,
            taking: None,
        }
    }

    fn at(text: &str) -> AmqpSetting {
        AmqpSetting::At(text.to_owned().into())
    }

    /// Each place as `tls user:password server vhost`.
    fn shown(target: &Target) -> Vec<String> {
        let Target::At(places) = target else { panic!("{target:?}") };
        let shown = |login: &Login| format!("{}:{}", login.username, login.password.expose_secret());
        let show = |Place { server, logins }: &Place| {
            let secure = if server.tls { "tls " } else { "" };
            let mut users = shown(&logins.publishing);
            if logins.taking != logins.publishing {
                users = format!("{users} {}", shown(&logins.taking));
            }
            format!("{secure}{users} {server} {}", server.vhost)
        };
        places.iter().map(show).collect()
    }

    fn set(text: &str) -> Vec<String> {
        shown(&Target::of(&at(text), &link(LinkState::LoggedOut { why: None }, None)))
    }

    #[test]
    fn addresses() {
        assert_eq!(set("amqp://a"), ["guest:guest a:5672 /"]);
        assert_eq!(set("amqp://a/"), ["guest:guest a:5672 /"]);
        assert_eq!(set("amqp://a/%2f"), ["guest:guest a:5672 /"]);
        assert_eq!(set("amqps://a"), ["tls guest:guest a:5671 /"]);
        assert_eq!(set("amqps://ana:p%40ss%2Cw@a:7/blue"), ["tls ana:p@ss,w a:7 blue"]);
        assert_eq!(set("amqp://ana@a"), ["ana: a:5672 /"]);
        assert_eq!(
            set("amqp://[::1]:7, amqp://ana:x@127.0.0.1"),
            ["guest:guest [::1]:7 /", "ana:x 127.0.0.1:5672 /"]
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        let long = "x".repeat(256);
        for text in [
            "",
            "amqp://",
            "http://secret@a",
            "a:5672",
            "amqp://secret@a,",
            "amqp://secret:secret@a:port",
            "amqp://secret:secret@a?heartbeat=10",
            "amqp://secret:secret@a/b/c",
            "amqp://secret:secret@a/%ff",
            &format!("amqp://secret:secret@a/{long}"),
            &format!("amqp://{long}:secret@a"),
        ] {
            let why = check_addresses(text).unwrap_err();
            assert!(!why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn the_setting_decides_and_then_the_directory() {
        let connected = |broker| link(LinkState::Connected, broker);
        let out = link(LinkState::LoggedOut { why: None }, None);
        let away = |broker| link(LinkState::Disconnected { why: "no answer".to_owned() }, broker);
        let off = |setting: &AmqpSetting, link: &LinkStatus| match Target::of(setting, link) {
            Target::Off(why) => why,
            other => panic!("{other:?}"),
        };
        let theirs = AmqpSetting::FromDirectory;
        assert_eq!(
            off(&AmqpSetting::Never, &connected(Some(broker("amqp://a", None, None)))),
            "switched off by PEER_AMQP_URL"
        );
        assert_eq!(off(&theirs, &out), "logged out");
        assert_eq!(off(&theirs, &connected(None)), "the directory names no broker");
        assert_eq!(off(&theirs, &away(None)), "the directory, which would name the broker, is away");
        // What was told once holds while the directory is away.
        let told = broker("amqp://x:y@a,amqp://b", Some("ana"), Some("token"));
        assert_eq!(
            shown(&Target::of(&theirs, &away(Some(told)))),
            ["ana:token a:5672 /", "ana:token b:5672 /"]
        );
        let bad = Target::of(&theirs, &connected(Some(broker("amqp:a", None, None))));
        assert!(matches!(bad, Target::Unusable(why) if why.starts_with("the directory's broker: ")));
        let long = "x".repeat(256);
        let bad = Target::of(&theirs, &connected(Some(broker("amqp://a", Some(&long), None))));
        assert!(matches!(bad, Target::Unusable(_)));
    }

    #[test]
    fn the_directorys_user_fills_in_for_the_same_server_only() {
        let told =
            link(LinkState::Connected, Some(broker("amqp://a:7,amqp://b", Some("ana"), Some("token"))));
        let places = Target::of(&at("amqp://a:7,amqp://own:x@b,amqp://a:8"), &told);
        assert_eq!(shown(&places), ["ana:token a:7 /", "own:x b:5672 /", "guest:guest a:8 /"]);
    }

    #[test]
    fn a_new_password_is_told_from_another_broker() {
        let told = |url: &str, username: &str, password: &str| {
            let broker = broker(url, Some(username), Some(password));
            Target::of(&AmqpSetting::FromDirectory, &link(LinkState::Connected, Some(broker)))
        };
        let now = told("amqp://a,amqp://b", "ana", "one");
        assert!(told("amqp://a,amqp://b", "ana", "two").differs_in_passwords_alone(&now));
        assert!(!told("amqp://a,amqp://b", "ana", "one").differs_in_passwords_alone(&now), "the same");
        assert!(!told("amqp://a,amqp://b", "beto", "two").differs_in_passwords_alone(&now));
        assert!(!told("amqp://a", "ana", "two").differs_in_passwords_alone(&now));
        assert!(!Target::Off("x").differs_in_passwords_alone(&now));
    }

    #[test]
    fn who_takes_may_be_another_user_than_who_publishes() {
        let told = |username: &str, password: &str| {
            let taking =
                directory::BrokerLogin { username: username.to_owned(), password: password.to_owned() };
            let broker =
                directory::Broker { taking: Some(taking), ..broker("amqp://a:7", Some("ana"), Some("one")) };
            link(LinkState::Connected, Some(broker))
        };
        let (theirs, now) = (AmqpSetting::FromDirectory, told("ana.takes", "two"));
        let present = Target::of(&theirs, &now);
        assert_eq!(shown(&present), ["ana:one ana.takes:two a:7 /"]);
        assert_eq!(
            shown(&Target::of(&at("amqp://a:7,amqp://own:x@a:7"), &now)),
            ["ana:one ana.takes:two a:7 /", "own:x a:7 /"]
        );
        let next = |username, password| Target::of(&theirs, &told(username, password));
        assert!(next("ana.takes", "three").differs_in_passwords_alone(&present));
        assert!(!next("ana.other", "two").differs_in_passwords_alone(&present));
        assert!(!format!("{:?}", now.broker).contains("two"), "nothing shows a password");
        let long = "x".repeat(256);
        assert!(matches!(next(&long, "two"), Target::Unusable(_)));
    }

    #[test]
    fn nothing_shows_a_password() {
        let target = Target::of(&at("amqp://ana:secret@a"), &link(LinkState::LoggedOut { why: None }, None));
        assert!(!format!("{target:?}").contains("secret"));
    }
}
