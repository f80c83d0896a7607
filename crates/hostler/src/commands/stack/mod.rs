//! Stacks: apply, down, diff, validate, ls, tree.
//!
//! - `tree`: a stack as lines

mod tree;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use hostler_api::stack_file::{self, StackFile, StackFileError};
use hostler_api::stacks::{ChangeKind, StackView};
use hostler_model::stack::{GenerationState, Mistake, check};
use serde::Serialize;
use tokio::time::Instant;

use super::{Context, is_break, patiently, pause};
use crate::cli::{StackApply, StackCommand, StackDiff, StackDown, StackTree, StackValidate};
use crate::failure::Failure;
use crate::output::{self, Cell, Style, Tone, say, say_json, say_json_line};

pub(super) async fn stack(context: &Context, command: StackCommand) -> Result<u8, Failure> {
    match command {
        StackCommand::Apply(apply) => self::apply(context, &apply).await,
        StackCommand::Down(down) => self::down(context, &down).await,
        StackCommand::Diff(diff) => self::diff(context, &diff).await,
        StackCommand::Validate(validate) => self::validate(context, &validate),
        StackCommand::Ls => ls(context).await,
        StackCommand::Tree(tree) => self::tree(context, &tree).await,
    }
}

impl From<StackFileError> for Failure {
    fn from(error: StackFileError) -> Self {
        Self::usage(error.to_string())
    }
}

/// Every file that these paths mean, in order.
fn paths_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let found = stack_file::files(path)?;
        if found.is_empty() {
            return Err(Failure::usage(format!("{} has no stack files (*.toml, *.json)", path.display())));
        }
        files.extend(found);
    }
    Ok(files)
}

fn complain(file: &str, mistakes: &[Mistake]) {
    for mistake in mistakes {
        output::remark(format!("{file}: {mistake}"));
    }
}

async fn apply(context: &Context, apply: &StackApply) -> Result<u8, Failure> {
    let files: Vec<StackFile> =
        paths_of(&apply.paths)?.iter().map(|path| stack_file::load(path)).collect::<Result<_, _>>()?;
    let mut is_good = true;
    let mut views = Vec::new();
    for file in &files {
        // Applying twice is applying: a daemon that dies under the question may be asked again.
        let ask = patiently(async || context.client.apply_stack(file.name.as_str(), &file.stack).await);
        let view = ask.await?;
        complain(&file.path.display().to_string(), &view.mistakes);
        is_good &= view.mistakes.is_empty();
        views.push(view);
    }
    if !apply.detach {
        for view in &mut views {
            if let Some(last) = until_settled(context, view).await? {
                *view = last;
            }
            is_good &= view.units.iter().all(is_in_service);
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    if is_good { Ok(0) } else { Err(Failure::silent(1)) }
}

/// As it was asked for: ready, or left out by its own condition; and no change that did not come through.
fn is_in_service(unit: &hostler_api::stacks::UnitView) -> bool {
    unit.next.is_none() && matches!(unit.state, GenerationState::Ready | GenerationState::Skipped { .. })
}

/// Says each change until nothing more happens. `None`: it is gone.
async fn until_settled(context: &Context, first: &StackView) -> Result<Option<StackView>, Failure> {
    let mut shown = Vec::new();
    let mut last = None;
    follow(context, first.name.as_str(), |view| {
        if !context.json() {
            for line in changes(context.style, &view, &mut shown) {
                say(line)?;
            }
        }
        let is_settled = view.settled;
        last = Some(view);
        Ok(!is_settled)
    })
    .await?;
    Ok(last)
}

/// A line for each unit that stands otherwise than the last time.
fn changes(style: Style, view: &StackView, shown: &mut Vec<(String, String)>) -> Vec<String> {
    let now: Vec<(String, String)> =
        view.units.iter().map(|unit| (format!("{}.{}", view.name, unit.name), tree::words(unit))).collect();
    let news = view.units.iter().zip(&now).filter(|(_, line)| !shown.contains(line));
    let lines = news.map(|(unit, (name, words))| format!("{name}: {}", style.paint(tree::tone(unit), words))).collect();
    *shown = now;
    lines
}

/// Shows each state of a stack for as long as it is wanted; false when the stack is gone before.
async fn follow(
    context: &Context,
    name: &str,
    mut show: impl FnMut(StackView) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let mut broken_since: Option<Instant> = None;
    let mut known = false;
    loop {
        let error = match context.client.stack_stream(name).await {
            Ok(mut stream) => loop {
                match stream.next().await {
                    Ok(Some(view)) => {
                        (broken_since, known) = (None, true);
                        if !show(view)? {
                            return Ok(true);
                        }
                        io::stdout().flush()?;
                    }
                    Ok(None) => return Ok(false),
                    Err(error) => break error,
                }
            },
            Err(error) if known && error.problem_kind() == Some(hostler_model::ProblemKind::NotFound) => {
                return Ok(false);
            }
            Err(error) => error,
        };
        if !is_break(&error, broken_since.is_some()) {
            return Err(error.into());
        }
        pause(&mut broken_since, error).await?;
    }
}

async fn down(context: &Context, down: &StackDown) -> Result<u8, Failure> {
    let mut names = Vec::new();
    for stack in &down.stacks {
        let path = Path::new(stack);
        if path.extension().is_some() && path.exists() {
            names.push(stack_file::load(path)?.name.to_string());
        } else {
            names.push(stack.clone());
        }
    }
    let mut views = Vec::new();
    for name in &names {
        views.push(patiently(async || context.client.down_stack(name).await).await?);
    }
    for name in &names {
        if !down.detach {
            let ended = follow(context, name, |view| Ok(view.down)).await;
            match ended {
                Ok(_) => {}
                // It was gone before anybody could look.
                Err(failure) if failure.kind() == Some(hostler_model::ProblemKind::NotFound) => {}
                Err(failure) => return Err(failure),
            }
        }
        if !context.json() {
            say(name)?;
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    Ok(0)
}

async fn diff(context: &Context, diff: &StackDiff) -> Result<u8, Failure> {
    let mut is_good = true;
    let mut all = Vec::new();
    for path in paths_of(&diff.paths)? {
        let file = stack_file::load(&path)?;
        let found = context.client.diff_stack(file.name.as_str(), &file.stack).await?;
        complain(&path.display().to_string(), &found.mistakes);
        is_good &= found.mistakes.is_empty();
        if context.json() {
            all.push(serde_json::json!({"stack": file.name, "changes": found.changes, "queues": found.queues,
                "networks": found.networks, "mistakes": found.mistakes}));
            continue;
        }
        for change in &found.queues {
            let (sign, tone, words) = match change.from {
                None => ("+", Tone::Good, format!("parallel {}", change.to)),
                Some(from) => ("~", Tone::Warning, format!("parallel {from} → {}", change.to)),
            };
            say(context.style.paint(tone, &format!("{sign} queue {}: {words}", change.queue)))?;
        }
        for network in &found.networks {
            say(context.style.paint(Tone::Good, &format!("+ network {network}")))?;
        }
        for change in &found.changes {
            let (sign, tone, words) = match &change.change {
                ChangeKind::Added => ("+", Tone::Good, String::new()),
                ChangeKind::Removed => ("-", Tone::Bad, String::new()),
                ChangeKind::Changed { keys } => ("~", Tone::Warning, format!(": {}", keys.join(", "))),
                ChangeKind::Scaled { from, to } => ("~", Tone::Warning, format!(": replicas {from} → {to}")),
            };
            say(context.style.paint(tone, &format!("{sign} {}.{}{words}", file.name, change.unit)))?;
        }
    }
    if context.json() {
        say_json(&all)?;
    }
    if is_good { Ok(0) } else { Err(Failure::silent(1)) }
}

/// What is said of one file with `--json`.
#[derive(Serialize)]
struct Validated {
    file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    mistakes: Vec<Mistake>,
}

fn validate(context: &Context, validate: &StackValidate) -> Result<u8, Failure> {
    let mut all = Vec::new();
    for path in paths_of(&validate.paths)? {
        let file = path.display().to_string();
        all.push(match stack_file::load(&path) {
            Ok(loaded) => Validated { file, problem: None, mistakes: check(&loaded.stack).mistakes },
            Err(error) => Validated { file, problem: Some(error.to_string()), mistakes: Vec::new() },
        });
    }
    let is_good = all.iter().all(|one| one.problem.is_none() && one.mistakes.is_empty());
    if context.json() {
        say_json(&all)?;
    } else {
        for one in &all {
            if let Some(problem) = &one.problem {
                output::remark(problem);
            }
            complain(&one.file, &one.mistakes);
            if one.problem.is_none() && one.mistakes.is_empty() {
                say(format!("{}: good", one.file))?;
            }
        }
    }
    if is_good { Ok(0) } else { Err(Failure::silent(1)) }
}

async fn ls(context: &Context) -> Result<u8, Failure> {
    let list = context.client.stacks().await?;
    for broken in &list.broken {
        output::remark(format!("startup file {}: {}", broken.file, broken.problem));
    }
    if context.json() {
        say_json(&list)?;
        return Ok(0);
    }
    let rows: Vec<Vec<Cell>> = list
        .stacks
        .iter()
        .map(|view| {
            let (tone, words) = tree::summary(view);
            vec![
                Cell::plain(view.name.to_string()),
                Cell::plain(view.revision.to_string()),
                Cell::plain(output::local_time(view.applied_at_ms)),
                Cell(words, tone),
            ]
        })
        .collect();
    if rows.is_empty() && io::stdout().is_terminal() {
        say(format!("there are no stacks; apply one with: {} stack apply FILE", output::own_name()))?;
        return Ok(0);
    }
    say(output::table(context.style, None, &["STACK", "REVISION", "APPLIED", "UNITS"], &rows).trim_end_matches('\n'))?;
    Ok(0)
}

async fn tree(context: &Context, tree: &StackTree) -> Result<u8, Failure> {
    let Some(name) = &tree.stack else {
        let list = context.client.stacks().await?;
        if context.json() {
            say_json(&list.stacks)?;
            return Ok(0);
        }
        for view in &list.stacks {
            say(tree::lines(context.style, view).join("\n"))?;
        }
        return Ok(0);
    };
    if !tree.follow {
        let view = context.client.stack(name).await?;
        if context.json() {
            say_json(&view)?
        } else {
            say(tree::lines(context.style, &view).join("\n"))?
        }
        return Ok(0);
    }
    let redraw = io::stdout().is_terminal() && !context.json();
    let mut height = 0;
    follow(context, name, |view| {
        if context.json() {
            say_json_line(&view)?;
            return Ok(true);
        }
        let lines = tree::lines(context.style, &view);
        if redraw && height > 0 {
            // Up to the first line of the last picture, and everything below it away.
            write!(io::stdout(), "\x1b[{height}A\x1b[J")?;
        }
        height = lines.len();
        say(lines.join("\n"))?;
        if !redraw {
            say("")?;
        }
        Ok(true)
    })
    .await?;
    Ok(0)
}
