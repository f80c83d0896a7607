//! Problems as responses; bodies and queries as typed values, whose defects are problems too.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hostler_model::error::ProblemDocument;
use hostler_model::{Problem, ProblemKind, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A refusal on its way out.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// What handlers answer.
pub(crate) type Answer<T = Response> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = self.0;
        if problem.kind == ProblemKind::Internal {
            tracing::error!(detail = problem.detail, "internal problem");
        }
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = json(status, &ProblemDocument::from(&problem));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = problem.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON response.
pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A JSON body that must be there, together with its bytes.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = read(request, state).await?;
        let value = parse(&bytes)?;
        Ok(Self { value, bytes })
    }
}

/// A JSON body that may be left out.
pub(crate) struct OptionalBody<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = read(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        parse(&bytes).map(Self)
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    // Known to be too large: refuse before reading any of it.
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits::HTTP_BODY_MAX as u64) {
        return Err(too_large());
    }
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        other => Problem::new(ProblemKind::MalformedRequest, other.body_text()).into(),
    })
}

fn too_large() -> Refusal {
    let detail =
        format!("a request body has at most {} bytes; pass large data through stdin or a file", limits::HTTP_BODY_MAX);
    Problem::new(ProblemKind::BodyTooLarge, detail).into()
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_data() { "the body has the wrong shape" } else { "the body is not JSON" };
        Problem::new(ProblemKind::MalformedRequest, format!("{what}: {error}")).into()
    })
}

/// Query parameters.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query: Result<Query<T>, QueryRejection> = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(value)| Self(value))
            .map_err(|rejection| Problem::new(ProblemKind::MalformedRequest, rejection.body_text()).into())
    }
}

pub(crate) async fn not_found(uri: Uri) -> Refusal {
    let detail = format!("there is no page {}; see /v1/openapi.json", uri.path());
    Problem::new(ProblemKind::NotFound, detail).into()
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    Problem::new(ProblemKind::MethodNotAllowed, format!("{} does not take {method}", uri.path())).into()
}
