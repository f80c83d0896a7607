//! The end of a run that could not be attached to any more: it ended while the daemon or the connection was away.
//! The rest of its output comes from the log, how it ended from the record, or from the events if it was removed.

use hostler_api::client::{ClientError, LogItem};
use hostler_api::types::{EventsQuery, LogsQuery};
use hostler_model::error::ProblemKind;
use hostler_model::event::EventKind;
use hostler_model::{RunId, RunState};

use super::{Session, Subject, tell_end};
use crate::commands::patiently;
use crate::failure::Failure;
use crate::output;

impl Session {
    /// The workload is at rest. A run that was over before this connection has no streams any more, only its log.
    pub(super) async fn at_rest(&mut self, run: RunId, state: &RunState) -> Result<u8, Failure> {
        let own = matches!(self.plan.subject, Subject::Own { .. });
        if own && self.shown != Some(run) {
            self.rest_of_output(run, state).await?;
        }
        Ok(tell_end(&self.plan.name, state))
    }

    /// `error` is why it could not be attached to.
    pub(super) async fn settle(&mut self, error: ClientError) -> Result<u8, Failure> {
        let own = matches!(self.plan.subject, Subject::Own { .. });
        match error.problem_kind() {
            Some(ProblemKind::NotFound) if own => match self.end_in_events().await {
                Some(state) => Ok(tell_end(&self.plan.name, &state)),
                None => Err(Failure::from(error).of_tool()),
            },
            Some(ProblemKind::Conflict) if own || self.run.is_some() => {
                let view =
                    patiently(async || self.client.inspect(&self.plan.reference).await).await.map_err(Failure::from)?;
                let Some(run) = view.workload.run.as_ref().filter(|run| run.state.is_final()) else {
                    return Err(Failure::from(error).of_tool());
                };
                self.shown = None;
                self.at_rest(run.id, &run.state).await
            }
            _ => Err(Failure::from(error).of_tool()),
        }
    }

    /// The recorded end of a workload that is gone.
    async fn end_in_events(&self) -> Option<RunState> {
        let query = EventsQuery {
            filter: Some(format!("workload={}", self.plan.reference)),
            no_follow: true,
            ..EventsQuery::default()
        };
        let mut events = self.client.events(&query, None).await.ok()?;
        let mut end = None;
        while let Ok(Some(view)) = events.next().await {
            end = match view.event.kind {
                EventKind::RunExited { exit } => Some(RunState::Ended { exit }),
                EventKind::RunFailed { failure } => Some(RunState::Failed { failure }),
                EventKind::RunLost { reason } => Some(RunState::Lost { reason }),
                _ => end,
            };
        }
        end
    }

    /// Prints what the log has beyond the bytes received.
    async fn rest_of_output(&mut self, run: RunId, state: &RunState) -> Result<(), Failure> {
        // The log is the workload's: lines of earlier runs come before the start of this one.
        let since_ms = match state {
            RunState::Ended { exit } if run.number > 1 => Some(exit.started_at_ms),
            RunState::Ended { .. } | RunState::Lost { .. } => None,
            // It never started, so it wrote nothing.
            _ => return Ok(()),
        };
        let mut skip = if self.run == Some(run) { self.received } else { [0; 2] };
        let query = LogsQuery { since_ms, ..LogsQuery::default() };
        let opened = self.client.logs(&self.plan.reference, &query, None).await;
        let mut log = match opened {
            Ok(log) => log,
            Err(error) => {
                output::remark(format!("what it wrote while the connection was away is not kept: {error}"));
                return Ok(());
            }
        };
        while let Some(item) = log.next().await? {
            match item {
                LogItem::Line(line) => {
                    let mut data = line.text.as_bytes().to_vec();
                    if !line.partial {
                        data.push(b'\n');
                    }
                    let done = unread(&mut skip[line.stream as usize], data.len());
                    self.output.push(line.stream, &data[done..]);
                    self.output.drain().await?;
                }
                LogItem::Lost(_) => {
                    output::remark("some of the output is no longer in the log");
                    skip = [0; 2];
                }
            }
        }
        Ok(())
    }
}

/// How many of these bytes were received before; takes them off the count.
fn unread(skip: &mut u64, length: usize) -> usize {
    let done = usize::try_from(*skip).unwrap_or(usize::MAX).min(length);
    *skip -= done as u64;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_received_before_are_skipped_across_lines() {
        let mut skip = 7;
        assert_eq!([unread(&mut skip, 4), unread(&mut skip, 5), unread(&mut skip, 5)], [4, 3, 0]);
        assert_eq!(skip, 0);
    }
}
