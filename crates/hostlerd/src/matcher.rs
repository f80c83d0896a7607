//! Searches the output of one run for patterns, from its first line on, and tells of each pattern once.
//!
//! Everything comes from the log, whatever the run does meanwhile: lines written while no daemon was there are found
//! when one is, and lines written right before the end are found after it. An agent marks in the log where a run
//! begins, so neither clocks nor positions that somebody would have to remember are needed.
//!
//! A line longer than a log record is put together again, up to [`limits::MATCH_LINE_MAX`] bytes.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use hostler_api::types::LogStream;
use hostler_model::{ByteString, RunId, limits};
use hostler_provision::Pattern;
use hostler_supervisor::MatchedLine;
use tokio::sync::watch;

use crate::logs::{Filter, LogReader, Subscription, Watcher};
use crate::node::view::Seen;

/// Text searched in one go, bytes.
const BATCH: usize = 64 * 1024;
/// How often reading may fail in a row.
const ATTEMPTS: u32 = 5;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A pattern, and what it is known by.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) key: u8,
    pub(crate) pattern: Pattern,
    /// Only in this stream.
    pub(crate) stream: Option<LogStream>,
}

/// One search.
pub(crate) struct Matcher {
    directory: PathBuf,
    run: RunId,
    changes: Subscription,
    watched: watch::Receiver<Option<Seen>>,
    reader: Option<LogReader>,
    lines: Lines,
    failures: u32,
    over: bool,
}

/// Lines as they come, and what was found in them.
struct Lines {
    wanted: Vec<Wanted>,
    /// Lines that go on in the next record, by stream.
    open: [Vec<u8>; 2],
    found: VecDeque<(u8, MatchedLine)>,
}

impl Matcher {
    /// Begins a search. `watched` tells of the run's workload; `directory` is its log.
    pub(crate) fn new(
        watcher: &Watcher,
        directory: PathBuf,
        run: RunId,
        watched: watch::Receiver<Option<Seen>>,
        wanted: Vec<Wanted>,
    ) -> Self {
        // Subscribe first, then read: nothing written in between is missed.
        let changes = watcher.watch(&directory);
        let lines = Lines { wanted, open: [Vec::new(), Vec::new()], found: VecDeque::new() };
        Self { directory, run, changes, watched, reader: None, lines, failures: 0, over: false }
    }

    /// The next pattern that a line matches, with that line. `None`: every pattern was found, or the run is over and
    /// all its output was searched. Not to be dropped half-way and called again: what was read would be lost.
    pub(crate) async fn next(&mut self) -> Option<(u8, MatchedLine)> {
        loop {
            if let Some(found) = self.lines.found.pop_front() {
                return Some(found);
            }
            if self.over || self.lines.wanted.is_empty() {
                return None;
            }
            let seen = self.watched.borrow_and_update().clone();
            let was_over = is_over(seen.as_ref(), self.run);
            match self.read().await {
                Ok(true) if was_over => {
                    // The agent writes the last line before it tells of the end; one that died may have left a part.
                    self.over = true;
                    self.lines.end();
                }
                Ok(true) if self.lines.found.is_empty() => {
                    tokio::select! {
                        () = self.changes.changed() => {}
                        // The last word of a workload that is gone is that it is.
                        _ = self.watched.changed() => {}
                    }
                }
                // What was found is told before anything is waited for.
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(run = %self.run, %error, "searching a log");
                    self.failures += 1;
                    self.over = self.failures >= ATTEMPTS;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Searches what is there; whether that was all.
    async fn read(&mut self) -> io::Result<bool> {
        let reader = self.reader.take();
        let (directory, run) = (self.directory.clone(), self.run.number);
        let read = tokio::task::spawn_blocking(move || {
            let mut reader = match reader {
                Some(reader) => reader,
                None => LogReader::open(directory, Filter { run: Some(run), ..Filter::default() }, None)?,
            };
            let batch = reader.next_batch(BATCH)?;
            Ok::<_, io::Error>((reader, batch))
        });
        let (reader, batch) = read.await.map_err(io::Error::other)??;
        self.reader = Some(reader);
        self.failures = 0;
        if batch.lost_segments > 0 {
            tracing::warn!(run = %self.run, segments = batch.lost_segments, "output was rotated away before it was searched");
        }
        for (_, line) in &batch.lines {
            self.lines.take(line.stream, line.text.as_bytes(), line.partial);
        }
        Ok(batch.at_end || batch.lines.is_empty())
    }
}

impl Lines {
    fn take(&mut self, stream: LogStream, text: &[u8], partial: bool) {
        let open = &mut self.open[stream as usize];
        if !partial && open.is_empty() {
            return self.search(stream, text);
        }
        let room = limits::MATCH_LINE_MAX.saturating_sub(open.len());
        open.extend_from_slice(&text[..text.len().min(room)]);
        if !partial {
            let line = std::mem::take(open);
            self.search(stream, &line);
        }
    }

    fn end(&mut self) {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let line = std::mem::take(&mut self.open[stream as usize]);
            if !line.is_empty() {
                self.search(stream, &line);
            }
        }
    }

    fn search(&mut self, stream: LogStream, line: &[u8]) {
        let found = &mut self.found;
        self.wanted.retain(|wanted| {
            let matches = wanted.stream.is_none_or(|only| only == stream) && wanted.pattern.is_match(line);
            if matches {
                let text = ByteString::from(line[..line.len().min(limits::HOOK_LINE_MAX)].to_vec());
                found.push_back((wanted.key, MatchedLine { text, stream }));
            }
            !matches
        });
    }
}

/// Whether nothing more will be written by this run.
fn is_over(seen: Option<&Seen>, run: RunId) -> bool {
    let Some(seen) = seen.filter(|seen| !seen.removed) else { return true };
    let current = seen.workload.run.as_ref();
    current.is_none_or(|current| current.id.number > run.number || current.state.is_final())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_there_already_is_told_without_a_change() {
        let root = tempfile::tempdir().expect("a directory");
        let record = |text: &str| format!("2024-05-01T12:00:00.000000000Z stdout {text}\n");
        let log = [record("F:run=2 word"), record("F:run=3 other"), record("F word")].concat();
        std::fs::write(root.path().join("00000001.log"), log).expect("a log");
        let workload = serde_json::json!({
            "id": "00ff1234abcd", "namespace": "default", "name": "w", "generation": 1, "spec": {"command": ["x"]},
            "identity": {"uid": 0, "gid": 0}, "limits": {}, "desired": "run", "created_at_ms": 5, "runs": 3,
            "run": {"id": "00ff1234abcd-3", "state": "running", "created_at_ms": 5},
        });
        let workload = std::sync::Arc::new(serde_json::from_value(workload).expect("a workload"));
        let (_sender, watched) = watch::channel(Some(Seen { workload, removed: false }));
        let wanted = Wanted { key: 7, pattern: Pattern::new("^(word|other)$").expect("valid"), stream: None };
        let watcher = Watcher::new().expect("inotify");
        let run = "00ff1234abcd-3".parse().expect("a run");
        let mut matcher = Matcher::new(&watcher, root.path().to_owned(), run, watched, vec![wanted]);
        let (key, line) = matcher.next().await.expect("a line");
        assert_eq!((key, line.text.as_bytes()), (7, b"other".as_slice()));
        assert!(matcher.next().await.is_none(), "each pattern once");
    }

    #[test]
    fn long_lines_are_put_together_and_each_pattern_told_once() {
        let wanted = |key, pattern, stream| Wanted { key, pattern: Pattern::new(pattern).expect("valid"), stream };
        let wanted = vec![
            wanted(0, "^ab+c$", None),
            wanted(1, "err", Some(LogStream::Stderr)),
            wanted(2, "never", None),
            wanted(3, "tail$", None),
        ];
        let mut lines = Lines { wanted, open: [Vec::new(), Vec::new()], found: VecDeque::new() };
        lines.take(LogStream::Stdout, b"a", true);
        lines.take(LogStream::Stderr, b"nothing", false);
        lines.take(LogStream::Stdout, b"err", false);
        lines.take(LogStream::Stdout, b"a", true);
        lines.take(LogStream::Stderr, b"err", true);
        lines.take(LogStream::Stdout, b"bbb", true);
        lines.take(LogStream::Stdout, b"c", false);
        lines.take(LogStream::Stdout, b"abc", false);
        lines.take(LogStream::Stderr, b" of two", false);
        for _ in 0..100 {
            lines.take(LogStream::Stdout, &[b'x'; 16 * 1024], true);
        }
        assert!(lines.open[0].len() <= limits::MATCH_LINE_MAX);
        lines.take(LogStream::Stdout, b"never", false);
        lines.take(LogStream::Stdout, b"the tail", true);
        lines.end();
        let found: Vec<_> =
            lines.found.iter().map(|(key, line)| (*key, line.text.to_string_lossy().into_owned())).collect();
        let expected = [(0, "abbbc"), (1, "err of two"), (3, "the tail")];
        assert_eq!(found, expected.map(|(key, text)| (key, text.to_owned())));
        assert_eq!(lines.wanted.len(), 1);
    }
}
