//! One question to a run.

use std::time::Duration;

use hostler_model::ids::{ExecId, RunId};
use hostler_model::limits;
use hostler_model::stack::probe::Probe;
use hostler_model::units::Signal;
use hostler_model::workload::Workload;
use hostler_provision::accept::ExecAsked;
use hostler_provision::{Caller, Users, accept_exec};
use hostler_wire::SignalScope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Context, Heard};
use crate::node::random;

/// Asks; the caller has a deadline on it.
pub(super) async fn once(context: &Context, run: RunId, workload: &Workload, probe: &Probe, limit: Duration) -> Heard {
    match probe {
        Probe::Tcp { host, port } => connect(host, *port).await.map(drop),
        Probe::Http { host, port, path } => http(host, *port, path).await,
        Probe::Exec { command } => exec(context, run, workload, command, limit).await,
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host}:{port}: {error}"))
}

/// Only the status counts, so only the head's first line is read.
async fn http(host: &str, port: u16, path: &str) -> Heard {
    let told = |error: std::io::Error| format!("http://{host}:{port}{path}: {error}");
    let mut stream = connect(host, port).await?;
    let name = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: hostler\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut head = Vec::new();
    while !head.contains(&b'\n') && head.len() < limits::PROBE_ANSWER_MAX {
        if stream.read_buf(&mut head).await.map_err(told)? == 0 {
            break;
        }
    }
    match status(&head) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("http://{host}:{port}{path}: status {status}")),
        None => Err(format!("http://{host}:{port}{path}: the answer is not HTTP")),
    }
}

/// `HTTP/1.1 200 OK`
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// As the workload's own user, inside of it, with its environment. The supervisor knows nothing of it: a probe is no
/// exec that anybody asked for, and its ends are in no journal.
async fn exec(
    context: &Context,
    run: RunId,
    workload: &Workload,
    command: &[hostler_model::ByteString],
    limit: Duration,
) -> Heard {
    let owner = Caller { uid: context.tools.node_uid, gid: 0, node_uid: context.tools.node_uid };
    let asked = ExecAsked { command: command.to_vec(), ..ExecAsked::default() };
    let launch = accept_exec(&owner, workload, asked, &Users::default()).map_err(|problem| problem.detail)?;
    let exec = ExecId::from_bytes(random());
    let heard = context.prober.listen(exec);
    context.tools.runtime.exec(run, exec, launch);
    // A little before the caller's own deadline, so that what takes too long is also ended.
    let limit = limit.saturating_sub(limit / 20);
    match tokio::time::timeout(limit, heard).await {
        Ok(Ok(heard)) => heard,
        Ok(Err(_)) => Err("nothing was heard of it".to_owned()),
        Err(_) => {
            context.tools.runtime.signal(run, Signal::KILL, SignalScope::Exec(exec));
            Err(format!("it was not over within {} ms", limit.as_millis()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_counts() {
        let cases: [(&[u8], Option<u16>); 6] = [
            (b"HTTP/1.1 200 OK\r\nX: y\r\n", Some(200)),
            (b"HTTP/1.0 503 x\n", Some(503)),
            (b"HTTP/1.1 204\r\n", Some(204)),
            (b"SSH-2.0-x\r\n", None),
            (b"", None),
            (b"HTTP/1.1 abc\r\n", None),
        ];
        for (head, expected) in cases {
            assert_eq!(status(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn a_server_that_answers_is_ready_and_one_that_does_not_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            let server = tokio::spawn(async move {
                for answer in ["HTTP/1.1 302 x\r\n\r\n", "HTTP/1.1 500 x\r\n\r\n", ""] {
                    let (mut stream, _) = listener.accept().await.expect("a connection");
                    let _ = stream.read(&mut [0; 1024]).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
            assert_eq!(http("127.0.0.1", port, "/").await, Ok(()));
            assert!(http("127.0.0.1", port, "/x").await.expect_err("500").contains("status 500"));
            assert!(http("127.0.0.1", port, "/x").await.is_err());
            server.await.expect("it ends");
            assert!(connect("127.0.0.1", port).await.is_err());
        });
    }
}
