//! Arguments about schedules: of `run`, and of `schedule`.

use clap::{Args, Subcommand};
use hostler_model::schedule::{Misfire, Overlap, Schedule};
use hostler_model::units::parse_duration_ms;

/// When `run` runs it, instead of now; implies `--detach`.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArguments {
    /// Run it again and again, so long after each end; implies -d
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, group = "when", conflicts_with_all = ["interactive", "rm"])]
    pub every: Option<u64>,
    /// With --every: time until the first run, which otherwise starts at once
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms, requires = "every", conflicts_with = "cron")]
    pub first_after: Option<u64>,
    /// Run it at dates: 'MINUTE HOUR DAY MONTH WEEKDAY', with seconds before them if there are six, or @daily; implies -d
    #[arg(long, value_name = "EXPRESSION", group = "when", conflicts_with_all = ["interactive", "rm"])]
    pub cron: Option<String>,
    /// With --cron: where these dates are, such as Europe/Zurich; UTC when absent
    #[arg(long, value_name = "ZONE", requires = "cron", conflicts_with = "every")]
    pub time_zone: Option<String>,
    /// Runs that nobody could start in time (daemon down, machine asleep): skip (default), once for all, or all
    #[arg(long, value_name = "POLICY", value_parser = misfire, requires = "when")]
    pub misfire: Option<Misfire>,
    /// When the run before is not over: forbid the next (default), queue it, or replace the run
    #[arg(long, value_name = "POLICY", value_parser = overlap, requires = "when")]
    pub overlap: Option<Overlap>,
}

fn misfire(word: &str) -> Result<Misfire, String> {
    Misfire::from_word(word).ok_or_else(|| "write skip, once or all".to_owned())
}

fn overlap(word: &str) -> Result<Overlap, String> {
    Overlap::from_word(word).ok_or_else(|| "write forbid, queue or replace".to_owned())
}

impl ScheduleArguments {
    /// As the interface takes it; absent when nothing asks for a schedule.
    #[must_use]
    pub fn schedule(&self) -> Option<Schedule> {
        (self.every.is_some() || self.cron.is_some()).then(|| Schedule {
            every_ms: self.every,
            first_after_ms: self.first_after,
            cron: self.cron.clone(),
            time_zone: self.time_zone.clone(),
            misfire: self.misfire.unwrap_or_default(),
            overlap: self.overlap.unwrap_or_default(),
        })
    }
}

/// `hostler schedule …`
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List workloads with a schedule: when they run next, how the last run ended, what was missed
    #[command(visible_alias = "list", after_help = "Examples:\n  hostler schedule ls\n  hostler --json schedule ls")]
    Ls,
    /// Let no run start by itself until it is resumed; what runs goes on
    #[command(after_help = "Examples:\n  hostler schedule pause backup")]
    Pause(Scheduled),
    /// Let schedules go on, counted from now
    #[command(after_help = "Examples:\n  hostler schedule resume backup")]
    Resume(Scheduled),
    /// Run it now, beside the plan
    #[command(after_help = "Examples:\n  hostler schedule fire backup && hostler wait backup")]
    Fire(Scheduled),
}

/// Workloads with a schedule.
#[derive(Debug, Args)]
pub struct Scheduled {
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}
