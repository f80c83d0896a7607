//! The record of a set-up: what was asked of which plugins, and how far they came. Written before the first of them is
//! called, so that everything can be undone by it alone: after a crash, after a reboot (the leases of `host-local` outlive
//! that), and when the network is gone or another.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use hostler_model::limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CniError;
use super::list::List;
use super::{Call, Wishes};

const FORMAT: &str = "hostler-cni/1";

/// How far an ADD came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Some plugins may have been called, one may still run.
    Adding,
    /// All have answered.
    Added,
}

/// The record of a set-up.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) state: State,
    pub(super) container: String,
    pub(super) interface: String,
    pub(super) list: List,
    pub(super) wishes: Wishes,
    /// How many plugins have answered to ADD.
    pub(super) answered: usize,
    /// The answer of the last plugin that gave one.
    pub(super) result: Option<Value>,
}

/// As it is on disk. Lists and answers are texts in it: they are kept as they are, however deep they go.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    state: State,
    container: String,
    interface: String,
    wishes: Wishes,
    answered: usize,
    list: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<String>,
}

impl Record {
    /// Before anything was called.
    pub(super) fn new(list: &List, call: &Call<'_>) -> Self {
        Self {
            state: State::Adding,
            container: call.container.to_owned(),
            interface: call.interface.to_owned(),
            list: list.clone(),
            wishes: call.wishes.clone(),
            answered: 0,
            result: None,
        }
    }

    /// The record of this set-up; `None` when nothing was called for it.
    pub(super) fn load(call: &Call<'_>) -> Result<Option<Self>, CniError> {
        let path = call.cache;
        let failed = |what: String| CniError::Record { path: path.to_owned(), what };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(file_error("opening", path, source)),
        };
        let mut text = Vec::new();
        let most = limits::CNI_RECORD_MAX as u64 + 1;
        file.take(most).read_to_end(&mut text).map_err(|source| file_error("reading", path, source))?;
        if text.len() > limits::CNI_RECORD_MAX {
            return Err(failed(format!("has more than {} bytes", limits::CNI_RECORD_MAX)));
        }
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| failed(format!("is damaged: {error}")))?;
        if stored.format != FORMAT {
            return Err(failed(format!("has the format {:?}, known is {FORMAT}", stored.format)));
        }
        if (stored.container.as_str(), stored.interface.as_str()) != (call.container, call.interface) {
            return Err(failed(format!(
                "is of {} in {}, and not of {} in {}",
                stored.interface, stored.container, call.interface, call.container
            )));
        }
        let list = List::parse(&stored.list).map_err(|error| failed(format!("is damaged: {error}")))?;
        let result = stored.result.as_deref().map(serde_json::from_str).transpose();
        let result = result.map_err(|error| failed(format!("has a damaged result: {error}")))?;
        let Stored { state, container, interface, wishes, answered, .. } = stored;
        Ok(Some(Self { state, container, interface, list, wishes, answered, result }))
    }

    /// Writes the first record of a set-up, and is back when a crash of the machine cannot lose it.
    pub(super) fn create(&self, path: &Path) -> Result<(), CniError> {
        if path.symlink_metadata().is_ok() {
            let what = "is there already: what it tells of must be undone by DEL first".to_owned();
            return Err(CniError::Record { path: path.to_owned(), what });
        }
        self.save(path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|source| {
            // Nothing was called yet.
            let _ = fs::remove_file(path);
            file_error("making durable", path, source)
        })
    }

    /// Writes it in the place of the one before. Either of them survives a crash, whole.
    pub(super) fn save(&self, path: &Path) -> Result<(), CniError> {
        let stored = Stored {
            format: FORMAT.to_owned(),
            state: self.state,
            container: self.container.clone(),
            interface: self.interface.clone(),
            wishes: self.wishes.clone(),
            answered: self.answered,
            list: self.list.text.clone(),
            result: self.result.as_ref().map(Value::to_string),
        };
        let text = serde_json::to_vec(&stored).map_err(|error| file_error("writing", path, error.into()))?;
        if text.len() > limits::CNI_RECORD_MAX {
            let what = format!("would have more than {} bytes", limits::CNI_RECORD_MAX);
            return Err(CniError::Record { path: path.to_owned(), what });
        }
        let new = beside(path);
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, path)
        });
        written.map_err(|source| {
            let _ = fs::remove_file(&new);
            file_error("writing", path, source)
        })
    }

    /// Everything is undone.
    pub(super) fn remove(path: &Path) -> Result<(), CniError> {
        for file in [path.to_owned(), beside(path)] {
            match fs::remove_file(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error("removing", &file, source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where the next record is written before it takes the place of this one.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn file_error(doing: &'static str, path: &Path, source: io::Error) -> CniError {
    CniError::RecordFile { doing, path: path.to_owned(), source }
}
