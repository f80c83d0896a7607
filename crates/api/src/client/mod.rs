//! A client over the unix socket: one typed method for each entry of [`crate::endpoints`].
//!
//! - [`error`](ClientError): refusals, and the ways a connection fails
//! - `connect`: sockets at any depth; a few connections are kept between requests
//! - `sse`: events, logs and stats as streams, resumable by id
//! - `socket`: attach and exec
//!
//! Not here: retries. A caller that wants to outlive a restart of the daemon asks [`ClientError::is_disconnect`] and
//! comes again with the id or the offsets it has.

mod checkpoints;
mod connect;
mod error;
mod networks;
mod socket;
mod sse;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hostler_model::Spec;
use hostler_model::error::ProblemDocument;
use hostler_model::process::Processes;
use hostler_model::queue::QueueChange;
use hostler_model::stack::Stack;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub use self::error::ClientError;
pub use self::socket::{Frame, StreamReceiver, StreamSender, Streams};
pub use self::sse::{EventStream, LogItem, SseItem, SseMessage, SseParser};
use crate::endpoints::Method;
use crate::result::{ResultQuery, WorkloadResult};
use crate::stacks::{StackDiff, StackList, StackQuery, StackView};
use crate::stream::{AttachQuery, EventView, ToServer};
use crate::types::{
    BatchReport, BulkReport, BulkRequest, CreateQuery, DoctorReport, DownReport, DownRequest, EventsQuery, ExecRequest,
    KillRequest, LameDuckRequest, ListQuery, LogsQuery, NamespaceQuery, NodeInfo, QueueList, QueueQuery,
    QueueRemoveQuery, QueueView, QueuesQuery, RemoveQuery, Stats, StatsQuery, StopRequest, UpdateRequest, WaitFor,
    WaitQuery, WorkloadList, WorkloadView,
};
use crate::usage::{StatsList, StatsListQuery};

/// Answers that are not streams come within this time.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest answer that is read, bytes: a list of every workload a node can have, with room.
const ANSWER_MAX: usize = 1 << 30;

/// A node's door. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    socket: Arc<Path>,
    namespace: Option<Arc<str>>,
    deadline: Duration,
    idle: Arc<connect::Idle>,
}

/// How long an answer may take.
#[derive(Clone, Copy)]
enum Patience {
    Deadline,
    Endless,
}

struct Call {
    method: Method,
    target: String,
    body: Option<Vec<u8>>,
    headers: Vec<(header::HeaderName, String)>,
    patience: Patience,
}

impl Call {
    fn new(method: Method, target: String) -> Self {
        Self { method, target, body: None, headers: Vec::new(), patience: Patience::Deadline }
    }

    fn body(mut self, body: &impl Serialize) -> Result<Self, ClientError> {
        self.body = Some(serde_json::to_vec(body).map_err(ClientError::protocol)?);
        Ok(self)
    }

    fn header(mut self, name: header::HeaderName, value: Option<&str>) -> Self {
        self.headers.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    fn endless_if(mut self, endless: bool) -> Self {
        if endless {
            self.patience = Patience::Endless;
        }
        self
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, ClientError> {
        let method = match self.method {
            Method::Get => hyper::Method::GET,
            Method::Post => hyper::Method::POST,
            Method::Patch => hyper::Method::PATCH,
            Method::Put => hyper::Method::PUT,
            Method::Delete => hyper::Method::DELETE,
        };
        let mut request = Request::builder().method(method).uri(&self.target).header(header::HOST, "localhost");
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = self.body.clone().map(Bytes::from).unwrap_or_default();
        request.body(Full::new(body)).map_err(ClientError::protocol)
    }
}

impl Client {
    /// A client of the node at this socket. Nothing is connected yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let socket: PathBuf = socket.into();
        Self { socket: socket.into(), namespace: None, deadline: DEADLINE, idle: Arc::default() }
    }

    /// Ask in this namespace wherever a query does not name one; `*` is every namespace, for lists and events.
    #[must_use]
    pub fn in_namespace(mut self, namespace: Option<&str>) -> Self {
        self.namespace = namespace.map(Arc::from);
        self
    }

    /// Give up on answers that are not streams after this time.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The socket asked.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /healthz`.
    pub async fn healthz(&self) -> Result<String, ClientError> {
        self.text("/healthz").await
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.text("/metrics").await
    }

    /// `GET /v1/openapi.json`.
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.json(Call::new(Method::Get, "/v1/openapi.json".to_owned())).await
    }

    /// `GET /v1/node`.
    pub async fn node(&self) -> Result<NodeInfo, ClientError> {
        self.json(Call::new(Method::Get, "/v1/node".to_owned())).await
    }

    /// `GET /v1/node/doctor`.
    pub async fn doctor(&self) -> Result<DoctorReport, ClientError> {
        self.json(Call::new(Method::Get, "/v1/node/doctor".to_owned())).await
    }

    /// `POST /v1/node/lame-duck`.
    pub async fn lame_duck(&self, request: &LameDuckRequest) -> Result<NodeInfo, ClientError> {
        self.json(Call::new(Method::Post, "/v1/node/lame-duck".to_owned()).body(request)?).await
    }

    /// `POST /v1/node/down`. Without a deadline when workloads are stopped first.
    pub async fn down(&self, request: &DownRequest) -> Result<DownReport, ClientError> {
        let call = Call::new(Method::Post, "/v1/node/down".to_owned()).body(request)?;
        self.json(call.endless_if(request.stop_workloads)).await
    }

    /// `GET /v1/events`, from `last_id` (exclusive) if there is one.
    pub async fn events(
        &self,
        query: &EventsQuery,
        last_id: Option<&str>,
    ) -> Result<EventStream<EventView>, ClientError> {
        self.stream(self.target("/v1/events", query)?, last_id).await
    }

    /// `GET /v1/workloads`.
    pub async fn list(&self, query: &ListQuery) -> Result<WorkloadList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/workloads", query)?)).await
    }

    /// `POST /v1/workloads`. With a key the same request can be sent again and happens once.
    pub async fn create(
        &self,
        spec: &Spec,
        query: &CreateQuery,
        idempotency_key: Option<&str>,
    ) -> Result<WorkloadView, ClientError> {
        let waits = query.wait.is_some_and(|wait| wait != WaitFor::Accepted);
        let call = Call::new(Method::Post, self.target("/v1/workloads", query)?).body(spec)?;
        self.json(call.header(header::HeaderName::from_static("idempotency-key"), idempotency_key).endless_if(waits))
            .await
    }

    /// `GET /v1/workloads/{ref}`.
    pub async fn inspect(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Get, self.of(reference, "", &NamespaceQuery::default())?)).await
    }

    /// `POST /v1/workloads/batch`. With a key the same request can be sent again, and each workload is made once.
    pub async fn create_batch(
        &self,
        specs: &[Spec],
        idempotency_key: Option<&str>,
    ) -> Result<BatchReport, ClientError> {
        let target = self.target("/v1/workloads/batch", &NamespaceQuery::default())?;
        let call = Call::new(Method::Post, target).body(&specs)?;
        self.json(call.header(header::HeaderName::from_static("idempotency-key"), idempotency_key)).await
    }

    /// `POST /v1/workloads/bulk`.
    pub async fn bulk(&self, request: &BulkRequest) -> Result<BulkReport, ClientError> {
        let target = self.target("/v1/workloads/bulk", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?).await
    }

    /// `GET /v1/queues`.
    pub async fn queues(&self) -> Result<QueueList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/queues", &QueuesQuery::default())?)).await
    }

    /// `GET /v1/queues/{queue}`.
    pub async fn queue(&self, queue: &str, query: &QueueQuery) -> Result<QueueView, ClientError> {
        self.json(Call::new(Method::Get, self.of_queue(queue, query)?)).await
    }

    /// `PATCH /v1/queues/{queue}`.
    pub async fn change_queue(&self, queue: &str, change: &QueueChange) -> Result<QueueView, ClientError> {
        let target = self.of_queue(queue, &NamespaceQuery::default())?;
        self.json(Call::new(Method::Patch, target).body(change)?).await
    }

    /// `DELETE /v1/queues/{queue}`. Without a deadline when its jobs are cancelled.
    pub async fn remove_queue(&self, queue: &str, query: &QueueRemoveQuery) -> Result<QueueView, ClientError> {
        self.json(Call::new(Method::Delete, self.of_queue(queue, query)?).endless_if(query.force)).await
    }

    /// `PATCH /v1/workloads/{ref}`.
    pub async fn update(&self, reference: &str, request: &UpdateRequest) -> Result<WorkloadView, ClientError> {
        let target = self.of(reference, "", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Patch, target).body(request)?).await
    }

    /// `DELETE /v1/workloads/{ref}`. Without a deadline when it is stopped first.
    pub async fn remove(&self, reference: &str, query: &RemoveQuery) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Delete, self.of(reference, "", query)?).endless_if(query.force)).await
    }

    /// `POST …/start`.
    pub async fn start(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/start", &NamespaceQuery::default())?)).await
    }

    /// `POST …/stop`.
    pub async fn stop(&self, reference: &str, request: &StopRequest) -> Result<WorkloadView, ClientError> {
        let target = self.of(reference, "/stop", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?).await
    }

    /// `POST …/restart`. It may wait for the old run's end.
    pub async fn restart(&self, reference: &str, request: &StopRequest) -> Result<WorkloadView, ClientError> {
        let target = self.of(reference, "/restart", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?.endless_if(true)).await
    }

    /// `POST …/schedule/pause`.
    pub async fn pause_schedule(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/schedule/pause", &NamespaceQuery::default())?)).await
    }

    /// `POST …/schedule/resume`.
    pub async fn resume_schedule(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/schedule/resume", &NamespaceQuery::default())?)).await
    }

    /// `POST …/schedule/fire`.
    pub async fn fire_schedule(&self, reference: &str) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Post, self.of(reference, "/schedule/fire", &NamespaceQuery::default())?)).await
    }

    /// `POST …/kill`.
    pub async fn kill(&self, reference: &str, request: &KillRequest) -> Result<WorkloadView, ClientError> {
        let target = self.of(reference, "/kill", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(request)?).await
    }

    /// `GET …/wait`: answers when it has come to pass, or with a `timeout` problem after the query's own time.
    pub async fn wait(&self, reference: &str, query: &WaitQuery) -> Result<WorkloadView, ClientError> {
        self.json(Call::new(Method::Get, self.of(reference, "/wait", query)?).endless_if(true)).await
    }

    /// `GET …/result`.
    pub async fn result(&self, reference: &str, query: &ResultQuery) -> Result<WorkloadResult, ClientError> {
        self.json(Call::new(Method::Get, self.of(reference, "/result", query)?)).await
    }

    /// `GET …/logs`, from the position `last_id` if there is one.
    pub async fn logs(
        &self,
        reference: &str,
        query: &LogsQuery,
        last_id: Option<&str>,
    ) -> Result<EventStream<LogItem>, ClientError> {
        self.stream(self.of(reference, "/logs", query)?, last_id).await
    }

    /// `GET …/stats`, once.
    pub async fn stats(&self, reference: &str) -> Result<Stats, ClientError> {
        self.json(Call::new(Method::Get, self.of(reference, "/stats", &StatsQuery::default())?)).await
    }

    /// `GET …/stats`, with the samples that are kept.
    pub async fn stats_history(&self, reference: &str) -> Result<Stats, ClientError> {
        let query = StatsQuery { history: true, ..StatsQuery::default() };
        self.json(Call::new(Method::Get, self.of(reference, "/stats", &query)?)).await
    }

    /// `GET …/stats`, once a second.
    pub async fn stats_stream(&self, reference: &str) -> Result<EventStream<Stats>, ClientError> {
        let query = StatsQuery { follow: true, ..StatsQuery::default() };
        self.stream(self.of(reference, "/stats", &query)?, None).await
    }

    /// `GET /v1/stats`: of all that run.
    pub async fn stats_of_all(&self, query: &StatsListQuery) -> Result<StatsList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/stats", query)?)).await
    }

    /// `GET /v1/stats`, once a second.
    pub async fn stats_of_all_stream(&self, query: &StatsListQuery) -> Result<EventStream<StatsList>, ClientError> {
        let query = StatsListQuery { follow: true, ..query.clone() };
        self.stream(self.target("/v1/stats", &query)?, None).await
    }

    /// `GET …/processes`.
    pub async fn processes(&self, reference: &str) -> Result<Processes, ClientError> {
        self.json(Call::new(Method::Get, self.of(reference, "/processes", &NamespaceQuery::default())?)).await
    }

    /// `GET …/attach`.
    pub async fn attach(&self, reference: &str, query: &AttachQuery) -> Result<Streams, ClientError> {
        self.upgrade(self.of(reference, "/attach", query)?).await
    }

    /// `GET …/exec`, with the request as its first message.
    pub async fn exec(&self, reference: &str, request: ExecRequest) -> Result<Streams, ClientError> {
        let mut streams = self.upgrade(self.of(reference, "/exec", &NamespaceQuery::default())?).await?;
        streams.control(&ToServer::Exec { request }).await?;
        Ok(streams)
    }

    fn of_queue(&self, queue: &str, query: &impl Serialize) -> Result<String, ClientError> {
        let mut path = String::from("/v1/queues/");
        encode(queue, &mut path);
        self.target(&path, query)
    }

    /// `GET /v1/stacks`.
    pub async fn stacks(&self) -> Result<StackList, ClientError> {
        self.json(Call::new(Method::Get, self.target("/v1/stacks", &NamespaceQuery::default())?)).await
    }

    /// `GET /v1/stacks/{ref}`, once.
    pub async fn stack(&self, name: &str) -> Result<StackView, ClientError> {
        self.json(Call::new(Method::Get, self.of_stack(name, "", &StackQuery::default())?)).await
    }

    /// `GET /v1/stacks/{ref}`, each time it changes, until it is gone.
    pub async fn stack_stream(&self, name: &str) -> Result<EventStream<StackView>, ClientError> {
        let query = StackQuery { follow: true, ..StackQuery::default() };
        self.stream(self.of_stack(name, "", &query)?, None).await
    }

    /// `PUT /v1/stacks/{ref}`.
    pub async fn apply_stack(&self, name: &str, stack: &Stack) -> Result<StackView, ClientError> {
        let target = self.of_stack(name, "", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Put, target).body(stack)?).await
    }

    /// `DELETE /v1/stacks/{ref}`: begins the way down.
    pub async fn down_stack(&self, name: &str) -> Result<StackView, ClientError> {
        self.json(Call::new(Method::Delete, self.of_stack(name, "", &NamespaceQuery::default())?)).await
    }

    /// `POST /v1/stacks/{ref}/diff`.
    pub async fn diff_stack(&self, name: &str, stack: &Stack) -> Result<StackDiff, ClientError> {
        let target = self.of_stack(name, "/diff", &NamespaceQuery::default())?;
        self.json(Call::new(Method::Post, target).body(stack)?).await
    }

    fn of_stack(&self, name: &str, verb: &str, query: &impl Serialize) -> Result<String, ClientError> {
        let mut path = String::from("/v1/stacks/");
        encode(name, &mut path);
        path.push_str(verb);
        self.target(&path, query)
    }

    fn of(&self, reference: &str, verb: &str, query: &impl Serialize) -> Result<String, ClientError> {
        let mut path = String::from("/v1/workloads/");
        encode(reference, &mut path);
        path.push_str(verb);
        self.target(&path, query)
    }

    /// Path and query. Absent and false values are left off; the client's namespace stands in where none is named.
    fn target(&self, path: &str, query: &impl Serialize) -> Result<String, ClientError> {
        let query = serde_json::to_value(query).map_err(ClientError::protocol)?;
        let serde_json::Value::Object(fields) = query else {
            return Err(ClientError::protocol("a query must be a structure"));
        };
        let mut target = path.to_owned();
        let mut add = |key: &str, value: &str| {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(key);
            target.push('=');
            encode(value, &mut target);
        };
        for (key, value) in &fields {
            match value {
                serde_json::Value::String(text) => add(key, text),
                serde_json::Value::Bool(true) => add(key, "true"),
                serde_json::Value::Number(number) => add(key, &number.to_string()),
                _ => {}
            }
        }
        if let (Some(namespace), false) = (&self.namespace, fields.contains_key("namespace")) {
            add("namespace", namespace);
        }
        Ok(target)
    }

    async fn text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.whole(Call::new(Method::Get, path.to_owned())).await?;
        String::from_utf8(bytes.to_vec()).map_err(ClientError::protocol)
    }

    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let bytes = self.whole(call).await?;
        serde_json::from_slice(&bytes).map_err(ClientError::protocol)
    }

    async fn whole(&self, call: Call) -> Result<Bytes, ClientError> {
        let exchange = async {
            let (response, sender) = self.send(&call).await?;
            let (status, retry_after, bytes) = read(response).await?;
            self.idle.put(sender);
            if status.is_success() { Ok(bytes) } else { Err(refusal(status, retry_after, &bytes)) }
        };
        match call.patience {
            Patience::Endless => exchange.await,
            Patience::Deadline => {
                tokio::time::timeout(self.deadline, exchange).await.unwrap_or(Err(ClientError::Timeout(self.deadline)))
            }
        }
    }

    async fn stream<T: SseItem>(&self, target: String, last_id: Option<&str>) -> Result<EventStream<T>, ClientError> {
        let call = Call::new(Method::Get, target)
            .header(header::ACCEPT, Some("text/event-stream"))
            .header(header::HeaderName::from_static("last-event-id"), last_id);
        let (response, _) = self.send(&call).await?;
        if response.status().is_success() {
            return Ok(EventStream::new(response.into_body(), last_id.map(str::to_owned)));
        }
        let (status, retry_after, bytes) = read(response).await?;
        Err(refusal(status, retry_after, &bytes))
    }

    async fn upgrade(&self, target: String) -> Result<Streams, ClientError> {
        let key = generate_key();
        let call = Call::new(Method::Get, target)
            .header(header::CONNECTION, Some("Upgrade"))
            .header(header::UPGRADE, Some("websocket"))
            .header(header::SEC_WEBSOCKET_VERSION, Some("13"))
            .header(header::SEC_WEBSOCKET_KEY, Some(&key));
        let (response, _) = self.send(&call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, retry_after, bytes) = read(response).await?;
            return Err(refusal(status, retry_after, &bytes));
        }
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(ClientError::protocol("the upgrade was not meant for this request"));
        }
        let upgraded =
            hyper::upgrade::on(response).await.map_err(|error| ClientError::Disconnected(error.to_string()))?;
        Ok(Streams::new(upgraded).await)
    }

    /// Sends over a kept connection if there is one. A request that a closing connection never sent is sent again
    /// over a new one; a request that may have arrived is not.
    async fn send(&self, call: &Call) -> Result<(Response<Incoming>, connect::Sender), ClientError> {
        if let Some(mut sender) = self.idle.take().await {
            match sender.try_send_request(call.request()?).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => {
                    if error.take_message().is_none() {
                        return Err(ClientError::Disconnected(error.into_error().to_string()));
                    }
                }
            }
        }
        let mut sender = connect::open(&self.socket).await?;
        match sender.send_request(call.request()?).await {
            Ok(response) => Ok((response, sender)),
            Err(error) => Err(ClientError::Disconnected(error.to_string())),
        }
    }
}

async fn read(response: Response<Incoming>) -> Result<(StatusCode, Option<u32>, Bytes), ClientError> {
    let status = response.status();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let bytes = body.map_err(|error| ClientError::Disconnected(error.to_string()))?.to_bytes();
    Ok((status, retry_after, bytes))
}

fn refusal(status: StatusCode, retry_after: Option<u32>, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<ProblemDocument>(body) {
        Ok(document) => ClientError::Problem(document, retry_after),
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            ClientError::Protocol(format!("HTTP status {status} without a problem document {text:?}"))
        }
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn encode(text: &str, into: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            write!(into, "%{byte:02X}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_encoded_and_carry_the_namespace() {
        let client = Client::new("/x").in_namespace(Some("u7"));
        let query = LogsQuery {
            follow: true,
            tail: Some(5),
            stream: Some(crate::types::LogStream::Stderr),
            ..LogsQuery::default()
        };
        let target = client.of("../a b?", "/logs", &query).expect("encodes");
        assert_eq!(target.split('?').next(), Some("/v1/workloads/..%2Fa%20b%3F/logs"));
        for part in ["follow=true", "tail=5", "stream=stderr", "namespace=u7"] {
            assert!(target.contains(part), "{target} lacks {part}");
        }
        let query =
            ListQuery { namespace: Some("*".to_owned()), filter: Some("label=a=b".to_owned()), ..ListQuery::default() };
        let target = client.target("/v1/workloads", &query).expect("encodes");
        assert!(
            target.contains("namespace=%2A") && target.contains("filter=label%3Da%3Db") && !target.contains("u7"),
            "{target}"
        );
        assert!(!target.contains("all"), "{target}");
    }

    #[test]
    fn refusals_are_problem_documents_or_told_as_they_are() {
        let body = br#"{"type":"urn:hostler:problem:not-found","title":"t","status":404,"detail":"no workload \"x\""}"#;
        let error = refusal(StatusCode::NOT_FOUND, Some(3), body);
        assert_eq!(error.problem_kind(), Some(hostler_model::ProblemKind::NotFound));
        assert_eq!(error.to_string(), "no workload \"x\"");
        assert!(matches!(error, ClientError::Problem(_, Some(3))));
        assert!(refusal(StatusCode::BAD_GATEWAY, None, b"<html>").to_string().contains("502"));
    }
}
