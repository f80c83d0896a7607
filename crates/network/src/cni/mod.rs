//! Networks that CNI plugins make: a client of the specification's versions 0.3.1 to 1.1.0. It blocks.
//!
//! ```text
//!  (none) ──record──► adding ──plugin 1 … plugin n, recorded after each──► added ──CHECK──► added
//!    ▲                   │ one fails, hangs, lies; or a crash                │
//!    └──record removed───┴────────── DEL: plugin n … plugin 1 ◄──────────────┘
//! ```
//! The record is a file of ours, one for each set-up. DEL and CHECK go by it alone. It is removed when every DEL has
//! succeeded, and kept otherwise: DEL can then be called again.
//!
//! - `list`: configuration lists, and which of them are refused
//! - `call`: one call of one plugin; `stray`: ending those that hang or were left behind
//! - `result`: what plugins answer; `error`: how they fail
//! - `record`: the file
//!
//! Not here: the network namespace (made before ADD, removed after DEL by others), when to try again, and what plugins
//! keep for themselves (`/var/lib/cni`): only they touch it.

mod call;
mod error;
mod list;
mod record;
mod result;
mod stray;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use hostler_model::limits;
use hostler_model::network::Publish;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use call::{PluginCall, Verb};
pub(crate) use error::{CniError, Failure};
pub(crate) use list::List;
use list::{Plugin, Version};
use record::{Record, State};
pub(crate) use result::{Dns, Outcome};

/// What an operation is about.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    /// `CNI_CONTAINERID`: of this set-up alone. Whatever runs with it when an ADD is undone gets killed.
    pub(crate) container: &'a str,
    /// The network namespace, a file. DEL works without it.
    pub(crate) netns: &'a Path,
    /// The interface that is made in it.
    pub(crate) interface: &'a str,
    /// Where plugins are, `CNI_PATH`.
    pub(crate) path: &'a [PathBuf],
    /// How long each plugin may take, milliseconds.
    pub(crate) deadline_ms: u64,
    /// The file of this set-up, in a directory that is there.
    pub(crate) cache: &'a Path,
    /// What is wished; only ADD looks at it, the others take it from the file.
    pub(crate) wishes: Wishes,
}

/// What plugins are told that declare the capability for it; the others are told nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wishes {
    /// `portMappings`
    pub(crate) port_mappings: Vec<Publish>,
    /// `ips`
    pub(crate) ips: Vec<IpAddr>,
    /// `mac`
    pub(crate) mac: Option<String>,
    /// `aliases`
    pub(crate) aliases: Vec<String>,
    /// `dns`
    pub(crate) dns: Vec<IpAddr>,
    /// `bandwidth`, in each direction.
    pub(crate) rate_bytes_per_s: Option<u64>,
}

/// Calls ADD of each plugin in order. When one fails, DEL of all is called, in reverse.
pub(crate) fn add(list: &List, call: &Call<'_>) -> Result<Outcome, CniError> {
    let environment = environment(call, call.netns.as_os_str().to_owned())?;
    // Before anything is made: a list with a plugin that is not there can be neither added nor undone.
    for plugin in &list.plugins {
        call::locate(&plugin.kind, call.path)?;
    }
    let mut record = Record::new(list, call);
    record.create(call.cache)?;
    add_each(&mut record, call, &environment).map_err(|error| undo(&record, call, error))
}

fn add_each(
    record: &mut Record,
    call: &Call<'_>,
    environment: &[(&'static str, OsString)],
) -> Result<Outcome, CniError> {
    let mut outcome = Outcome::default();
    let list = record.list.clone();
    for (index, plugin) in list.plugins.iter().enumerate() {
        let input = configuration(&list, plugin, &record.wishes, record.result.as_ref());
        let one = one_call(plugin, Verb::Add, call, environment, &input);
        let answer = one.run()?;
        let (told, result) = result::read(&answer, list.version).map_err(|why| {
            one.failed(Failure::Nonsense { why: error::beginning(why.as_bytes()), answer: error::beginning(&answer) })
        })?;
        outcome = told;
        record.result = Some(result);
        record.answered = index + 1;
        if index + 1 == list.plugins.len() {
            record.state = State::Added;
        }
        record.save(call.cache)?;
    }
    Ok(outcome)
}

/// An ADD failed: undoes it. The error that is told is the one of ADD.
fn undo(record: &Record, call: &Call<'_>, error: CniError) -> CniError {
    stray::end_strays(&record.container);
    let called = record.answered + usize::from(!matches!(error, CniError::Missing { .. }));
    let undone = del_each(record, call, called).and_then(|()| Record::remove(call.cache));
    match undone {
        Ok(()) => error,
        Err(undo) => CniError::NotUndone { error: Box::new(error), undo: Box::new(undo) },
    }
}

/// Asks each plugin whether what it made is still there. Nothing is asked where the list has no CHECK; an error when
/// the set-up was never made to its end.
pub(crate) fn check(call: &Call<'_>) -> Result<(), CniError> {
    let wrong = |what: &str| Err(CniError::Record { path: call.cache.to_owned(), what: what.to_owned() });
    let Some(record) = Record::load(call)? else { return wrong("is not there: nothing was added") };
    if record.state != State::Added {
        return wrong("tells of an ADD that was interrupted");
    }
    if !record.list.can_check() {
        return Ok(());
    }
    let environment = environment(call, call.netns.as_os_str().to_owned())?;
    for plugin in &record.list.plugins {
        let input = configuration(&record.list, plugin, &record.wishes, record.result.as_ref());
        one_call(plugin, Verb::Check, call, &environment, &input).run()?;
    }
    Ok(())
}

/// Undoes an ADD, an interrupted one as well; what was never added is fine. Can be called again when it fails.
pub(crate) fn del(call: &Call<'_>) -> Result<(), CniError> {
    if let Some(record) = Record::load(call)? {
        if record.state == State::Adding {
            stray::end_strays(&record.container);
        }
        del_each(&record, call, record.answered + 1)?;
    }
    Record::remove(call.cache)
}

/// Calls DEL of each plugin, the last first: all of them, whatever the others say. The first failure that may mean that
/// something is left; only so many plugins can have been called for ADD.
fn del_each(record: &Record, call: &Call<'_>, called: usize) -> Result<(), CniError> {
    let netns = if is_namespace(call.netns) { call.netns.as_os_str().to_owned() } else { OsString::new() };
    let environment = environment(call, netns)?;
    let list = &record.list;
    let result = record.result.as_ref().filter(|_| list.version >= Version::V0_4_0);
    let mut first = Ok(());
    for (index, plugin) in list.plugins.iter().enumerate().rev() {
        let input = configuration(list, plugin, &record.wishes, result);
        let Err(error) = one_call(plugin, Verb::Del, call, &environment, &input).run() else { continue };
        // One that was never called has made nothing, and neither has one that cannot be spoken to: else a list that
        // no plugin takes would leave a record for ever with each attempt.
        let made_nothing = index >= called || index >= record.answered && error.is_of_the_list();
        if made_nothing || first.is_err() {
            tracing::warn!(container = call.container, made_nothing, %error, "a CNI plugin failed to undo its part");
        } else {
            first = Err(error);
        }
    }
    first
}

/// What the plugins answered to a whole ADD.
#[must_use]
pub(crate) fn cached(call: &Call<'_>) -> Option<Outcome> {
    let record = Record::load(call).ok().flatten().filter(|record| record.state == State::Added)?;
    Outcome::from_value(record.result.as_ref()?).ok()
}

/// Which plugins are there: the names of all programs in these directories, sorted.
#[must_use]
pub(crate) fn found(path: &[PathBuf]) -> Vec<String> {
    let entries = path.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten().flatten();
    let programs = entries.filter(|entry| call::is_executable(&entry.path()));
    let names: BTreeSet<_> = programs
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.chars().any(char::is_control))
        .take(limits::CNI_FOUND_MAX)
        .collect();
    names.into_iter().collect()
}

fn one_call<'a>(
    plugin: &'a Plugin,
    verb: Verb,
    call: &'a Call<'_>,
    environment: &'a [(&'static str, OsString)],
    input: &'a [u8],
) -> PluginCall<'a> {
    PluginCall { plugin: &plugin.kind, verb, environment, path: call.path, input, deadline_ms: call.deadline_ms }
}

/// What plugins find in their environment. `CNI_ARGS` is never among it: there are none.
fn environment(call: &Call<'_>, netns: OsString) -> Result<Vec<(&'static str, OsString)>, CniError> {
    if !list::is_name(call.container) {
        return Err(CniError::Call(format!("{:?} is no container ID", call.container)));
    }
    // As the kernel and the specification have it.
    let is_interface = (1..=15).contains(&call.interface.len())
        && !matches!(call.interface, "." | "..")
        && !call
            .interface
            .contains(|char: char| matches!(char, '/' | ':') || char.is_whitespace() || char.is_control());
    if !is_interface {
        return Err(CniError::Call(format!("{:?} is no name of an interface", call.interface)));
    }
    let path = std::env::join_paths(call.path).map_err(|error| CniError::Call(format!("CNI_PATH: {error}")))?;
    Ok(vec![
        ("CNI_CONTAINERID", call.container.into()),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", call.interface.into()),
        ("CNI_PATH", path),
    ])
}

/// What a plugin reads: its own configuration, and what only the caller knows.
fn configuration(list: &List, plugin: &Plugin, wishes: &Wishes, previous: Option<&Value>) -> Vec<u8> {
    let mut config = plugin.config.clone();
    config.insert("cniVersion".to_owned(), list.version.as_str().into());
    config.insert("name".to_owned(), list.name.as_str().into());
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone());
    }
    let mut told = wishes.told();
    told.retain(|capability, _| plugin.capabilities.contains(capability));
    if !told.is_empty() {
        config.insert("runtimeConfig".to_owned(), told.into());
    }
    Value::Object(config).to_string().into_bytes()
}

impl Wishes {
    /// As plugins are told, by capability (CONVENTIONS.md of the specification); without what is not wished.
    fn told(&self) -> Map<String, Value> {
        let mut told = Map::new();
        let mut tell = |capability: &str, value: Value| told.insert(capability.to_owned(), value);
        if !self.port_mappings.is_empty() {
            tell("portMappings", self.port_mappings.iter().map(mapping).collect());
        }
        if !self.ips.is_empty() {
            tell("ips", json!(self.ips));
        }
        if let Some(mac) = &self.mac {
            tell("mac", json!(mac));
        }
        if !self.aliases.is_empty() {
            tell("aliases", json!(self.aliases));
        }
        if !self.dns.is_empty() {
            tell("dns", json!({ "servers": self.dns }));
        }
        if let Some(rate) = self.rate_bytes_per_s {
            // Bits. A tenth of a second's worth may come at once, and always what the kernel sends as one piece.
            let rate = rate.saturating_mul(8);
            let burst = (rate / 10).clamp(BURST_MIN_BITS, u64::from(u32::MAX));
            let (ingress, egress) = (("ingressRate", "ingressBurst"), ("egressRate", "egressBurst"));
            tell("bandwidth", json!({ ingress.0: rate, ingress.1: burst, egress.0: rate, egress.1: burst }));
        }
        told
    }
}

/// 64 KiB, the longest packet before it is cut into segments.
const BURST_MIN_BITS: u64 = 64 * 1024 * 8;

fn mapping(publish: &Publish) -> Value {
    let mut mapping = json!({
        "hostPort": publish.host_port,
        "containerPort": publish.port,
        "protocol": publish.protocol.as_str(),
    });
    if let Some(host) = publish.host {
        mapping["hostIP"] = json!(host);
    }
    mapping
}

/// Whether a network namespace is there: after a reboot there is no such file, and one that was unmounted is an empty
/// file, at which plugins would fail. All namespaces are on one file system of the kernel's own.
fn is_namespace(path: &Path) -> bool {
    match (std::fs::metadata(path), std::fs::metadata("/proc/self/ns/net")) {
        (Ok(found), Ok(own)) => found.dev() == own.dev(),
        (found, _) => found.is_ok(),
    }
}
