//! The output of a workload, each stream to its own.

use std::io::{self, BufWriter, Stderr, Stdout, Write};

use hostler_api::client::{EventStream, LogItem};
use hostler_api::stream::LogLine;
use hostler_api::types::{LogStream, LogsQuery};
use tokio::time::Instant;

use super::{Context, is_break, pause};
use crate::cli::Logs;
use crate::failure::{Failure, Form};
use crate::output::{now_ms, remark};
use crate::parse;

pub(super) async fn logs(context: &Context, logs: &Logs) -> Result<u8, Failure> {
    let since_ms = logs.since.as_deref().map(|text| parse::moment_ms(text, now_ms())).transpose();
    let query = LogsQuery {
        follow: logs.follow,
        tail: logs.tail,
        since_ms: since_ms.map_err(Failure::usage)?,
        stream: match (logs.stdout, logs.stderr) {
            (true, false) => Some(LogStream::Stdout),
            (false, true) => Some(LogStream::Stderr),
            _ => None,
        },
        ..LogsQuery::default()
    };
    let mut printer = Printer::new(logs, context.form);
    let mut last_id: Option<String> = None;
    let mut broken_since: Option<Instant> = None;
    loop {
        let error = match context.client.logs(&logs.reference, &query, last_id.as_deref()).await {
            Ok(mut stream) => {
                let result = print_all(&mut stream, &mut printer).await;
                last_id = stream.last_id().map(str::to_owned);
                printer.flush()?;
                match result? {
                    None => return Ok(0),
                    Some(error) => {
                        broken_since = None;
                        error
                    }
                }
            }
            Err(error) if is_break(&error, broken_since.is_some()) => error,
            Err(error) => return Err(error.into()),
        };
        pause(&mut broken_since, error).await?;
    }
}

/// Prints until the end (`None`) or a break of the connection.
async fn print_all(
    stream: &mut EventStream<LogItem>,
    printer: &mut Printer,
) -> Result<Option<hostler_api::client::ClientError>, Failure> {
    loop {
        let item = tokio::select! {
            biased;
            item = stream.next() => item,
            // Nothing more is there at once: show what there is.
            () = std::future::ready(()), if printer.dirty => {
                printer.flush()?;
                continue;
            }
        };
        match item {
            Ok(Some(LogItem::Line(line))) => printer.print(&line)?,
            Ok(Some(LogItem::Lost(lost))) => {
                printer.flush()?;
                remark(format!("{} segments of the log were deleted before they were read", lost.segments));
            }
            Ok(None) => return Ok(None),
            Err(error) if error.is_disconnect() => return Ok(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
}

struct Printer {
    stdout: BufWriter<Stdout>,
    stderr: BufWriter<Stderr>,
    timestamps: bool,
    form: Form,
    /// The last record of the stream was a part of a line.
    within_line: [bool; 2],
    dirty: bool,
}

impl Printer {
    fn new(logs: &Logs, form: Form) -> Self {
        Self {
            stdout: BufWriter::new(io::stdout()),
            stderr: BufWriter::new(io::stderr()),
            timestamps: logs.timestamps,
            form,
            within_line: [false; 2],
            dirty: false,
        }
    }

    fn print(&mut self, line: &LogLine) -> Result<(), Failure> {
        self.dirty = true;
        if self.form == Form::Json {
            serde_json::to_writer(&mut self.stdout, line).map_err(io::Error::from)?;
            return Ok(self.stdout.write_all(b"\n")?);
        }
        let within = &mut self.within_line[line.stream as usize];
        match line.stream {
            LogStream::Stdout => print_line(&mut self.stdout, self.timestamps && !*within, line)?,
            LogStream::Stderr => print_line(&mut self.stderr, self.timestamps && !*within, line)?,
        }
        *within = line.partial;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.dirty = false;
        self.stdout.flush()?;
        self.stderr.flush()?;
        Ok(())
    }
}

fn print_line(writer: &mut impl Write, timestamp: bool, line: &LogLine) -> io::Result<()> {
    if timestamp {
        writer.write_all(line.time.as_bytes())?;
        writer.write_all(b" ")?;
    }
    writer.write_all(line.text.as_bytes())?;
    if line.partial { Ok(()) } else { writer.write_all(b"\n") }
}
