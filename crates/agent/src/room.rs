//! Runs that are kept apart from the machine: what forked children make is in `hostler_linux::confine`; here is what the
//! agent does for it, which knows the program's process only when it is told.

use hostler_linux::confine::{Door, Room};
use hostler_linux::spawn::OomScore;
use hostler_linux::{process, procfs};
use hostler_model::launch::Confinement;
use hostler_model::rundir::RunFile;
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::AttachTarget;

use crate::child::system_failure;
use crate::run::{Run, with_source};
use crate::shared::Shared;
use crate::target::Target;

/// The room of a run.
pub(crate) struct RunRoom {
    room: Room,
    /// Its first process, once there is one. It is our child, and reaped like any orphan.
    pub(crate) init: Option<u32>,
    /// What is written down of the run as soon as its program's process is known.
    pub(crate) file: Option<RunFile>,
}

impl RunRoom {
    pub(crate) fn new(asked: Confinement) -> Result<Box<Self>, StartFailure> {
        Ok(Box::new(Self { room: Room::new(asked)?, init: None, file: None }))
    }

    /// How the next program gets in: the main program makes the room.
    pub(crate) fn door(&self) -> Door<'_> {
        match self.init {
            Some(init) => Door::Of(&self.room, init),
            None => Door::New(&self.room),
        }
    }
}

fn is_ours(pid: u32) -> bool {
    procfs::stats(pid).is_ok_and(|stats| stats.ppid == std::process::id())
}

impl Run {
    /// Hears those of whom the process with this number may be, before its end is anybody's.
    pub(crate) fn hear_staged(&mut self, pid: u32, shared: &mut Shared) {
        if self.targets.iter().any(|target| target.pid == pid) {
            return;
        }
        let staged: Vec<u32> = self.targets.iter().filter(|target| target.staged).map(|target| target.serial).collect();
        staged.into_iter().for_each(|serial| self.hear(serial, shared));
    }

    /// What was forked has made the process that becomes the program, as another child of ours.
    pub(crate) fn moved(&mut self, index: usize, (init, main): (u32, u32), shared: &mut Shared) {
        let (key, serial) = (self.targets[index].key, self.targets[index].serial);
        match self.take_in(index, (init, main), shared) {
            Ok(()) if key == AttachTarget::Main && self.execute => self.targets[index].go(),
            Ok(()) => {}
            Err(failure) => match key {
                AttachTarget::Main => self.fail(failure, shared),
                AttachTarget::Exec(exec) => {
                    if let Some(target) = self.targets.iter_mut().find(|target| target.serial == serial) {
                        target.close_control(shared);
                        target.signal(Signal::KILL);
                    }
                    self.exec_failed(index, exec, failure, shared);
                }
            },
        }
    }

    fn take_in(&mut self, index: usize, (init, main): (u32, u32), shared: &mut Shared) -> Result<(), StartFailure> {
        // It was said by a process with the rights of the workload's user: only our children are his.
        let expected = self.room.as_ref().and_then(|room| room.init);
        if !is_ours(main) || !is_ours(init) || expected.is_some_and(|expected| expected != init) {
            return Err(StartFailure {
                kind: StartFailureKind::Isolation,
                message: "what was made for the program is not a child of its agent".to_owned(),
            });
        }
        let target: &mut Target = &mut self.targets[index];
        target.pid = main;
        target.staged = false;
        let key = target.key;
        if let Some(group) = &self.group {
            group
                .join_process(main)
                .map_err(|error| StartFailure { kind: StartFailureKind::System, message: with_source(&error) })?;
        }
        if shared.config.oom_score == OomScore::Reset {
            process::reset_oom_score(main);
        }
        let Some(room) = self.room.as_mut().filter(|_| key == AttachTarget::Main) else { return Ok(()) };
        room.init = Some(init);
        let Some(mut file) = room.file.take() else { return Ok(()) };
        let named = procfs::process_id(main).map_err(|error| system_failure("look at the new process", &error))?;
        file.main = Some(named);
        self.name(&file, shared)
    }

    /// Before there is a main program, nobody but us ends what makes its room.
    pub(crate) fn leave_room(&mut self) {
        if self.room.is_some() {
            let _ = process::kill_descendants();
        }
    }
}
