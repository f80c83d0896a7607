//! Reading stack files, the same for daemon and client: TOML, or JSON by the name's end. What is relative in one
//! (`env_file`, `workdir`, files of stdio) is taken from the file's own directory, so that the node needs to know
//! nothing of the place where the file was.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hostler_model::ids::StackName;
use hostler_model::limits;
use hostler_model::stack::written::{Several, Written};
use hostler_model::stack::{Stack, Unit};
use thiserror::Error;

/// Why a stack file cannot be used.
#[derive(Debug, Error)]
pub enum StackFileError {
    /// It cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is larger than any stack is.
    #[error("{} is larger than {} bytes", path.display(), limits::STACK_FILE_MAX)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// Not TOML or JSON, an unknown key, or a value of the wrong type.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the key's path and the line.
        message: String,
    },
    /// More files than a directory of stacks may have, or none.
    #[error("{}: {message}", path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// A stack that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackFile {
    /// Where it was.
    pub path: PathBuf,
    /// Its own name, or that of its file.
    pub name: StackName,
    /// What it says, with everything relative resolved.
    pub stack: Stack,
}

/// The stack files that a path means: the file itself, or those in the directory that end in `.toml` or `.json`, by name.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, StackFileError> {
    let read = |source| StackFileError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if file.extension().is_some_and(|end| end == "toml" || end == "json") && file.is_file() {
            files.push(file);
        }
        if files.len() > limits::STACK_FILES_MAX {
            let message = format!("has more than {} stack files", limits::STACK_FILES_MAX);
            return Err(StackFileError::Directory { path: path.to_owned(), message });
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one stack file, and what it refers to.
pub fn load(path: &Path) -> Result<StackFile, StackFileError> {
    let text = read_text(path)?;
    let parse = |message: String| StackFileError::Parse { path: path.to_owned(), message };
    let is_json = path.extension().is_some_and(|end| end == "json");
    let mut stack = if is_json { from_json(text.as_bytes()) } else { from_toml(&text) }.map_err(parse)?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let name = stack.name.take().unwrap_or(stem);
    let name = name.parse().map_err(|error| parse(format!("name: {error}")))?;
    let absolute =
        std::path::absolute(path).map_err(|source| StackFileError::Read { path: path.to_owned(), source })?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    for unit in stack.service.values_mut().chain(stack.job.values_mut()) {
        resolve(unit, base)?;
    }
    for network in stack.network.values_mut() {
        resolve_list(&mut network.cni, base)?;
    }
    Ok(StackFile { path: path.to_owned(), name, stack })
}

/// A stack from TOML; the message names the key's path and the line.
pub fn from_toml(text: &str) -> Result<Stack, String> {
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let told = |error: &toml::de::Error| {
        let line = error.span().map_or_else(String::new, |span| format!("line {}: ", line(span.start)));
        format!("{line}{}", error.message())
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| told(&error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| with_path(error.path(), &told(error.inner())))
}

/// A stack from JSON; the message names the key's path and the line.
pub fn from_json(bytes: &[u8]) -> Result<Stack, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let stack = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| with_path(error.path(), &error.inner().to_string()))?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(stack)
}

fn with_path(path: &serde_path_to_error::Path, message: &str) -> String {
    let path = path.to_string();
    if path.is_empty() || path == "." { message.to_owned() } else { format!("{path}: {message}") }
}

fn read_text(path: &Path) -> Result<String, StackFileError> {
    let read = |source| StackFileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let limit = limits::STACK_FILE_MAX as u64 + 1;
    File::open(path).map_err(read)?.take(limit).read_to_string(&mut text).map_err(read)?;
    if text.len() as u64 == limit {
        return Err(StackFileError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Makes everything relative absolute, and the variables of the `env_file`s the unit's own where it has none of that name.
fn resolve(unit: &mut Unit, base: &Path) -> Result<(), StackFileError> {
    let mut variables = BTreeMap::new();
    for file in std::mem::take(&mut unit.env_file).as_slice() {
        read_variables(&base.join(file), &mut variables)?;
    }
    variables.append(&mut unit.env);
    unit.env = variables;
    unit.env_file = Several::None;
    // A container's working directory is its own.
    let workdir = if unit.container.is_some() { &mut None } else { &mut unit.workdir };
    for path in [workdir, &mut unit.stdin, &mut unit.stdout, &mut unit.stderr].into_iter().flatten() {
        // `.` and what follows are taken off as far as that needs no look at the disk.
        let joined = base.join(&*path);
        *path = joined.components().collect::<PathBuf>().to_string_lossy().into_owned();
    }
    if let Some(container) = &mut unit.container {
        container.resolve(base);
    }
    Ok(())
}

/// Puts what the file says in the place of a CNI configuration list's path.
fn resolve_list(cni: &mut Option<String>, base: &Path) -> Result<(), StackFileError> {
    let Some(path) = cni.as_ref().filter(|written| !written.trim_start().starts_with('{')) else { return Ok(()) };
    *cni = Some(read_text(&base.join(path))?);
    Ok(())
}

/// `KEY=VALUE` lines; those that begin with `#` and empty ones do not count. Values are taken as they are.
fn read_variables(path: &Path, into: &mut BTreeMap<String, Written>) -> Result<(), StackFileError> {
    for (index, line) in read_text(path)?.lines().enumerate() {
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let parts = line.split_once('=').filter(|(key, _)| !key.is_empty() && !key.contains(char::is_whitespace));
        let Some((key, value)) = parts else {
            let message = format!("line {}: {line:?} is not KEY=VALUE", index + 1);
            return Err(StackFileError::Parse { path: path.to_owned(), message });
        };
        into.insert(key.to_owned(), Written(value.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_name_path_and_line() {
        let cases = [
            ("[service.web]\ncommand = \"x\"\ncolour = 1\n", ["service.web", "line 3", "colour"]),
            ("[service.web]\ncommand = 7\n", ["service.web.command", "line 2", "text"]),
            ("[service.web.ready]\ntpc = 80\n", ["service.web.ready", "line 2", "tpc"]),
            ("[service.web\n", ["line 1", "", ""]),
            ("[service.web]\nreplicas = -1\n", ["service.web.replicas", "line 2", "-1"]),
            ("[service.web]\nrestart = 5\n", ["service.web.restart", "on-failure", ""]),
        ];
        for (text, words) in cases {
            let error = from_toml(text).expect_err(text);
            assert!(words.iter().all(|word| error.contains(word)), "{error:?} lacks one of {words:?}");
        }
        let error = from_json(br#"{"job":{"a":{"command":["x"],"stop":{"sig":"TERM"}}}}"#).expect_err("unknown key");
        assert!(error.contains("job.a.stop") && error.contains("sig"), "{error}");
        assert!(from_json(b"{} x").is_err());
    }

    #[test]
    fn what_is_relative_is_taken_from_the_files_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("one.env"), "# c\nA=1\nB=one\n\n").expect("write");
        std::fs::write(at("two.env"), "B=two two\nC=x=y\n").expect("write");
        let text = "[service.web]\ncommand = \"x\"\nenv_file = [\"one.env\", \"two.env\"]\nworkdir = \"./srv\"\n\
                    stdout = \"/abs\"\n[service.web.env]\nC = 3\n";
        std::fs::write(at("shop.toml"), text).expect("write");
        let file = load(&at("shop.toml")).expect("good");
        assert_eq!(file.name.as_str(), "shop");
        let web = &file.stack.service["web"];
        let env: Vec<_> = web.env.iter().map(|(key, value)| format!("{key}={}", value.as_str())).collect();
        assert_eq!(env, ["A=1", "B=two two", "C=3"]);
        assert_eq!(web.workdir.as_deref(), at("srv").to_str());
        assert_eq!(web.stdout.as_deref(), Some("/abs"));
        assert!(hostler_model::stack::check(&file.stack).mistakes.is_empty());
        std::fs::write(at("bad.toml"), "name = \"a.b\"\n").expect("write");
        assert!(load(&at("bad.toml")).expect_err("a dot").to_string().contains("no dot"));
        std::fs::write(at("one.env"), "A 1\n").expect("write");
        assert!(load(&at("shop.toml")).expect_err("no KEY=VALUE").to_string().contains("one.env: line 1"));
        assert_eq!(files(dir.path()).expect("two").len(), 2);
    }

    #[test]
    fn a_cni_list_is_taken_along() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("blue.conflist"), "{\"name\":\"blue\"}").expect("write");
        let stack = dir.path().join("net.toml");
        let text = "[network.blue]\ncni = \"blue.conflist\"\n[network.red]\ncni = '{\"name\":\"red\"}'\n";
        std::fs::write(&stack, text).expect("write");
        let file = load(&stack).expect("good");
        let list = |name: &str| file.stack.network[name].cni.clone();
        assert_eq!(list("blue").as_deref(), Some("{\"name\":\"blue\"}"));
        assert_eq!(list("red").as_deref(), Some("{\"name\":\"red\"}"));
        assert!(hostler_model::stack::check(&file.stack).mistakes.is_empty());
        std::fs::write(&stack, "[network.blue]\ncni = \"green.conflist\"\n").expect("write");
        assert!(load(&stack).expect_err("no such file").to_string().contains("green.conflist"));
    }
}
