//! What became of a workload, for people: a few lines about its end, then the last of its output.

use std::io::{self, Write};

use hostler_api::result::{ResultQuery, ResultStream, WorkloadResult};
use hostler_api::types::{WaitFor, WaitQuery};
use hostler_model::ProblemKind;
use hostler_model::exit::ExitStatus;
use hostler_model::outcome::Outcome;
use hostler_model::units::{format_duration, format_size};

use super::{Context, patiently};
use crate::cli::ResultArguments;
use crate::failure::Failure;
use crate::output::{Style, Tone, local_time, say_json};
use crate::terminal::with_spinner;

pub(super) async fn result(context: &Context, arguments: &ResultArguments) -> Result<u8, Failure> {
    let reference = arguments.reference.as_str();
    if arguments.wait {
        let query = WaitQuery { until: Some(WaitFor::Ended), ..WaitQuery::default() };
        let ask = patiently(async || context.client.wait(reference, &query).await);
        with_spinner(format!("waiting for {reference}"), ask).await?;
    }
    let query = ResultQuery { lines: Some(arguments.lines), ..ResultQuery::default() };
    let result = patiently(async || context.client.result(reference, &query).await).await.map_err(|error| {
        let none_yet = error.problem_kind() == Some(ProblemKind::Conflict);
        let failure = Failure::from(error);
        if none_yet { failure.with_hint("wait for it with --wait") } else { failure }
    })?;
    if context.json() {
        say_json(&result)?;
        return Ok(0);
    }
    let mut stdout = io::stdout().lock();
    for line in about(context.style, &result) {
        writeln!(stdout, "{line}")?;
    }
    print_stream(&mut stdout, context.style, "stdout", &result.stdout)?;
    print_stream(&mut stdout, context.style, "stderr", &result.stderr)?;
    stdout.flush()?;
    Ok(0)
}

fn about(style: Style, result: &WorkloadResult) -> Vec<String> {
    let tone = match result.outcome {
        Outcome::Success => Tone::Good,
        Outcome::Killed | Outcome::Cancelled => Tone::Warning,
        _ => Tone::Bad,
    };
    let status = match (&result.status, &result.reason) {
        (Some(ExitStatus::Code(code)), _) => format!(" (exit code {code})"),
        (Some(ExitStatus::Signal(signal)), _) => format!(" (SIG{signal})"),
        (None, Some(reason)) => format!(" ({reason})"),
        (None, None) => String::new(),
    };
    let mut lines = vec![format!("{}: {}{status}", result.name, style.paint(tone, result.outcome.as_str()))];
    let time = |what: &str, ms: Option<u64>| ms.map(|ms| format!("{what} {}", local_time(ms)));
    let times = [
        time("started", result.started_at_ms),
        time("ended", result.ended_at_ms),
        result.duration_ms.map(|ms| format!("took {}", format_duration(ms))),
        (result.runs > 1).then(|| format!("{} runs", result.runs)),
    ];
    lines.extend(joined(times));
    if let Some(usage) = &result.usage {
        let cpu = format_duration(usage.user_us.saturating_add(usage.system_us) / 1_000);
        let oom = (result.oom_kills > 0).then(|| format!("{} killed for memory", result.oom_kills));
        lines.extend(joined([
            Some(format!("cpu {cpu}")),
            Some(format!("largest process {}", format_size(usage.max_rss_bytes))),
            oom,
        ]));
    }
    if let Some(seen) = &result.statistics {
        let bytes = |what: &str, bytes: Option<u64>| bytes.map(|bytes| format!("{what} {}", format_size(bytes)));
        lines.extend(joined([
            Some(format!("{} samples", seen.samples)),
            Some(format!("cpu {}", format_duration(seen.cpu_us / 1_000))),
            Some(format!("memory {} at most", format_size(seen.rss_max_bytes))),
            Some(format!("{} in the mean", format_size(seen.rss_mean_bytes))),
            Some(format!("swap {} at most", format_size(seen.swap_max_bytes))),
            bytes("read", seen.read_bytes),
            bytes("written", seen.written_bytes),
        ]));
    }
    if !result.tags.is_empty() {
        lines.push(format!("tags {}", result.tags.join(", ")));
    }
    let labels: Vec<String> = result.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !labels.is_empty() {
        lines.push(format!("labels {}", labels.join(", ")));
    }
    lines
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The stream's lines, byte for byte, under its name; nothing for one without.
fn print_stream(writer: &mut impl Write, style: Style, name: &str, stream: &ResultStream) -> io::Result<()> {
    if stream.lines.is_empty() && stream.left_out == Some(0) {
        return Ok(());
    }
    let marker = |text: String| style.paint(Tone::Faint, &text);
    writeln!(writer, "{}", style.paint(Tone::Heading, &format!("{name}:")))?;
    match stream.left_out {
        Some(0) => {}
        Some(1) => writeln!(writer, "{}", marker("… 1 line left out".to_owned()))?,
        Some(count) => writeln!(writer, "{}", marker(format!("… {} lines left out", thousands(count))))?,
        None => writeln!(writer, "{}", marker("… nobody counted the lines before these".to_owned()))?,
    }
    for line in &stream.lines {
        writer.write_all(line.text.as_bytes())?;
        if line.cut_bytes > 0 {
            write!(writer, "{}", marker(format!(" … {} bytes left out", thousands(line.cut_bytes))))?;
        }
        writer.write_all(b"\n")?;
    }
    Ok(())
}

/// `1,234`
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_api::result::ResultLine;

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn what_is_left_out_is_said() {
        let line = |text: &[u8], cut_bytes| ResultLine { time: String::new(), text: text.to_vec().into(), cut_bytes };
        let shown = |left_out, lines| {
            let mut text = Vec::new();
            let stream = ResultStream { left_out, lines };
            print_stream(&mut text, Style::Plain, "stdout", &stream).expect("memory");
            text
        };
        assert!(shown(Some(0), Vec::new()).is_empty());
        assert_eq!(shown(Some(0), vec![line(b"\xff a", 0)]), b"stdout:\n\xff a\n");
        let text = String::from_utf8(shown(Some(1_234), vec![line(b"a", 0), line(b"b", 5_000)])).expect("text");
        assert_eq!(text, "stdout:\n… 1,234 lines left out\na\nb … 5,000 bytes left out\n");
        let text = String::from_utf8(shown(None, vec![line(b"a", 0)])).expect("text");
        assert!(text.contains("nobody counted"), "{text}");
    }
}
