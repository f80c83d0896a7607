//! One connection to an address of a hook.

use hostler_model::url::HttpUrl;
use tokio::net::TcpStream;

pub(super) async fn open(url: HttpUrl<'_>) -> Result<TcpStream, String> {
    TcpStream::connect((url.host, url.port)).await.map_err(|error| format!("connecting to {}: {error}", url.authority))
}
