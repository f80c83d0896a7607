//! Reading `hostler.toml`. A mistake names its line; a missing file is the default.

use std::io;
use std::path::{Path, PathBuf};

use hostler_model::config::Config;
use thiserror::Error;

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type; the text shows the line.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
    /// A value that makes no sense.
    #[error("{}: {message}", path.display())]
    Value {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// Reads a file that must be there if `required`.
pub fn load(path: &Path, required: bool) -> Result<Config, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(Config::default()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    let config: Config = toml::from_str(&text).map_err(|error| ConfigError::Parse {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })?;
    config.check().map_err(|message| ConfigError::Value { path: path.to_owned(), message })?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("hostler.toml");
        std::fs::write(&path, text).expect("write");
        load(&path, true).map_err(|error| error.to_string())
    }

    #[test]
    fn mistakes_name_their_line() {
        assert_eq!(load_text(""), Ok(Config::default()));
        assert_eq!(load_text("[pool.process]\nidle = 0\n").map(|config| config.pool.process.idle), Ok(0));
        let unknown = load_text("[node]\nworkers = 2\ncolour = \"red\"\n").expect_err("unknown key");
        assert!(unknown.contains("line 3") && unknown.contains("colour"), "{unknown}");
        let wrong = load_text("[node]\nworkers = \"two\"\n").expect_err("wrong type");
        assert!(wrong.contains("line 2"), "{wrong}");
        assert!(load_text("[node]\nworkers = 0\n").expect_err("senseless").contains("node.workers"));
        assert!(load_text("[vm]\nkernel_dir = \"kernels\"\n").expect_err("relative").contains("vm.kernel_dir"));
        assert!(load_text("[cgroup]\nparent = \"../x\"\n").is_err());
    }

    #[test]
    fn a_missing_file_is_the_default_unless_it_was_named() {
        let missing = Path::new("/nonexistent/hostler.toml");
        assert!(load(missing, true).is_err());
        assert_eq!(load(missing, false).expect("default"), Config::default());
    }
}
