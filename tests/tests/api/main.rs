//! The HTTP interface of a real node, asked by hand and by the typed client.
//!
//! - `document`: the table of endpoints, the OpenAPI document, and that each of them answers
//! - `networks`: networks as objects, and who may make them
//! - `refusals`: every problem with its type and status, and nothing half-made after it
//! - `streams`: events and logs resumed, the retention, metrics, idempotency
//! - `others`: callers who are not root, and a node without root

mod document;
mod networks;
mod others;
mod refusals;
mod streams;
