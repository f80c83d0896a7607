//! A client of Firecracker's API: HTTP over its unix socket, one connection for a sequence of calls.
//!
//! Whoever is at the other end may have been taken over by its guest: heads and bodies are bounded, every call has a
//! deadline, and no task is left behind by any of them: the connection is carried on by whoever waits for an answer.

use std::error::Error as _;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use hostler_model::limits;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::config::{Call, Method, Takes};
use crate::microvm::{Deadlines, VmmError};

type Carrier = Pin<Box<Connection<TokioIo<UnixStream>, Full<Bytes>>>>;

/// A connection.
pub(super) struct Api {
    sender: SendRequest<Full<Bytes>>,
    /// Until it has ended.
    carrier: Option<Carrier>,
    deadlines: Deadlines,
}

/// What Firecracker says when it refuses.
#[derive(Debug, Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    /// HTTP over a connection.
    pub(super) async fn over(stream: UnixStream, deadlines: Deadlines) -> Result<Self, VmmError> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits::FIRECRACKER_ANSWER_MAX);
        let (sender, carrier) =
            builder.handshake(TokioIo::new(stream)).await.map_err(|error| failed("connect to Firecracker", &error))?;
        Ok(Self { sender, carrier: Some(Box::pin(carrier)), deadlines })
    }

    /// One call, from request to answer. After an error the connection is of no use.
    pub(super) async fn call(&mut self, call: &Call) -> Result<(), VmmError> {
        let longest = match call.takes {
            Takes::Moment => self.deadlines.call,
            Takes::Start => self.deadlines.start,
            Takes::Snapshot => self.deadlines.snapshot,
        };
        let doing = &call.doing;
        match tokio::time::timeout(longest, self.exchange(call)).await {
            Ok(answered) => {
                let (status, body) = answered?;
                judge(doing, status, &body)
            }
            Err(_) => Err(VmmError::Deadline { doing: doing.clone(), longest }),
        }
    }

    async fn exchange(&mut self, call: &Call) -> Result<(StatusCode, Bytes), VmmError> {
        let doing = call.doing.as_str();
        let method = match call.method {
            Method::Put => "PUT",
            Method::Patch => "PATCH",
        };
        let request = Request::builder()
            .method(method)
            .uri(&call.path)
            .header(HOST, "localhost")
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(call.body.to_string()))
            .map_err(|error| VmmError::garbage(doing, error))?;
        let sender = &mut self.sender;
        let talk = async move {
            sender.ready().await.map_err(|error| failed(doing, &error))?;
            let answer = sender.send_request(request).await.map_err(|error| failed(doing, &error))?;
            collect(doing, answer).await
        };
        let mut talk = std::pin::pin!(talk);
        while let Some(carrier) = &mut self.carrier {
            tokio::select! {
                // The answer first: with it in hand it does not matter what became of the connection.
                biased;
                answered = &mut talk => return answered,
                _ = carrier => self.carrier = None,
            }
        }
        talk.await
    }
}

async fn collect(doing: &str, answer: Response<hyper::body::Incoming>) -> Result<(StatusCode, Bytes), VmmError> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), limits::FIRECRACKER_ANSWER_MAX).collect().await;
    match body {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(error) => failed(doing, &error),
            Err(_) => {
                VmmError::garbage(doing, format_args!("a body of more than {} bytes", limits::FIRECRACKER_ANSWER_MAX))
            }
        }),
    }
}

/// What an answer comes to.
fn judge(doing: &str, status: StatusCode, body: &[u8]) -> Result<(), VmmError> {
    if status.is_success() {
        return Ok(());
    }
    if !status.is_client_error() && !status.is_server_error() {
        return Err(VmmError::garbage(doing, format_args!("status {status}")));
    }
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => Err(VmmError::refused(doing, &fault.fault_message)),
        Err(_) => Err(VmmError::refused(doing, &format!("{status}, and no reason"))),
    }
}

/// One that hung up is most likely dead; what is no HTTP is nonsense.
fn failed(doing: &str, error: &hyper::Error) -> VmmError {
    let broken = |kind| matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let hung_up = error.is_closed()
        || error.is_canceled()
        || error.is_incomplete_message()
        || source.is_some_and(|source| broken(source.kind()) || source.kind() == io::ErrorKind::UnexpectedEof);
    match (hung_up, source) {
        (true, _) => VmmError::Closed { doing: doing.to_owned() },
        (false, Some(source)) if !error.is_parse() => {
            VmmError::io(doing, io::Error::new(source.kind(), source.to_string()))
        }
        _ => VmmError::garbage(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let judged = |status, body: &str| judge("try", StatusCode::from_u16(status).unwrap(), body.as_bytes());
        for good in [200, 204] {
            judged(good, "").unwrap();
        }
        let long = format!("{{\"fault_message\": \"{}\"}}", "x".repeat(10_000));
        let cases = [
            (400, "{\"fault_message\": \"no kernel\"}", "cannot try: the VMM says: no kernel"),
            (500, "oops", "cannot try: the VMM says: 500 Internal Server Error, and no reason"),
            (400, "{\"fault_message\": 1}", "cannot try: the VMM says: 400 Bad Request, and no reason"),
            (302, "", "cannot try: the VMM's answer makes no sense: status 302 Found"),
        ];
        for (status, body, wanted) in cases {
            assert_eq!(judged(status, body).unwrap_err().to_string(), wanted);
        }
        assert!(judged(400, &long).unwrap_err().to_string().len() < 600);
    }
}
