//! A program's streams connected to this terminal: what `run`, `exec` and `attach` share.
//!
//! ```text
//! connect ──► pump ──► at rest ──► exit code
//!    ▲          │ broken
//!    └── retry ◄┘
//!         │ gone from the node, or at rest
//!         └─► settle: what the node recorded about the end, and the rest of the output from the log
//! ```
//! An attachment follows the workload through its restarts; offsets begin again with each run. Every received byte is counted, so that after a break the node goes on exactly where it stopped. Stdin has no such
//! count: what was under way when the connection broke may be lost, and that is said.

mod settle;
mod signals;

use std::collections::VecDeque;
use std::time::Duration;

use hostler_api::client::{Client, ClientError, Frame, StreamReceiver, StreamSender};
use hostler_api::stream::{AttachQuery, FromServer, ToServer};
use hostler_api::types::{ExecRequest, KillRequest, StopRequest};
use hostler_model::error::ProblemKind;
use hostler_model::units::Signal;
use hostler_model::{Cause, ExecId, ExitStatus, RunId, RunState};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::signals::{Signals, Told};
use crate::commands::RECONNECT_MAX;
use crate::failure::{Failure, TOOL_FAILED};
use crate::output::{self, own_name};
use crate::stdio::{self, Input, Keys, Output};
use crate::terminal::{self, RawMode, Spinner};

/// So many Ctrl-C within this time mean: let me go.
const LEAVE_PRESSES: usize = 3;
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Between two attempts to reach a daemon that went away.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long saying goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_millis(200);
/// Exit code when the terminal was closed: 128 + SIGHUP.
const HUNG_UP: u8 = 129;
/// Messages to the node that may wait.
const OUTGOING_QUEUE: usize = 4;

/// What is connected.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// The run that this command has made.
    Own {
        /// Removed at its end, and stopped when this command dies.
        remove: bool,
        /// It has a restart policy.
        restarts: bool,
    },
    /// A run of someone else.
    Guest {
        /// Without the output before.
        no_backlog: bool,
    },
    /// A second program in a run.
    Exec(Box<ExecRequest>),
}

/// What to connect, and how.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The workload.
    pub(crate) reference: String,
    /// Its name, for people.
    pub(crate) name: String,
    pub(crate) subject: Subject,
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// Signals are caught from here on, before the program is asked for.
pub(crate) struct Foreground {
    client: Client,
    signals: Signals,
    output: Output,
    /// Signals that came before there was anything to send them to.
    early: Vec<Signal>,
}

/// The door to knock at.
enum Door {
    Attach(AttachQuery),
    Exec(ExecRequest),
}

/// How one connection came to its end.
enum Outcome {
    /// The program ended, or this command leaves; with the exit code.
    Done(u8),
    /// The workload is at rest; how its last run came out.
    Ended(RunId, RunState),
    /// The connection broke.
    Broken(ClientError),
}

/// All that lives longer than one connection.
struct Session {
    client: Client,
    plan: Plan,
    signals: Signals,
    output: Output,
    stdin: Option<mpsc::Receiver<Input>>,
    unsent: Option<ToSend>,
    /// Bytes received on stdout and stderr of this run.
    received: [u64; 2],
    run: Option<RunId>,
    /// The run whose streams came over this connection.
    shown: Option<RunId>,
    exec: Option<ExecId>,
    presses: VecDeque<Instant>,
    raw: Option<RawMode>,
    spinner: Spinner,
}

enum ToSend {
    Stdin(Vec<u8>),
    Control(ToServer),
}

impl Foreground {
    pub(crate) fn new(client: Client) -> Result<Self, Failure> {
        let signals = Signals::catch().map_err(|error| Failure::new(format!("cannot catch signals: {error}")))?;
        Ok(Self { client, signals, output: Output::new()?, early: Vec::new() })
    }

    /// Asks for the program. A signal meanwhile is kept for it; the second one leaves.
    pub(crate) async fn prepare<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                result = &mut work => return Ok(result),
                told = self.signals.next() => match told {
                    Told::Stop(signal) => {
                        if !self.early.is_empty() {
                            return Err(Failure::silent(128 + signal.number()));
                        }
                        self.early.push(signal);
                    }
                    Told::Hangup => return Err(Failure::silent(HUNG_UP)),
                    Told::Resize => {}
                }
            }
        }
    }

    /// Connects, and comes back with this command's exit code.
    pub(crate) async fn follow(self, plan: Plan) -> Result<u8, Failure> {
        let stdin = if plan.stdin {
            let keys = if plan.tty { Keys::Detach } else { Keys::None };
            Some(stdio::read_stdin(keys).map_err(|error| Failure::new(format!("cannot read stdin: {error}")))?)
        } else {
            None
        };
        let raw = match (plan.tty, plan.stdin) {
            (true, true) => RawMode::enter().or_else(RawMode::of_output),
            (true, false) => RawMode::of_output(),
            (false, _) => None,
        };
        let spinner = Spinner::new(format!("starting {}", plan.name));
        let mut session = Session {
            client: self.client,
            plan,
            signals: self.signals,
            output: self.output,
            stdin,
            unsent: None,
            received: [0; 2],
            run: None,
            shown: None,
            exec: None,
            presses: VecDeque::new(),
            raw,
            spinner,
        };
        for signal in self.early {
            session.forward(signal);
        }
        let result = session.until_done().await;
        session.spinner.stop();
        session.raw = None;
        result
    }
}

impl Session {
    async fn until_done(&mut self) -> Result<u8, Failure> {
        let mut broken_since: Option<Instant> = None;
        loop {
            let connected = match self.connect().await {
                Ok(connected) => connected,
                Err(code) => return Ok(code),
            };
            let error = match connected {
                Ok((sender, receiver)) => match self.pump(sender, receiver).await? {
                    Outcome::Done(code) => return Ok(code),
                    Outcome::Ended(run, state) => return self.at_rest(run, &state).await,
                    Outcome::Broken(error) => {
                        broken_since = None;
                        error
                    }
                },
                Err(error) if error.is_disconnect() => error,
                Err(error) => return self.settle(error).await,
            };
            if matches!(self.plan.subject, Subject::Exec(_)) {
                // Nobody can connect to an exec again.
                let goes_on = self.exec.map(|exec| format!("exec {exec} in {} may go on; {error}", self.plan.name));
                let failure = Failure::from(error);
                return Err(goes_on.map_or(failure, Failure::new).of_tool());
            }
            let since = *broken_since.get_or_insert_with(|| {
                // In raw mode a line feed alone does not go back to the line's begin.
                let lost = if self.plan.stdin { "; stdin that was under way may be lost" } else { "" };
                output::remark(format!("the connection to the node broke, trying again for 30s{lost}\r"));
                Instant::now()
            });
            if since.elapsed() >= RECONNECT_MAX {
                return Err(Failure::from(error).with_hint(self.way_back()).of_tool());
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PAUSE) => {}
                told = self.signals.next() => {
                    // There is nobody to pass it to.
                    match told {
                        Told::Stop(signal) => return Ok(128 + signal.number()),
                        Told::Hangup => return Ok(HUNG_UP),
                        Told::Resize => {}
                    }
                }
            }
        }
    }

    /// Connects; an exit code when a signal says to leave before that came about.
    async fn connect(&mut self) -> Result<Result<(StreamSender, StreamReceiver), ClientError>, u8> {
        let connecting = connect(self.client.clone(), self.plan.reference.clone(), self.door());
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                connected = &mut connecting => return Ok(connected),
                told = self.signals.next() => {
                    if let Some(code) = self.on_signal(told, None) {
                        return Err(code);
                    }
                }
                () = self.spinner.turn() => {}
            }
        }
    }

    fn door(&self) -> Door {
        let resume = self.run.is_some();
        match &self.plan.subject {
            Subject::Exec(request) => Door::Exec((**request).clone()),
            Subject::Own { .. } => Door::Attach(AttachQuery {
                owner: true,
                stdin: self.plan.stdin,
                run: self.run,
                stdout_offset: resume.then_some(self.received[0]),
                stderr_offset: resume.then_some(self.received[1]),
                ..AttachQuery::default()
            }),
            // A guest does not know where his backlog began, so he cannot count.
            Subject::Guest { no_backlog } => Door::Attach(AttachQuery {
                stdin: self.plan.stdin,
                no_backlog: *no_backlog || resume,
                ..AttachQuery::default()
            }),
        }
    }

    /// Carries bytes both ways until the end or a break.
    async fn pump(&mut self, sender: StreamSender, mut receiver: StreamReceiver) -> Result<Outcome, Failure> {
        self.shown = None;
        // Its own task: the node may take no stdin until its output is read.
        let (outgoing, queue) = mpsc::channel(OUTGOING_QUEUE);
        let writer = tokio::spawn(send_all(sender, queue));
        if let Some(size) = terminal::size().filter(|_| self.plan.tty) {
            outgoing.try_send(ToSend::Control(ToServer::Resize { size })).ok();
        }
        let mut outcome = None;
        let result = loop {
            if self.output.is_empty()
                && let Some(outcome) = outcome.take()
            {
                break Ok(outcome);
            }
            tokio::select! {
                told = self.signals.next() => {
                    if let Some(code) = self.on_signal(told, Some(&outgoing)) {
                        break Ok(Outcome::Done(code));
                    }
                }
                written = self.output.drain(), if !self.output.is_empty() => {
                    if let Err(error) = written {
                        self.unread();
                        break Err(Failure::from(error));
                    }
                }
                frame = receiver.next(), if self.output.is_empty() => {
                    self.spinner.stop();
                    match frame {
                        Ok(Some(Frame::Output(stream, data))) => {
                            self.received[stream as usize] += data.len() as u64;
                            self.output.push(stream, &data);
                        }
                        Ok(Some(Frame::Control(control))) => match self.on_control(control) {
                            Ok(done) => outcome = done,
                            Err(failure) => break Err(failure),
                        },
                        Ok(None) => {
                            outcome = Some(Outcome::Broken(ClientError::Disconnected("the node closed the stream".to_owned())));
                        }
                        Err(error) if error.is_disconnect() => outcome = Some(Outcome::Broken(error)),
                        Err(error) => break Err(error.into()),
                    }
                }
                input = next_input(&mut self.stdin), if self.unsent.is_none() => match input {
                    Some(Input::Data(data)) => self.unsent = Some(ToSend::Stdin(data)),
                    Some(Input::Eof) => self.unsent = Some(ToSend::Control(ToServer::StdinEof)),
                    Some(Input::Detach) => break Ok(Outcome::Done(self.left())),
                    None => self.stdin = None,
                },
                permit = outgoing.reserve(), if self.unsent.is_some() => match permit {
                    Ok(permit) => {
                        if let Some(message) = self.unsent.take() {
                            permit.send(message);
                        }
                    }
                    // The writer is gone, so is the connection; the receiver will say how.
                    Err(_) => self.unsent = None,
                },
                () = self.spinner.turn() => {}
            }
        };
        drop(outgoing);
        say_goodbye(&result, writer).await;
        result
    }

    fn on_control(&mut self, control: FromServer) -> Result<Option<Outcome>, Failure> {
        match control {
            FromServer::Attached { run, .. } => {
                if self.run.is_some_and(|known| known != run) {
                    self.received = [0; 2];
                }
                self.run = Some(run);
                self.shown = Some(run);
            }
            FromServer::ExecStarted { exec, .. } => self.exec = Some(exec),
            FromServer::Dropped { stream, bytes } => {
                self.received[stream as usize] += bytes;
                output::remark(format!("{bytes} bytes were left out here because this reader was slow\r"));
            }
            FromServer::Ended { run, state } => return Ok(Some(Outcome::Ended(run, state))),
            FromServer::ExecEnded { exit, .. } => return Ok(Some(Outcome::Done(exit.status.shell_code()))),
            FromServer::Problem { problem } => {
                if problem.kind() == Some(ProblemKind::Unavailable) {
                    return Ok(Some(Outcome::Broken(ClientError::Problem(problem, None))));
                }
                return Err(Failure::from(ClientError::Problem(problem, None)).of_tool());
            }
        }
        Ok(None)
    }

    /// What a signal to this command does. An exit code when it leaves.
    fn on_signal(&mut self, told: Told, outgoing: Option<&mpsc::Sender<ToSend>>) -> Option<u8> {
        let signal = match told {
            Told::Resize => {
                if let (Some(outgoing), Some(size)) = (outgoing, terminal::size().filter(|_| self.plan.tty)) {
                    // When the queue is full of stdin, the next resize will do.
                    outgoing.try_send(ToSend::Control(ToServer::Resize { size })).ok();
                }
                return None;
            }
            // Nobody looks any more: this command is gone, and the node does what that means for the run.
            Told::Hangup => return Some(HUNG_UP),
            Told::Stop(signal) => signal,
        };
        if let Subject::Guest { .. } = self.plan.subject {
            return Some(if signal == Signal::INT { self.left() } else { 128 + signal.number() });
        }
        if signal == Signal::INT {
            let now = Instant::now();
            self.presses.retain(|press| now - *press < LEAVE_WITHIN);
            self.presses.push_back(now);
            if self.presses.len() >= LEAVE_PRESSES {
                self.left();
                return Some(128 + signal.number());
            }
        }
        self.forward(signal);
        None
    }

    /// Passes a signal on, beside the loop.
    fn forward(&self, signal: Signal) {
        let client = self.client.clone();
        let reference = self.plan.reference.clone();
        let exec = self.exec;
        // With a restart policy a killed program would come back; who presses Ctrl-C wants it to end.
        let stop = matches!(self.plan.subject, Subject::Own { restarts: true, .. });
        tokio::spawn(async move {
            let stop_request = StopRequest { signal: Some(signal), grace_ms: None };
            let answer = if stop {
                client.stop(&reference, &stop_request).await
            } else {
                match client.kill(&reference, &KillRequest { signal, exec, pid: None }).await {
                    // Not yet started: there is no process to send it to.
                    Err(error) if exec.is_none() && error.problem_kind() == Some(ProblemKind::Conflict) => {
                        client.stop(&reference, &stop_request).await
                    }
                    answer => answer,
                }
            };
            match answer {
                Ok(_) => {}
                // It ended meanwhile.
                Err(error) if matches!(error.problem_kind(), Some(ProblemKind::Conflict | ProblemKind::NotFound)) => {}
                Err(error) => output::remark(format!("SIG{signal} was not passed on: {error}\r")),
            }
        });
    }

    /// Says what goes on when the output cannot be written any more, mostly because its reader is gone.
    fn unread(&mut self) {
        if let Subject::Own { remove: false, .. } = self.plan.subject {
            self.raw = None;
            let name = &self.plan.name;
            output::remark(format!("left; {name} goes on: stop it with `{} stop {name}`", own_name()));
        }
    }

    /// What to do when the daemon did not come back.
    fn way_back(&self) -> String {
        let name = &self.plan.name;
        let hostler = own_name();
        match &self.plan.subject {
            Subject::Own { remove: true, .. } => {
                format!("{name} may go on; `{hostler} up` starts the node again, and that removes it (--rm)")
            }
            _ => format!("{name} may go on; come back to it with `{hostler} up`, then `{hostler} attach {name}`"),
        }
    }

    /// Says what goes on without this command.
    fn left(&mut self) -> u8 {
        self.raw = None;
        let name = &self.plan.name;
        let hostler = own_name();
        match &self.plan.subject {
            Subject::Own { remove: true, .. } => output::remark(format!("left; {name} is stopped and removed (--rm)")),
            Subject::Exec(_) => output::remark(format!("left; what was started in {name} may go on")),
            _ => output::remark(format!("left; {name} goes on: `{hostler} attach {name}`, `{hostler} stop {name}`")),
        }
        0
    }
}

async fn connect(client: Client, reference: String, door: Door) -> Result<(StreamSender, StreamReceiver), ClientError> {
    let streams = match door {
        Door::Attach(query) => client.attach(&reference, &query).await?,
        Door::Exec(request) => client.exec(&reference, request).await?,
    };
    Ok(streams.split())
}

async fn next_input(stdin: &mut Option<mpsc::Receiver<Input>>) -> Option<Input> {
    match stdin {
        Some(stdin) => stdin.recv().await,
        None => std::future::pending().await,
    }
}

async fn send_all(mut sender: StreamSender, mut queue: mpsc::Receiver<ToSend>) {
    while let Some(message) = queue.recv().await {
        let sent = match &message {
            ToSend::Stdin(data) => sender.stdin(data).await,
            ToSend::Control(control) => sender.control(control).await,
        };
        if sent.is_err() {
            return;
        }
    }
    // The loop is over: say goodbye as far as that is possible at once.
    sender.close().await.ok();
}

/// The exit code for the end of a run; an end that is not the program's own is said in a line.
fn tell_end(name: &str, state: &RunState) -> u8 {
    match state {
        RunState::Ended { exit } => match (exit.cause, exit.status) {
            (Cause::Oom, _) => output::remark(format!("{name} was killed: it reached its memory limit")),
            (Cause::Timeout, _) => output::remark(format!("{name} was stopped: it ran longer than --max-time")),
            (Cause::Machine, _) => {
                let note = exit.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
                output::remark(format!("{name} ended with its virtual machine{note}"));
            }
            (Cause::Signal, ExitStatus::Signal(signal)) => output::remark(format!("{name} was ended by SIG{signal}")),
            _ => {}
        },
        RunState::Failed { failure } => output::remark(format!("{name} was not started: {}", failure.message)),
        RunState::Lost { reason } => {
            output::remark(format!("nobody can say how {name} ended: {}", output::lost_words(*reason)));
        }
        _ => {}
    }
    state.shell_code().unwrap_or(TOOL_FAILED)
}

/// Leaving is said, or the node would wait for this owner to come back.
async fn say_goodbye(result: &Result<Outcome, Failure>, writer: tokio::task::JoinHandle<()>) {
    match result {
        Ok(Outcome::Done(_)) | Err(_) => drop(tokio::time::timeout(GOODBYE_MAX, writer).await),
        Ok(_) => writer.abort(),
    }
}
