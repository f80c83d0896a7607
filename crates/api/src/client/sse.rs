//! Server-sent events: the parser, which takes its input in any pieces, and typed streams over it.
//!
//! A stream that is over says so with `event: end`; a body that just stops is a broken connection, and the caller may
//! ask again with the last id seen.

use std::collections::VecDeque;
use std::marker::PhantomData;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use crate::stacks::StackView;
use crate::stream::{EventView, LogLine, LogLost};
use crate::types::Stats;
use crate::usage::StatsList;

/// Longest message, bytes: many times what the node ever sends.
const MESSAGE_MAX: usize = 8 * 1024 * 1024;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseMessage {
    /// The last id seen up to here.
    pub id: Option<String>,
    /// The `event` field; `message` when absent.
    pub event: String,
    /// The `data` lines, joined by line feeds.
    pub data: String,
}

/// The parser of the WHATWG event-stream format.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_return: bool,
    started: bool,
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
    ready: VecDeque<SseMessage>,
}

impl SseParser {
    /// Takes more input.
    pub fn push(&mut self, input: &[u8]) -> Result<(), ClientError> {
        for &byte in input {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    self.end_line(&line)?;
                }
                _ => self.line.push(byte),
            }
        }
        if self.line.len() + self.data.len() > MESSAGE_MAX {
            return Err(ClientError::protocol("a message of an event stream is too long"));
        }
        Ok(())
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Option<SseMessage> {
        self.ready.pop_front()
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), ClientError> {
        let line = std::str::from_utf8(line).map_err(ClientError::protocol)?;
        let line = if self.started { line } else { line.strip_prefix('\u{feff}').unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            self.end_message();
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            // A comment (nothing before the colon), `retry`, or a field of a later version.
            _ => {}
        }
        Ok(())
    }

    fn end_message(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            self.ready.push_back(SseMessage { id: self.id.clone(), event, data });
        }
    }
}

/// What a stream of server-sent events carries.
pub trait SseItem: Sized {
    /// Reads one message; `None` for messages that this version does not know.
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError>;
}

fn parse<T: DeserializeOwned>(message: &SseMessage) -> Result<T, ClientError> {
    serde_json::from_str(&message.data)
        .map_err(|error| ClientError::Protocol(format!("event {:?}: {error}", message.event)))
}

impl SseItem for EventView {
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError> {
        parse(message).map(Some)
    }
}

impl SseItem for StackView {
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError> {
        parse(message).map(Some)
    }
}

impl SseItem for StatsList {
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError> {
        parse(message).map(Some)
    }
}

impl SseItem for Stats {
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError> {
        parse(message).map(Some)
    }
}

/// One message of a log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// A line, or a part of one.
    Line(LogLine),
    /// A gap.
    Lost(LogLost),
}

impl SseItem for LogItem {
    fn from_message(message: &SseMessage) -> Result<Option<Self>, ClientError> {
        match message.event.as_str() {
            "line" => parse(message).map(|line| Some(Self::Line(line))),
            "lost" => parse(message).map(|lost| Some(Self::Lost(lost))),
            _ => Ok(None),
        }
    }
}

/// A stream of typed messages.
#[derive(Debug)]
pub struct EventStream<T> {
    body: Incoming,
    parser: SseParser,
    last_id: Option<String>,
    ended: bool,
    item: PhantomData<fn() -> T>,
}

impl<T: SseItem> EventStream<T> {
    pub(super) fn new(body: Incoming, last_id: Option<String>) -> Self {
        Self { body, parser: SseParser::default(), last_id, ended: false, item: PhantomData }
    }

    /// The next item; `None` when there will be nothing more. [`ClientError::Disconnected`] when the connection broke:
    /// ask again with [`Self::last_id`].
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        while !self.ended {
            while let Some(message) = self.parser.next_message() {
                if message.event == "end" {
                    self.ended = true;
                    return Ok(None);
                }
                let item = T::from_message(&message)?;
                if message.id.is_some() {
                    self.last_id = message.id;
                }
                if let Some(item) = item {
                    return Ok(Some(item));
                }
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.parser.push(frame.data_ref().map_or(&[], |data| data.as_ref()))?,
                Some(Err(error)) => return Err(ClientError::Disconnected(error.to_string())),
                None => return Err(ClientError::Disconnected("the stream stopped without its end".to_owned())),
            }
        }
        Ok(None)
    }

    /// The id of the last item, to go on from after a break.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last_id.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(pieces: &[&[u8]]) -> Vec<SseMessage> {
        let mut parser = SseParser::default();
        for piece in pieces {
            parser.push(piece).expect("valid");
        }
        std::iter::from_fn(|| parser.next_message()).collect()
    }

    fn message(id: Option<&str>, event: &str, data: &str) -> SseMessage {
        SseMessage { id: id.map(str::to_owned), event: event.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn any_split_gives_the_same_messages() {
        let text =
            "\u{feff}: hello\r\n\r\nid: 1\nevent: line\ndata: {\"a\":\ndata:  \"ü\"}\n\nretry: 5\ndata\r\rid: 2\r\n\
                    event:end\r\ndata: {}\r\n\r\nevent: no-data\n\ndata: not ended\n"
                .as_bytes();
        let expected = vec![
            message(Some("1"), "line", "{\"a\":\n \"ü\"}"),
            message(Some("1"), "message", ""),
            message(Some("2"), "end", "{}"),
        ];
        assert_eq!(messages(&[text]), expected);
        for at in 0..=text.len() {
            assert_eq!(messages(&[&text[..at], &text[at..]]), expected, "split at {at}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(messages(&bytes), expected);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = SseParser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..10).any(|_| parser.push(&piece).is_err()));
    }

    #[test]
    fn log_messages_are_typed() {
        let line = message(None, "line", r#"{"time":"t","stream":"stderr","text":"x"}"#);
        assert!(matches!(LogItem::from_message(&line), Ok(Some(LogItem::Line(_)))));
        assert!(matches!(
            LogItem::from_message(&message(None, "lost", r#"{"segments":2}"#)),
            Ok(Some(LogItem::Lost(_)))
        ));
        assert!(matches!(LogItem::from_message(&message(None, "later", "{}")), Ok(None)));
        assert!(LogItem::from_message(&message(None, "line", "{}")).is_err());
    }
}
