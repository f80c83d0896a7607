//! Keep-alive HTTP on the unix socket, and nothing else.

use std::path::Path;

use anyhow::{Context, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// One connection.
pub struct Client(SendRequest<Full<Bytes>>);

impl Client {
    /// Connects.
    pub async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = tokio::net::UnixStream::connect(socket).await.context("connecting to the node")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Asks; anything but success is an error.
    pub async fn ask(&mut self, method: Method, path: &str, body: &'static str) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(body.as_bytes())))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }

    /// The same, parsed.
    pub async fn json(&mut self, method: Method, path: &str, body: &'static str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.ask(method, path, body).await?)?)
    }
}
