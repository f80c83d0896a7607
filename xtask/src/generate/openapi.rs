//! `docs/openapi.json`: OpenAPI 3.1, from the table of endpoints and the JSON schemas of the types they name.
//! OpenAPI 3.1 takes JSON Schema 2020-12 as it is, so one generator of schemas is all that is needed
//! (docs/decisions/0001).

use anyhow::{Context, Result, bail};
use hostler_api::endpoints::{Answer, ENDPOINTS, Endpoint, Method};
use hostler_api::{checkpoints, networks, pools, result, stacks, stream, types, usage};
use hostler_model::error::{PROBLEM_URN, ProblemDocument, ProblemKind};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::Generated;

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Types of queries: their properties become parameters.
const QUERIES: &[(&str, SchemaOf)] = &[
    ("AttachQuery", stream::AttachQuery::json_schema),
    ("CheckpointQuery", checkpoints::CheckpointQuery::json_schema),
    ("CreateQuery", types::CreateQuery::json_schema),
    ("EventsQuery", types::EventsQuery::json_schema),
    ("ListQuery", types::ListQuery::json_schema),
    ("LogsQuery", types::LogsQuery::json_schema),
    ("NamespaceQuery", types::NamespaceQuery::json_schema),
    ("NetworksQuery", networks::NetworksQuery::json_schema),
    ("QueueQuery", types::QueueQuery::json_schema),
    ("QueueRemoveQuery", types::QueueRemoveQuery::json_schema),
    ("QueuesQuery", types::QueuesQuery::json_schema),
    ("RemoveQuery", types::RemoveQuery::json_schema),
    ("ResultQuery", result::ResultQuery::json_schema),
    ("StackQuery", stacks::StackQuery::json_schema),
    ("StatsListQuery", usage::StatsListQuery::json_schema),
    ("StatsQuery", types::StatsQuery::json_schema),
    ("WaitQuery", types::WaitQuery::json_schema),
];

/// Types of bodies and answers, by the name that the table of endpoints uses.
const BODIES: &[(&str, SchemaOf)] = &[
    ("CheckpointList", component::<checkpoints::CheckpointList>),
    ("CheckpointRequest", component::<checkpoints::CheckpointRequest>),
    ("CheckpointView", component::<checkpoints::CheckpointView>),
    ("RestoreRequest", component::<checkpoints::RestoreRequest>),
    ("StartRequest", component::<checkpoints::StartRequest>),
    ("DoctorReport", component::<types::DoctorReport>),
    ("DownReport", component::<types::DownReport>),
    ("DownRequest", component::<types::DownRequest>),
    ("EventView", component::<stream::EventView>),
    ("FromServer", component::<stream::FromServer>),
    ("KillRequest", component::<types::KillRequest>),
    ("LameDuckRequest", component::<types::LameDuckRequest>),
    ("LogLine", component::<stream::LogLine>),
    ("LogLost", component::<stream::LogLost>),
    ("NetworkList", component::<networks::NetworkList>),
    ("NetworkView", component::<hostler_model::network::NetworkView>),
    ("NewNetwork", component::<hostler_model::network::NewNetwork>),
    ("MachinePoolView", component::<pools::MachinePoolView>),
    ("PoolChange", component::<pools::PoolChange>),
    ("PoolList", component::<networks::PoolList>),
    ("NodeInfo", component::<types::NodeInfo>),
    ("OpenApi", open_api),
    ("ProblemDocument", component::<ProblemDocument>),
    ("Spec", component::<hostler_model::Spec>),
    ("Stack", component::<hostler_model::stack::Stack>),
    ("StackDiff", component::<stacks::StackDiff>),
    ("StackList", component::<stacks::StackList>),
    ("StackView", component::<stacks::StackView>),
    ("Processes", component::<hostler_model::process::Processes>),
    ("Stats", component::<types::Stats>),
    ("StatsList", component::<usage::StatsList>),
    ("StopRequest", component::<types::StopRequest>),
    ("ToServer", component::<stream::ToServer>),
    ("UpdateRequest", component::<types::UpdateRequest>),
    ("WorkloadList", component::<types::WorkloadList>),
    ("BatchReport", component::<types::BatchReport>),
    ("Specs", component::<Vec<hostler_model::Spec>>),
    ("BulkRequest", component::<types::BulkRequest>),
    ("BulkReport", component::<types::BulkReport>),
    ("QueueList", component::<types::QueueList>),
    ("QueueChange", component::<hostler_model::queue::QueueChange>),
    ("QueueView", component::<types::QueueView>),
    ("WorkloadResult", component::<result::WorkloadResult>),
    ("WorkloadView", component::<types::WorkloadView>),
];

fn component<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn open_api(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object", "description": "This document."})
}

/// Every reference is taken below this path.
const COMPONENTS: &str = "/components/schemas";

pub(super) fn generate() -> Result<Generated> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for endpoint in ENDPOINTS {
        let operation = operation(endpoint, &mut generator)
            .with_context(|| format!("describing {} {}", method_name(endpoint.method), endpoint.path))?;
        let item = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        item[method_name(endpoint.method)] = operation;
    }
    for (_, schema) in BODIES {
        schema(&mut generator);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hostler",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Runs workloads on one Linux machine and loses nothing of them.",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "servers": [{"url": "http://localhost", "description": "The node's unix socket, hostler.sock. The host name is not looked at."}],
        "tags": [
            {"name": "node", "description": "The node itself."},
            {"name": "events", "description": "Numbered, durable facts."},
            {"name": "stacks", "description": "Services and jobs that belong together."},
            {"name": "workloads", "description": "What runs, ran, and will run."},
            {"name": "queues", "description": "Jobs that wait for their turn."},
            {"name": "networks", "description": "Networks of workloads, and what is kept ready of them."},
        ],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": {"Problem": problem_response()},
        },
    });
    Generated::json("docs/openapi.json", &document)
}

const DESCRIPTION: &str = "HTTP/JSON on a unix socket; the peer's credentials are the caller's identity. Times are \
wall-clock milliseconds since the Unix epoch, sizes are bytes. `{ref}` is a workload's name, its id, or a unique prefix \
of its id. A refusal is a problem document (RFC 9457) whose `type` is stable.";

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Patch => "patch",
        Method::Put => "put",
        Method::Delete => "delete",
    }
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Result<Value> {
    let mut operation = Map::new();
    operation.insert("operationId".to_owned(), json!(operation_id(endpoint)));
    operation.insert("tags".to_owned(), json!([tag(endpoint.path)]));
    operation.insert("summary".to_owned(), json!(endpoint.summary));
    let parameters = parameters(endpoint, generator)?;
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
    if let Some(body) = endpoint.body {
        let required = is_required(body, generator)?;
        let content = json!({"application/json": {"schema": body_schema(body, generator)?}});
        operation.insert("requestBody".to_owned(), json!({"required": required, "content": content}));
    }
    let responses = json!({
        endpoint.status.to_string(): response(endpoint, generator)?,
        "default": {"$ref": "#/components/responses/Problem"},
    });
    operation.insert("responses".to_owned(), responses);
    Ok(Value::Object(operation))
}

/// `get_workloads_ref_logs`: the method and the parts of the path.
fn operation_id(endpoint: &Endpoint) -> String {
    let parts = endpoint.path.split(['/', '{', '}', '.', '-']).filter(|part| !part.is_empty() && *part != "v1");
    let mut id = method_name(endpoint.method).to_owned();
    for part in parts {
        id.push('_');
        id.push_str(part);
    }
    id
}

fn tag(path: &str) -> &'static str {
    if path.starts_with("/v1/workloads") {
        "workloads"
    } else if path.starts_with("/v1/queues") {
        "queues"
    } else if path.starts_with("/v1/networks") || path.starts_with("/v1/pools") {
        "networks"
    } else if path.starts_with("/v1/stacks") {
        "stacks"
    } else if path.starts_with("/v1/events") {
        "events"
    } else {
        "node"
    }
}

fn find(table: &[(&str, SchemaOf)], name: &str) -> Result<SchemaOf> {
    let Some((_, schema)) = table.iter().find(|(known, _)| *known == name) else {
        bail!("the type {name} is not known: add it to xtask/src/generate/openapi.rs");
    };
    Ok(*schema)
}

fn body_schema(name: &str, generator: &mut SchemaGenerator) -> Result<Schema> {
    Ok(find(BODIES, name)?(generator))
}

/// A body may be left off when none of its fields is required.
fn is_required(name: &str, generator: &mut SchemaGenerator) -> Result<bool> {
    body_schema(name, generator)?;
    let required = generator.definitions().get(name).and_then(|schema| schema.get("required"));
    Ok(required.and_then(Value::as_array).is_some_and(|fields| !fields.is_empty()))
}

fn parameters(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Result<Vec<Value>> {
    let mut parameters = Vec::new();
    if endpoint.path.contains("{ref}") {
        parameters.push(json!({
            "name": "ref", "in": "path", "required": true, "schema": {"type": "string"},
            "description": match tag(endpoint.path) {
                "stacks" => "A stack's name.",
                _ => "A workload's name, its id, or a unique prefix of its id.",
            },
        }));
    }
    if endpoint.path.contains("{queue}") {
        parameters.push(json!({
            "name": "queue", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "A queue's name.",
        }));
    }
    if endpoint.path.contains("{pool}") {
        parameters.push(json!({
            "name": "pool", "in": "path", "required": true, "schema": {"type": "string"},
            "description": "A pool's name in the configuration.",
        }));
    }
    if let Some(query) = endpoint.query {
        let mut schema = find(QUERIES, query)?(generator);
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            bail!("{query} has no properties");
        };
        parameters.extend(properties.iter_mut().map(|(name, property)| query_parameter(name, property)));
    }
    parameters.extend(headers(endpoint).map(|(name, description)| {
        json!({"name": name, "in": "header", "schema": {"type": "string"}, "description": description})
    }));
    Ok(parameters)
}

fn query_parameter(name: &str, property: &mut Value) -> Value {
    let description = property.as_object_mut().and_then(|schema| schema.remove("description"));
    let mut parameter = json!({"name": name, "in": "query", "schema": without_null(property)});
    if let Some(description) = description {
        parameter["description"] = description;
    }
    parameter
}

/// A parameter is there or it is absent; it is never null.
fn without_null(schema: &Value) -> Value {
    let is_null = |schema: &Value| *schema == json!({"type": "null"});
    if let Some([value, null]) = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice)
        && is_null(null)
    {
        return value.clone();
    }
    let mut schema = schema.clone();
    if let Some([value, Value::String(null)]) = schema.get("type").and_then(Value::as_array).map(Vec::as_slice)
        && null == "null"
    {
        schema["type"] = value.clone();
    }
    schema
}

fn headers(endpoint: &Endpoint) -> impl Iterator<Item = (&'static str, &'static str)> {
    let creates = endpoint.method == Method::Post && endpoint.body == Some("Spec");
    let key = creates.then_some((
        "Idempotency-Key",
        "A creation with the same key and the same body happens once; with another body it is refused.",
    ));
    let resumes = matches!(endpoint.answer, Answer::Events(_));
    let last = resumes.then_some(("Last-Event-ID", "Go on after this event: the id of the last one that was read."));
    key.into_iter().chain(last)
}

fn response(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Result<Value> {
    let mut content = Map::new();
    let mut description = "Done.";
    match endpoint.answer {
        Answer::Json(name) => {
            content.insert("application/json".to_owned(), json!({"schema": body_schema(name, generator)?}));
        }
        Answer::Events(name) => {
            description = "Server-sent events; the data of each is of this type.";
            content.insert("text/event-stream".to_owned(), json!({"schema": body_schema(name, generator)?}));
        }
        Answer::JsonOrEvents(name) => {
            description = "One answer, or with `follow` server-sent events; the data of each is of this type.";
            let schema = body_schema(name, generator)?;
            content.insert("application/json".to_owned(), json!({"schema": schema}));
            content.insert("text/event-stream".to_owned(), json!({"schema": schema}));
        }
        Answer::WebSocket => {
            description = "A WebSocket. Binary messages: one byte for the stream (0 stdin, 1 stdout, 2 stderr), then its \
                data. Text messages: JSON, ToServer from the client and FromServer from the node.";
        }
        Answer::Text => {
            content.insert("text/plain".to_owned(), json!({"schema": {"type": "string"}}));
        }
    }
    if content.is_empty() {
        Ok(json!({"description": description}))
    } else {
        Ok(json!({"description": description, "content": content}))
    }
}

/// The answer of every refusal, with the list of its stable types.
fn problem_response() -> Value {
    let types: Vec<Value> = ProblemKind::ALL
        .iter()
        .map(|kind| json!({"type": format!("{PROBLEM_URN}{}", kind.as_str()), "status": kind.status(), "title": kind.title()}))
        .collect();
    json!({
        "description": "A refusal: nothing was changed. x-problem-types lists every type; more may be added.",
        "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which trying again makes sense."}},
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        "x-problem-types": types,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn document() -> Value {
        let generated = generate().expect("the document can be made");
        serde_json::from_slice(&generated.content).expect("it is JSON")
    }

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_endpoint_is_there_with_an_id_of_its_own() {
        let document = document();
        let ids: HashSet<String> = ENDPOINTS.iter().map(operation_id).collect();
        assert_eq!(ids.len(), ENDPOINTS.len());
        for endpoint in ENDPOINTS {
            let operation = &document["paths"][endpoint.path][method_name(endpoint.method)];
            assert!(operation["responses"]["default"].is_object(), "{}", endpoint.path);
        }
    }

    #[test]
    fn a_body_without_required_fields_may_be_left_off() {
        let document = document();
        assert_eq!(document["paths"]["/v1/workloads"]["post"]["requestBody"]["required"], true);
        assert_eq!(document["paths"]["/v1/workloads/{ref}/stop"]["post"]["requestBody"]["required"], false);
    }
}
