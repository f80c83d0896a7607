//! One call over HTTP: a POST of what is known, with the event's id as its `Idempotency-Key`, until it is answered with a
//! 2xx or the attempts are used up.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use hostler_model::event::EventId;
use hostler_model::hook::{HookAction, HookCall, HookTrigger};
use hostler_model::log_stream::LogStream;
use hostler_model::units::format_duration;
use hostler_model::url::HttpUrl;
use hostler_model::workload::{Phase, RunState};
use hostler_model::{ByteString, Namespace, RunId, WorkloadId, WorkloadName, limits};
use hyper_util::rt::TokioIo;
use serde::Serialize;

use super::connect;
use super::gates::Gates;

/// What is posted.
#[derive(Debug, Serialize)]
struct Told<'a> {
    /// Of the `hook.fired`; the same in every repetition.
    id: String,
    hook: u8,
    on: HookTrigger,
    time_ms: u64,
    namespace: &'a Namespace,
    workload: &'a WorkloadName,
    workload_id: WorkloadId,
    run: RunId,
    phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    /// As a shell would say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    /// All that is known of the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'a RunState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<LogStream>,
}

/// Calls until it has worked or is given up; how many attempts that took, and what went wrong the last time.
pub(super) async fn deliver(call: &HookCall, event: EventId, gates: &Gates) -> (u32, Result<(), String>) {
    let HookAction::Http { url, .. } = &call.definition.action else {
        return (0, Err("it is no request".to_owned()));
    };
    let url = match HttpUrl::parse(url) {
        Ok(url) => url,
        Err(why) => return (0, Err(format!("its address {why}"))),
    };
    let deadline_ms = call.definition.deadline_ms;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let result = {
            let _inside = gates.enter(&call.subject.namespace, url.authority).await;
            crate::failpoint::hit("hook-calling");
            let attempt = tokio::time::timeout(Duration::from_millis(deadline_ms), post(call, event, url));
            attempt.await.unwrap_or_else(|_| Err(format!("no answer within {}", format_duration(deadline_ms))))
        };
        if result.is_ok() || attempts >= call.definition.attempts {
            return (attempts, result);
        }
        tokio::time::sleep(pause(attempts)).await;
    }
}

/// Doubles with each attempt.
fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let pause_ms = limits::HOOK_BACKOFF_INITIAL_MS.saturating_mul(1 << doublings);
    Duration::from_millis(pause_ms.min(limits::HOOK_BACKOFF_MAX_MS))
}

/// One attempt. The answer's body is nobody's business: the connection is closed at its status.
async fn post(call: &HookCall, event: EventId, url: HttpUrl<'_>) -> Result<(), String> {
    let request = request(call, event, url)?;
    let stream = connect::open(url).await?;
    let went_wrong = |error: hyper::Error| format!("the connection to {} broke: {error}", url.authority);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(went_wrong)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // It ends when there is an answer, or never will be.
        _ = &mut connection => answer.await,
    };
    match answer.map_err(went_wrong)?.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("{} answered {}", url.authority, words(status))),
    }
}

/// Most of an answer that is held at one time, bytes.
const HEAD_MAX: usize = 64 * 1024;

fn words(status: StatusCode) -> String {
    let hint = if status.is_redirection() { "; redirects are not followed" } else { "" };
    format!("{status}{hint}")
}

fn request(call: &HookCall, event: EventId, url: HttpUrl<'_>) -> Result<Request<Body>, String> {
    let HookAction::Http { headers, .. } = &call.definition.action else {
        return Err("it is no request".to_owned());
    };
    let context = &call.context;
    let told = Told {
        id: event.to_string(),
        hook: call.hook,
        on: call.definition.on.trigger(),
        time_ms: call.fired_at_ms,
        namespace: &call.subject.namespace,
        workload: &call.subject.name,
        workload_id: call.run.workload,
        run: call.run,
        phase: call.subject.phase,
        pid: context.pid,
        exit_code: context.end.as_ref().and_then(RunState::shell_code),
        cause: context.cause(),
        end: context.end.as_ref(),
        line: context.line.as_ref(),
        stream: context.stream,
    };
    let body = serde_json::to_vec(&told).map_err(|error| format!("writing what is posted: {error}"))?;
    let mut request = Request::post(url.target)
        .header(header::HOST, url.authority)
        .header(header::USER_AGENT, concat!("hostler/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .header("idempotency-key", event.to_string());
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(Body::from(body)).map_err(|error| format!("writing the request: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<_> = [1, 2, 3, 8, 100].map(|attempts| pause(attempts).as_millis()).to_vec();
        assert_eq!(pauses, [500, 1_000, 2_000, 60_000, 60_000]);
    }
}
