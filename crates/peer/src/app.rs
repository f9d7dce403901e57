//! The whole peer, put together from its settings: which part gets what, and in which order they begin.
//!
//! The caller brings the listeners and the lifecycle, so that tests run whole peers on free ports in one process.
//! Everything that may fail for a reason of this machine (keys, store, folders) fails here, before a door opens; that
//! the directory is away is no such reason.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    sync::Arc,
};

use anyhow::Context;
use daemon::{Clock, Lifecycle};
use tokio::{net::TcpListener, sync::watch};
use url::Url;
use wire::rest::pclient::Event;

use crate::{
    config::{PserverListen, Settings, is_loopback},
    directory_link::{
        DirectoryClient, Session,
        announce::{self, Held},
        session::SessionParts,
    },
    download::{self, Downloads, Parts},
    events::Events,
    identity::Identity,
    library::Library,
    link::Links,
    pclient::rest::{self, About, Pclient, guard::Guard},
    pserver,
    service::{self, Service},
    shares::{self, Shares},
    store::Store,
    throttle::Throttle,
    tls::NetworkTls,
};

/// The listeners of a peer.
#[derive(Debug)]
pub struct Doors {
    /// None where the peer takes no calls.
    pub pserver: Option<TcpListener>,
    pub pclient: TcpListener,
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
    /// Where an address cannot be listened on; the message names the setting.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let pserver = match settings.pserver_listen {
            PserverListen::Off => None,
            PserverListen::At(address) => Some(listen(address, "PSERVER_LISTEN").await?),
        };
        let pclient = listen(settings.pclient_listen, "PCLIENT_LISTEN").await?;
        Ok(Self { pserver, pclient })
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
        let tls = NetworkTls::new(identity.clone());
        let store = Store::open(&settings.data_dir.join("peer.db")).context("PEER_DATA_DIR: the store")?;
        let library = Library::open(store.clone(), clock.clone()).await?;
        let folders = shares::Settings {
            folders: settings.share_dirs.clone(),
            download_dir: settings.download_dir.clone(),
        };
        let shares = Shares::start(&folders, library.clone(), clock.clone(), lifecycle)?;

        // The way to the directory.
        let directory = DirectoryClient::new(&settings.directories, settings.directory_ca.as_deref())?;
        let held = Held::default();
        let session = Session::start(
            SessionParts {
                client: directory.clone(),
                identity,
                tls: tls.clone(),
                clock,
                held: held.clone(),
                endpoints: advertise.clone(),
                data_dir: settings.data_dir.clone(),
                credentials: settings.username.clone().zip(settings.password.clone()),
            },
            lifecycle,
        );
        announce::start(directory.clone(), library.clone(), held.clone(), lifecycle);

        // Files in and out.
        let links = Links::new(tls.clone(), lifecycle);
        let parts = Parts::default();
        let nudged = shares.clone();
        let service = Service::new(service::Parameters {
            library: library.clone(),
            parts: parts.clone(),
            max_uploads: settings.max_uploads as usize,
            upload_limit: Throttle::new(settings.upload_limit.0),
            on_changed: Arc::new(move |path| nudged.nudge(path)),
        });
        let downloads = Downloads::restore(
            download::Parameters {
                links: links.clone(),
                directory: directory.clone(),
                library: library.clone(),
                parts,
                store,
                download_limit: Throttle::new(settings.download_limit.0),
                download_dir: settings.download_dir.clone(),
                reshare: settings.reshare,
                own_id,
            },
            lifecycle,
        )
        .await?;

        // No relay yet: nobody moves it.
        let (_, relay) = watch::channel(false);
        let core = Pclient {
            directory,
            session,
            held,
            library,
            shares,
            downloads,
            sent: service.sent().clone(),
            links,
            events: Events::default(),
            about: Arc::new(About { peer_id: own_id, pserver_listen, advertise }),
            relay,
            stop: lifecycle.soft(),
        };
        tell_events(&core, lifecycle);
        follow_session(&core, service.clone(), lifecycle);

        // The doors, when everything behind them stands.
        if let Some(listener) = doors.pserver {
            let serving = pserver::serve(listener, service, tls, lifecycle.clone());
            lifecycle.spawn_vital("pserver", logged(serving));
        }
        let guard = Guard {
            loopback: pclient_listen.ip().is_loopback(),
            allowed_hosts: settings.pclient_allowed_hosts.clone(),
            token: settings.pclient_token.clone(),
        };
        let router = rest::router(core.clone(), guard);
        let serving = lifecycle.clone();
        lifecycle.spawn_vital("pclient", async move {
            logged(async { Ok(daemon::serve::serve(doors.pclient, router, None, &serving).await?) }).await;
        });
        Ok(Self { pserver_listen, pclient_listen, core })
    }
}

/// Events of the parts go to those who listen at pclient.
fn tell_events(core: &Pclient, lifecycle: &Lifecycle) {
    core.events.forward(lifecycle, core.downloads.subscribe(), |event| event);
    core.events.forward(lifecycle, core.library.subscribe(), Event::File);
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
    use super::*;

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
        assert_eq!(
            advertises("0.0.0.0:7", &["a.example.org:0", "b:9"], here).await,
            ["a.example.org:7", "b:9"]
        );
        // An address for documentation: a route, or none, but never the wildcard.
        let far = advertises("0.0.0.0:7", &[], "http://192.0.2.1:3000").await;
        assert!(far.len() == 1 && !far[0].starts_with("0.0.0.0"), "{far:?}");
        let mut settings = Settings::defaults();
        settings.pserver_advertise = vec!["a:1".to_owned()];
        assert!(advertised(&settings, None).await.unwrap().is_empty(), "nothing listens");
    }
}
