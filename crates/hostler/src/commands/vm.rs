//! What virtual machines need: setup, ls. Done by this program itself; the node need not run.

use std::fs::DirBuilder;
use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use hostler_image::ImageError;
use hostler_image::kernels::{Existing, Kernel, Kernels, Source};
use hostler_model::config::Config;
use hostler_model::error::{Problem, ProblemDocument, ProblemKind};
use hostler_model::units::format_size;

use super::{Context, width};
use crate::cli::{VmCommand, VmSetup};
use crate::failure::Failure;
use crate::output::{self, Cell, local_time, own_name, remark, say, say_json};

pub(super) fn vm(context: &Context, command: VmCommand) -> Result<u8, Failure> {
    match command {
        VmCommand::Setup(setup) => self::setup(context, setup),
        VmCommand::Ls(list) => self::list(context, list.directory),
    }
}

/// The kernels in this directory, or in the node's own: as its daemon finds them.
fn kernels(context: &Context, directory: Option<PathBuf>) -> Result<Kernels, Failure> {
    let directory = match directory {
        Some(directory) => directory,
        None => configured(context)?.unwrap_or_else(|| context.layout.kernels()),
    };
    let absolute = std::path::absolute(&directory);
    absolute.map(Kernels::new).map_err(|error| Failure::usage(format!("{}: {error}", directory.display())))
}

fn configured(context: &Context) -> Result<Option<PathBuf>, Failure> {
    let path = context.layout.config_file();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
    };
    let bad = |error: String| Failure::new(format!("{}: {error}", path.display()));
    let config: Config = toml::from_str(&text).map_err(|error| bad(error.to_string()))?;
    config.check().map_err(bad)?;
    Ok(config.vm.kernel_dir.map(PathBuf::from))
}

fn setup(context: &Context, setup: VmSetup) -> Result<u8, Failure> {
    let VmSetup { directory, package, kernel, modules, force } = setup;
    if directory.is_none() {
        make_data_directory(context)?;
    }
    let kernels = kernels(context, directory)?;
    let source = match (package, kernel) {
        (Some(package), _) => Source::Package(package),
        (None, Some(kernel)) => Source::Files { kernel, modules },
        (None, None) => Source::Distribution,
    };
    let existing = if force { Existing::Replace } else { Existing::Keep };
    let done = kernels.setup(&source, existing, &mut |line| remark(line)).map_err(failure)?;
    if context.json() {
        say_json(&done.kernel)?;
        return Ok(0);
    }
    let state = if done.was_there { "was set up before, --force makes it anew" } else { "is ready" };
    let place = done.kernel.image.display();
    say(format!("kernel {} {state}: {place}, {}", done.kernel.version, beside(&done.kernel)))?;
    Ok(0)
}

/// As the daemon and `up` make it.
fn make_data_directory(context: &Context) -> Result<(), Failure> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    let data = &context.layout.data;
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(data)
        .map_err(|source| failure(ImageError::Io { what: "make the directory", path: data.clone(), source }))
}

fn failure(error: ImageError) -> Failure {
    let problem = |kind| Failure::of_problem(ProblemDocument::from(&Problem::new(kind, error.to_string())));
    if error.is_permission() {
        return problem(ProblemKind::Forbidden).with_hint(
            "run it as the user of the node (such as root), or name a directory of your own with --directory DIR",
        );
    }
    problem(ProblemKind::Internal)
}

fn beside(kernel: &Kernel) -> String {
    let modules = kernel.modules.len() + kernel.modules_pci.len();
    let busybox = if kernel.busybox.is_some() { "busybox" } else { "no busybox" };
    format!("{modules} modules, {busybox}")
}

fn list(context: &Context, directory: Option<PathBuf>) -> Result<u8, Failure> {
    let kernels = kernels(context, directory)?;
    let found = kernels.list().map_err(failure)?;
    if context.json() {
        say_json(&found)?;
        return Ok(0);
    }
    if found.is_empty() && std::io::stdout().is_terminal() {
        let place = kernels.directory().display();
        say(format!("there are no kernels in {place}; make one ready with: {} vm setup", own_name()))?;
        return Ok(0);
    }
    let rows: Vec<Vec<Cell>> = found.iter().map(row).collect();
    let header = ["VERSION", "KIND", "SIZE", "MODULES", "SET UP", "FROM"];
    say(output::table(context.style, width(), &header, &rows).trim_end_matches('\n')).map(|()| 0)
}

fn row(kernel: &Kernel) -> Vec<Cell> {
    let modules = kernel.modules.len() + kernel.modules_pci.len();
    [
        kernel.version.clone(),
        kernel.kind.file_name().to_owned(),
        format_size(kernel.size_bytes()),
        modules.to_string(),
        local_time(kernel.made_at_ms),
        kernel.source.clone(),
    ]
    .map(Cell::plain)
    .into()
}
