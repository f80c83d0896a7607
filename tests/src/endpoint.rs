//! A small HTTP server on loopback that keeps what it was sent, and answers as it was told.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{PATIENCE, until};

/// What a request gets.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// This status.
    Status(u16),
    /// Nothing; the connection stays open until the test is over.
    Silence,
    /// A closed connection.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Method and target.
    pub line: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body, which is JSON.
    pub body: serde_json::Value,
}

impl Posted {
    /// The event that it tells of.
    #[must_use]
    pub fn key(&self) -> &str {
        self.headers.get("idempotency-key").map_or("", String::as_str)
    }
}

/// What is kept open for a silent answer.
trait Kept: Send {}
impl<T: Send> Kept for T {}

#[derive(Default)]
struct Shared {
    posted: Vec<Posted>,
    answers: VecDeque<Answer>,
    silent: Vec<Box<dyn Kept>>,
}

/// See the module. Its thread ends with the test's process.
pub struct Endpoint {
    scheme: &'static str,
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl Endpoint {
    /// One that gives these answers, one after the other, and then 200 for ever.
    #[must_use]
    pub fn new(answers: &[Answer]) -> Self {
        Self::serving("http", answers, serve)
    }

    /// The same with TLS, under a certificate for `localhost` and 127.0.0.1 by [`authority`].
    #[must_use]
    pub fn with_tls(answers: &[Answer]) -> Self {
        let certificate = CertificateDer::from_pem_file(fixture("certificate.pem")).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(fixture("key.pem")).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        let config = Arc::new(config);
        Self::serving("https", answers, move |stream, shared| {
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            serve(StreamOwned::new(connection, stream), shared);
        })
    }

    fn serving(
        scheme: &'static str,
        answers: &[Answer],
        serve: impl Fn(TcpStream, &Mutex<Shared>) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Mutex::new(Shared { answers: answers.iter().copied().collect(), ..Shared::default() }));
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, serve) = (serving.clone(), serve.clone());
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { scheme, port, shared }
    }

    /// Its address, with this path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// What has come so far.
    #[must_use]
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.lock().expect("a lock").posted.clone()
    }

    /// Waits until so many requests have come.
    pub fn wait(&self, count: usize) -> Vec<Posted> {
        until(&format!("{count} requests"), PATIENCE, || Some(self.posted()).filter(|posted| posted.len() >= count))
    }
}

/// The file of the authority that signed the certificate of [`Endpoint::with_tls`]; made for these tests alone.
#[must_use]
pub fn authority() -> PathBuf {
    fixture("authority.pem")
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

fn serve(mut stream: impl Read + Write + Send + 'static, shared: &Mutex<Shared>) {
    let Some(posted) = read(&mut stream) else { return };
    let mut shared = shared.lock().expect("a lock");
    shared.posted.push(posted);
    let answer = shared.answers.pop_front().unwrap_or(Answer::Status(200));
    match answer {
        Answer::Status(status) => {
            let location = if status == 307 { "location: /elsewhere\r\n" } else { "" };
            let text = format!("HTTP/1.1 {status} So\r\n{location}content-length: 2\r\n\r\nok");
            let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        }
        Answer::Silence => shared.silent.push(Box::new(stream)),
        Answer::Close => {}
    }
}

fn read(stream: &mut impl Read) -> Option<Posted> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Posted { line: line.trim_end().to_owned(), headers, body: serde_json::from_slice(&body).ok()? })
}
