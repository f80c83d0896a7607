//! One connection to an address of a hook; with TLS, certificates are checked against the machine's own authorities
//! (`SSL_CERT_FILE`, `SSL_CERT_DIR`, or where the system keeps them), read at the first need.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use hostler_model::limits;
use hostler_model::url::HttpUrl;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Bytes both ways, whatever is below them.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

static TLS: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

pub(super) async fn open(url: HttpUrl<'_>) -> Result<Box<dyn Stream>, String> {
    let failed = |error: std::io::Error| format!("connecting to {}: {error}", url.authority);
    let stream =
        TcpStream::connect(look_up(url.host, url.port).await.map_err(failed)?.as_slice()).await.map_err(failed)?;
    if !url.tls {
        return Ok(Box::new(stream));
    }
    let config = TLS.get_or_try_init(configure).await?.clone();
    let name = ServerName::try_from(url.host.to_owned()).map_err(|error| format!("{}: {error}", url.authority))?;
    Ok(Box::new(TlsConnector::from(config).connect(name, stream).await.map_err(failed)?))
}

/// The addresses of a host. Names are looked up on threads that others need as well, and whoever has given up cannot
/// call one back: its place is free again only when the system has answered.
async fn look_up(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    static LOOKUPS: Semaphore = Semaphore::const_new(limits::HOOK_LOOKUPS_MAX);
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let place = LOOKUPS.acquire().await.map_err(std::io::Error::other)?;
    let name = host.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let _place = place;
        (name.as_str(), port).to_socket_addrs().map(Iterator::collect)
    });
    found.await.map_err(std::io::Error::other)?
}

async fn configure() -> Result<Arc<ClientConfig>, String> {
    // Hundreds of files, perhaps.
    let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let found = found.map_err(|error| format!("reading this machine's certificate authorities: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!("this machine has no certificate authorities to check against{why}"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("setting up TLS: {error}"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
