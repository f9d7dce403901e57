//! [`ask`]: one process asks another of the same program, on this machine, whether it is ready. For health checks in
//! places that have no curl, such as a container with nothing else in it.
//!
//! Over HTTPS the one that is asked must show the certificate that its settings name ([`OnlyThis`]). Names and authorities
//! say nothing here: this asks an address of this machine, and the certificate names a host.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// For all of it: a program that needs longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `/readyz` of what listens at `listen`: over HTTPS where there is a certificate, which must be the one shown.
///
/// # Errors
/// Nobody answers in time, with that certificate, or the answer is another one than 200; the message says which.
pub async fn ask(certificate: Option<CertificateDer<'static>>, listen: SocketAddr) -> anyhow::Result<()> {
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/readyz", dialled(listen));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = OnlyThis { certificate, provider: provider.clone() };
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    match answer.status() {
        status if status == reqwest::StatusCode::OK => Ok(()),
        status => bail!("{url} answers {status}"),
    }
}

/// Takes one certificate and no other; whoever shows it must have its key.
#[derive(Debug)]
struct OnlyThis {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyThis {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificate.as_ref() == Some(shown) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("it shows another certificate than the one in the settings".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The address to dial for one that is listened on.
fn dialled(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_dialled_here() {
        for (listen, dial) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.0.2.7:443", "192.0.2.7:443"),
        ] {
            assert_eq!(dialled(listen.parse().unwrap()), dial.parse().unwrap());
        }
    }
}
