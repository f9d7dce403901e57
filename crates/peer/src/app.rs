//! The whole peer, put together from its settings: which part gets what, and in which order they begin.
//!
//! The caller brings the listeners and the lifecycle, so that tests run whole peers on free ports in one process.
//! Everything that may fail for a reason of this machine (keys, store, folders) fails here, before a door opens; that
//! the directory is away is no such reason.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use daemon::{Clock, Lifecycle, serve::serve_within};
use tokio::net::TcpListener;
use url::Url;
use wire::{ErrorCode, rest::pclient::Event};

use crate::{
    Failure,
    allowed::AllowedEndpoints,
    audit::Audit,
    config::{PserverListen, Settings, is_loopback},
    data_dir::DataDir,
    directory_link::{
        DirectoryClient, Session,
        announce::{self, Held},
        session::SessionParts,
    },
    doctor::{self, Doctor},
    download::{self, Downloads, Parts},
    events::Events,
    identity::Identity,
    library::Library,
    link::{Links, PathChange, Reversals},
    mail::{self, Mail},
    offers::{self, Offers},
    pclient::rest::{self, About, Pclient, guard::Guard},
    pserver::{DialBacks, OnDialMe, Pserver, RelayDoor},
    relay::{Broker, Limits, Relay, RelayParts, broker::BrokerParts},
    service::{self, Service},
    shares::{self, Shares},
    store::Store,
    throttle::Throttle,
    tls::NetworkTls,
    trust,
};

/// The listeners of a peer.
#[derive(Debug)]
pub struct Doors {
    /// None where the peer takes no calls.
    pub pserver: Option<TcpListener>,
    pub pclient: TcpListener,
    /// Taken before a door opened: a second peer on the same folder never listens.
    pub data_dir: DataDir,
}

/// A peer that runs.
#[derive(Debug)]
pub struct App {
    pub pserver_listen: Option<SocketAddr>,
    pub pclient_listen: SocketAddr,
    /// The core, for tests and for whoever puts another door beside the ones here.
    pub core: Pclient,
}

impl Doors {
    /// Opens the listeners of the settings.
    ///
    /// # Errors
    /// Where an address cannot be listened on, or a file or folder that the settings name cannot be used, which is
    /// found out before a socket opens; the message names the setting.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        DirectoryClient::new(&settings.directories, settings.directory_ca.as_deref())?;
        let data_dir = DataDir::open(&settings.data_dir).await?;
        shares::check(&folders_of(settings))?;
        let pserver = match settings.pserver_listen {
            PserverListen::Off => None,
            PserverListen::At(address) => Some(listen(address, "PSERVER_LISTEN").await?),
        };
        let pclient = listen(settings.pclient_listen, "PCLIENT_LISTEN").await?;
        Ok(Self { pserver, pclient, data_dir })
    }
}

impl App {
    /// Starts every part.
    ///
    /// # Errors
    /// Where keys, store or folders cannot be used.
    pub async fn start(
        settings: &Settings,
        doors: Doors,
        clock: Clock,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Self> {
        for url in settings.clear_text_directories() {
            tracing::warn!(%url, "names and passwords go to this directory in clear: use https");
        }
        let pserver_listen = doors.pserver.as_ref().map(TcpListener::local_addr).transpose()?;
        let pclient_listen = doors.pclient.local_addr()?;
        let advertise = advertised(settings, pserver_listen).await?;

        // What this machine is and has.
        let identity = Arc::new(Identity::open(&settings.data_dir)?);
        let own_id = identity.peer_id();
        let allowed = AllowedEndpoints::only(settings.allowed_endpoints.clone());
        let tls = NetworkTls::new(identity.clone()).dialling_only(allowed);
        let store = Store::open_in(doors.data_dir).context("PEER_DATA_DIR: the store")?;
        let library = Library::open(store.clone(), clock.clone()).await?;
        let folders = folders_of(settings);
        let download_dir = absolute(&folders.download_dir)
            .with_context(|| format!("PEER_DOWNLOAD_DIR: {}", settings.download_dir.display()))?;
        let shares = Shares::start(&folders, library.clone(), clock.clone(), lifecycle)?;

        // The way to the directory.
        let directory = DirectoryClient::new(&settings.directories, settings.directory_ca.as_deref())?;
        let held = Held::default();
        let session = Session::start(
            SessionParts {
                client: directory.clone(),
                identity: identity.clone(),
                tls: tls.clone(),
                clock: clock.clone(),
                held: held.clone(),
                endpoints: advertise.clone(),
                data_dir: settings.data_dir.clone(),
                credentials: settings.username.clone().zip(settings.password.clone()),
            },
            lifecycle,
        );
        announce::start(directory.clone(), library.clone(), held.clone(), lifecycle);

        // The relay, where there is a broker.
        let broker_parts = BrokerParts {
            own_id,
            setting: settings.amqp.clone(),
            link: session.watch(),
            clock: clock.clone(),
        };
        let (broker, deliveries) = Broker::start(broker_parts, lifecycle);
        let limits = Limits::new(settings.relay_limit.0, settings.relay_max_file.0);
        let relay_parts = RelayParts {
            identity: identity.clone(),
            broker,
            deliveries,
            directory: directory.clone(),
            limits,
            trust: tls.trust().clone(),
        };
        let (relay, inbox) = Relay::start(relay_parts, lifecycle)?;
        let (mail, offers_answered) =
            Mail::start(relay.clone(), store.clone(), clock.clone(), inbox.mailbox, lifecycle);

        // Files in and out.
        let reversals = Reversals::new(advertise.clone());
        let links = Links::new(tls.clone(), Some(relay.clone()), reversals.clone(), lifecycle);
        let parts = Parts::default();
        let nudged = shares.clone();
        let audit = Audit::start(store.clone(), clock.clone(), settings.audit_keep, lifecycle);
        let service = Service::new(service::Parameters {
            library: library.clone(),
            parts: parts.clone(),
            max_uploads: settings.max_uploads as usize,
            upload_limit: Throttle::new(settings.upload_limit.0),
            on_changed: Arc::new(move |path| nudged.nudge(path)),
            audit: audit.clone(),
            trust: tls.trust().clone(),
        });
        let following = trust::follow::Parts {
            trust: tls.trust().clone(),
            client: directory.clone(),
            session: session.clone(),
            library: library.clone(),
            service: service.clone(),
            clock: clock.clone(),
            data_dir: settings.data_dir.clone(),
        };
        trust::follow::start(following, lifecycle);
        let downloads = Downloads::restore(
            download::Parameters {
                links: links.clone(),
                directory: directory.clone(),
                library: library.clone(),
                parts,
                store: store.clone(),
                download_limit: Throttle::new(settings.download_limit.0),
                relay_limits: relay.limits().clone(),
                download_dir: download_dir.clone(),
                data_dir: settings.data_dir.clone(),
                reshare: settings.reshare,
                own_id,
                mail: Some(mail.clone()),
            },
            lifecycle,
        )
        .await?;
        let offers = Offers::start(
            offers::Parameters {
                store: store.clone(),
                clock: clock.clone(),
                library: library.clone(),
                directory: directory.clone(),
                session: session.clone(),
                links: links.clone(),
                downloads: downloads.clone(),
                own_id,
                mail: Some(mail),
                accept_from: settings.accept_offers_from.clone(),
                trust: tls.trust().clone(),
            },
            Some(offers_answered),
            lifecycle,
        );
        service.set_offers(offers.clone());
        mail::start_holder(relay.clone(), service.clone(), store, clock.clone(), inbox.wants, lifecycle);

        let doctor = Doctor::new(doctor::Parameters {
            clock,
            directory: directory.clone(),
            session: session.clone(),
            tls: tls.clone(),
            links: links.clone(),
            relay: Some(relay.clone()),
            own_id,
            sealing_key: identity.sealing_public_hex(),
            listens: pserver_listen.is_some(),
            advertise: advertise.clone(),
            data_dir: settings.data_dir.clone(),
            download_dir,
            share_dirs: settings.share_dirs.clone(),
            shares: shares.clone(),
        });
        let core = Pclient {
            directory,
            session,
            held,
            library,
            shares,
            downloads,
            offers,
            audit,
            sent: service.sent().clone(),
            links,
            trust: tls.trust().clone(),
            doctor,
            events: Events::default(),
            about: Arc::new(About { peer_id: own_id, pserver_listen, advertise }),
            relay: relay.state(),
            stop: lifecycle.soft(),
        };
        tell_events(&core, lifecycle);
        follow_session(&core, service.clone(), lifecycle);

        // The doors, when everything behind them stands.
        let pserver = Pserver::new(service.clone(), tls, reversals, lifecycle)?;
        let dial_backs = DialBacks::new(pserver.clone(), core.directory.clone());
        let on_dial_me: OnDialMe = Arc::new(move |asker, asked| {
            let dial_backs = Some(dial_backs.clone()).filter(|_| pserver_listen.is_some());
            Box::pin(async move {
                let no_calls = || Failure::new(ErrorCode::Unprocessable, "this peer takes no calls");
                let dial_backs = dial_backs.ok_or_else(no_calls)?;
                dial_backs.dial(asker.peer_id, &asked.endpoints, &asked.token).await
            })
        });
        RelayDoor::open(relay, inbox.live, service, on_dial_me, lifecycle);
        if let Some(listener) = doors.pserver {
            lifecycle.spawn_vital("pserver", logged(pserver.listen(listener)));
        }
        let guard = Guard {
            loopback: pclient_listen.ip().is_loopback(),
            allowed_hosts: settings.pclient_allowed_hosts.clone(),
            token: settings.pclient_token.clone(),
        };
        let router = rest::router(core.clone(), guard);
        let serving = lifecycle.clone();
        lifecycle.spawn_vital("pclient", async move {
            logged(async { Ok(serve_within(doors.pclient, router, None, rest::limits(), &serving).await?) })
                .await;
        });
        Ok(Self { pserver_listen, pclient_listen, core })
    }
}

/// Events of the parts go to those who listen at pclient.
fn tell_events(core: &Pclient, lifecycle: &Lifecycle) {
    core.events.forward(lifecycle, core.downloads.subscribe(), |event| event);
    core.events.forward(lifecycle, core.library.subscribe(), Event::File);
    core.events.forward(lifecycle, core.offers.subscribe(), |offer| Event::Offer(Box::new(offer)));
    let peer_of = |PathChange { peer_id, path }| Event::Peer { peer_id, path };
    core.events.forward(lifecycle, core.links.subscribe(), peer_of);
}

/// The service learns whose peer this is, and listeners how it stands, whenever the session changes.
fn follow_session(core: &Pclient, service: Service, lifecycle: &Lifecycle) {
    let (core, soft) = (core.clone(), lifecycle.soft());
    let mut link = core.session.watch();
    lifecycle.spawn("follow the session", async move {
        loop {
            service.set_owner(link.borrow_and_update().username.clone());
            core.events.publish(Event::Status(Box::new(core.status())));
            tokio::select! {
                () = soft.cancelled() => return,
                changed = link.changed() => if changed.is_err() { return },
            }
        }
    });
}

async fn logged(serving: impl Future<Output = anyhow::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(error = format!("{error:#}"), "a door closed");
    }
}

fn folders_of(settings: &Settings) -> shares::Settings {
    shares::Settings {
        folders: settings.share_dirs.clone(),
        download_dir: settings.download_dir.clone(),
        data_dir: settings.data_dir.clone(),
    }
}

/// The folder, made where it is missing, by the one path that does not depend on where this process stands: what is
/// found there now must be found again under the same path after a restart.
fn absolute(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    folder.canonicalize()
}

async fn listen(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("{setting}: {address} cannot be listened on"))
}

/// What other peers are told to dial.
async fn advertised(settings: &Settings, listen: Option<SocketAddr>) -> anyhow::Result<Vec<String>> {
    let Some(listen) = listen else { return Ok(Vec::new()) };
    if !settings.pserver_advertise.is_empty() {
        let with_port = |endpoint: &String| match endpoint.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", listen.port()),
            None => endpoint.clone(),
        };
        return Ok(settings.pserver_advertise.iter().map(with_port).collect());
    }
    if !listen.ip().is_unspecified() {
        return Ok(vec![listen.to_string()]);
    }
    let directories = settings.directories.clone();
    let found = tokio::task::spawn_blocking(move || address_towards(&directories, listen.is_ipv6())).await?;
    let ip = found.unwrap_or_else(|| {
        tracing::warn!("no address of this machine leads to the directory: set PSERVER_ADVERTISE");
        loopback(listen.is_ipv6())
    });
    Ok(vec![SocketAddr::new(ip, listen.port()).to_string()])
}

/// The address of this machine from which the directory is reached; those who reach the directory likely reach it.
/// Asking the system for a route sends nothing.
fn address_towards(directories: &[Url], v6: bool) -> Option<IpAddr> {
    directories.iter().find_map(|url| {
        if is_loopback(url) {
            return Some(loopback(v6));
        }
        let there = (url.host_str()?.trim_matches(['[', ']']), url.port_or_known_default()?);
        there.to_socket_addrs().ok()?.find_map(|there| {
            let any: IpAddr =
                if there.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            // A listener on 0.0.0.0 takes no IPv6; one on :: takes both.
            if there.is_ipv6() && !v6 {
                return None;
            }
            let socket = UdpSocket::bind((any, 0)).ok()?;
            socket.connect(there).ok()?;
            Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
        })
    })
}

fn loopback(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wire::rest::pclient::Status;

    use super::*;
    use crate::directory_link::fake::FakeDirectory;

    const PATIENCE: Duration = Duration::from_secs(20);

    struct Peer {
        app: App,
        lifecycle: Lifecycle,
    }

    impl Peer {
        async fn start(dir: &Path, directory: &FakeDirectory, user: Option<&str>) -> Self {
            let mut settings = settings_in(dir);
            settings.directories = vec![directory.url()];
            settings.username = user.map(|name| name.parse().unwrap());
            settings.password = user.map(|_| "correct horse".to_owned().into());
            settings.pserver_listen = PserverListen::At("127.0.0.1:0".parse().unwrap());
            settings.pclient_listen = "127.0.0.1:0".parse().unwrap();
            let lifecycle = Lifecycle::new();
            let doors = Doors::open(&settings).await.unwrap();
            let app = App::start(&settings, doors, Clock::system(), &lifecycle).await.unwrap();
            Self { app, lifecycle }
        }

        async fn status(&self) -> Status {
            let url = format!("http://{}/v1/status", self.app.pclient_listen);
            let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
            client.get(url).send().await.unwrap().json().await.unwrap()
        }

        async fn until(&self, what: impl Fn(&Status) -> bool) -> Status {
            let looking = async {
                loop {
                    let status = self.status().await;
                    if what(&status) {
                        return status;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, looking).await.unwrap()
        }
    }

    fn settings_in(dir: &Path) -> Settings {
        let mut settings = Settings::defaults();
        settings.data_dir = dir.join("data");
        settings.share_dirs = vec![dir.join("share")];
        settings.download_dir = dir.join("downloads");
        settings
    }

    #[tokio::test]
    async fn a_whole_peer_begins_shares_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let directory = FakeDirectory::start().await;
        std::fs::create_dir_all(dir.path().join("share")).unwrap();
        std::fs::write(dir.path().join("share/one.txt"), "one").unwrap();
        let peer = Peer::start(dir.path(), &directory, Some("ana")).await;
        let all_told = |status: &Status| status.shared.announced && status.shared.files == 1;
        let status = peer.until(all_told).await;
        assert_eq!(status.username, Some("ana".parse().unwrap()));
        assert_eq!(status.pserver.advertise, [peer.app.pserver_listen.unwrap().to_string()]);
        assert_eq!(directory.known.lock().catalog.len(), 1);
        peer.lifecycle.finish().await;
        assert_eq!(peer.lifecycle.failed_task(), None);
        assert!(directory.known.lock().token.is_none(), "offline at once");

        // The next run knows what it shared, and tells the directory nothing that it knows.
        drop(peer);
        let announced = directory.calls("POST /v1/catalog");
        let peer = Peer::start(dir.path(), &directory, Some("ana")).await;
        peer.until(all_told).await;
        assert_eq!(directory.calls("POST /v1/catalog"), announced);
        peer.lifecycle.finish().await;
    }

    #[tokio::test]
    async fn a_peer_without_a_directory_is_there_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let directory = FakeDirectory::start().await;
        directory.go_down().await;
        let peer = Peer::start(dir.path(), &directory, Some("ana")).await;
        let status = peer.until(|status| status.directory.error.is_some()).await;
        assert!(!status.directory.connected);
        peer.lifecycle.finish().await;
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings_in(dir.path());
        settings.pserver_listen = PserverListen::Off;
        settings.pclient_listen = taken.local_addr().unwrap();
        let error = Doors::open(&settings).await.unwrap_err();
        assert!(error.to_string().starts_with("PCLIENT_LISTEN: "), "{error:#}");
        // Before a socket opens: this one is taken.
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        type Break = fn(&mut Settings, PathBuf);
        let broken: [(&str, Break); 3] = [
            ("PEER_DATA_DIR: ", |settings, file| settings.data_dir = file),
            ("PEER_SHARE_DIR: ", |settings, file| settings.share_dirs = vec![file]),
            ("PEER_DOWNLOAD_DIR: ", |settings, file| settings.download_dir = file),
        ];
        for (named, change) in broken {
            let mut settings = settings.clone();
            change(&mut settings, file.clone());
            let error = Doors::open(&settings).await.unwrap_err();
            assert!(error.to_string().starts_with(named), "{error:#}");
        }
        let mut inside = settings.clone();
        inside.share_dirs = vec![inside.data_dir.join("share")];
        let error = Doors::open(&inside).await.unwrap_err().to_string();
        assert!(error.starts_with("PEER_SHARE_DIR: ") && error.contains("PEER_DATA_DIR"), "{error}");
        settings.directory_ca = Some("/no/such/file".into());
        let error = Doors::open(&settings).await.unwrap_err();
        assert!(error.to_string().starts_with("PEER_DIRECTORY_CA: "), "{error:#}");
    }

    async fn advertises(listen: &str, advertise: &[&str], directory: &str) -> Vec<String> {
        let mut settings = Settings::defaults();
        settings.directories = vec![directory.parse().unwrap()];
        settings.pserver_advertise = advertise.iter().map(|text| (*text).to_owned()).collect();
        advertised(&settings, Some(listen.parse().unwrap())).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_advertised() {
        let here = "http://127.0.0.1:3000";
        assert_eq!(advertises("127.0.0.1:7", &[], here).await, ["127.0.0.1:7"]);
        assert_eq!(advertises("0.0.0.0:7", &[], here).await, ["127.0.0.1:7"]);
        assert_eq!(advertises("[::]:7", &[], "http://localhost:3000").await, ["[::1]:7"]);
        assert_eq!(advertises("0.0.0.0:7", &["localhost:0", "b:9"], here).await, ["localhost:7", "b:9"]);
        // An address for documentation: a route, or none, but never the wildcard.
        let far = advertises("0.0.0.0:7", &[], "http://192.0.2.1:3000").await;
        assert!(far.len() == 1 && !far[0].starts_with("0.0.0.0"), "{far:?}");
        let mut settings = Settings::defaults();
        settings.pserver_advertise = vec!["a:1".to_owned()];
        assert!(advertised(&settings, None).await.unwrap().is_empty(), "nothing listens");
    }
}
