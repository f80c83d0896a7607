//! `run --each`: one job for every line of a file, in batches, in order. A daemon that dies meanwhile loses none and
//! makes none twice.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use hostler_model::{ByteString, Spec, limits};

use super::run::fresh_key;
use super::{Context, patiently};
use crate::failure::Failure;
use crate::output::{say, say_json_line};

/// A batch is sent when its commands and environment have so many bytes: half of what a body may have, for JSON.
const BATCH_BYTES: usize = limits::HTTP_BODY_MAX / 4;

pub(super) async fn each(context: &Context, spec: &Spec, file: &Path) -> Result<u8, Failure> {
    let name = if file.as_os_str() == "-" { "stdin".to_owned() } else { file.display().to_string() };
    let unreadable = |error: std::io::Error| Failure::usage(format!("--each: cannot read {name}: {error}"));
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    let mut lines = BufReader::new(input);
    let one = serde_json::to_vec(spec).map_or(0, |json| json.len());
    let (mut batch, mut bytes, mut refused) = (Vec::new(), 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        // One byte more than fits tells a line that is too long from one that is not.
        let most = limits::ARGUMENT_LENGTH_MAX as u64 + 2;
        let ended = (&mut lines).take(most).read_until(b'\n', &mut line).map_err(unreadable)? == 0;
        if line.len() as u64 == most {
            return Err(Failure::usage(format!("--each: a line of {name} is longer than an argument can be")));
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if !line.is_empty() {
            bytes += one + line.len() * 2;
            batch.push(with_line(spec, &line));
        }
        let full = batch.len() == limits::BATCH_MAX || bytes >= BATCH_BYTES;
        if full || (ended && !batch.is_empty()) {
            refused += send(context, &batch).await?;
            batch.clear();
            bytes = 0;
        }
        if ended {
            break;
        }
    }
    if refused > 0 {
        return Err(Failure::new(format!("{refused} jobs were refused")));
    }
    Ok(0)
}

/// The command for one line: `{}` stands for it, or it is the last argument.
fn with_line(spec: &Spec, line: &[u8]) -> Spec {
    let mut spec = spec.clone();
    let mut found = false;
    for argument in &mut spec.command {
        let bytes = argument.as_bytes();
        let Some(at) = bytes.windows(2).position(|pair| pair == b"{}") else { continue };
        found = true;
        let replaced = [&bytes[..at], line, &bytes[at + 2..]].concat();
        *argument = ByteString::from(std::ffi::OsStr::from_bytes(&replaced));
    }
    if !found {
        spec.command.push(ByteString::from(std::ffi::OsStr::from_bytes(line)));
    }
    spec
}

/// How many were refused.
async fn send(context: &Context, specs: &[Spec]) -> Result<u32, Failure> {
    let key = fresh_key();
    let report = patiently(async || context.client.create_batch(specs, Some(&key)).await).await?;
    let mut refused = 0;
    for (spec, result) in specs.iter().zip(&report.results) {
        if context.json() {
            say_json_line(result)?;
        }
        match (&result.id, &result.problem) {
            (Some(id), _) if !context.json() => say(id.to_string())?,
            (None, problem) => {
                refused += 1;
                if !context.json() {
                    let detail = problem.as_ref().map_or("refused", |problem| problem.detail.as_str());
                    crate::output::remark(format!("{}: {detail}", crate::output::command_line(&spec.command)));
                }
            }
            _ => {}
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_the_place_of_the_braces_or_comes_last() {
        let command = |words: &[&str]| Spec::new(words.iter().map(|word| (*word).into()).collect());
        let made = |words: &[&str], line: &str| {
            let spec = with_line(&command(words), line.as_bytes());
            spec.command.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(made(&["enc", "--in={}", "{}"], "a b.wav"), ["enc", "--in=a b.wav", "a b.wav"]);
        assert_eq!(made(&["enc"], "{}"), ["enc", "{}"]);
    }
}
