//! Containers on a whole node, each test once for each OCI runtime of this machine.
//!
//! - `running`: every option of `run`, as a program inside sees it
//! - `bundles`: a `config.json` of its own, and what is asked on top of it
//! - `lifecycle`: order of events, ends, stop, kill, pause, update, out of memory, restarts, queues, hooks
//! - `execs`: second programs, many at once, with held pipes, in containers that end
//! - `deaths`: daemon or agent die at any point, reboots, parts removed by hand
//! - `failing`: an OCI runtime that hangs, fails, floods, dies or lies at each call
//! - `refusals`: what is refused, and how
//! - `checkpoints`: made, listed, removed, gone on from
//! - `escape`: what a container must not be able to do
//! - `programs`: nginx, redis, PostgreSQL, Python
//!
//! What broke in containerd's first supervisor, and what shows that it does not here:
//!
//! | defect | test |
//! |---|---|
//! | one call of the OCI runtime that hangs stands in the way of every request | `failing::a_hanging_create_delays_nobody`, `failing::at_exec`, `failing::at_delete`, `failing::at_checkpoint` |
//! | more slow starts than workers block the loop | `failing::a_hanging_create_delays_nobody` (14 of them) |
//! | the history of events is lost when the daemon starts | `deaths::adopted_by_the_next_daemon`, `crash` (of processes): the journal is checked at the end of every test, across restarts |
//! | a reader of history deadlocks with those who write it | `api::streams` (of processes): slow readers fall behind, and nobody waits for them |
//! | a fast end beats its own start | `lifecycle::fast_ends_never_beat_their_start`, `execs::many_at_once_each_with_its_own_end` |
//! | an exec whose child holds the pipe delays the end for ever | `execs::a_child_that_holds_the_pipe`, `execs::a_held_pipe_delays_the_end_by_a_second` |
//! | the end waits for every exec, of which one hangs | `execs::a_hanging_exec_delays_the_end_by_a_second` |
//! | how it ended cannot be asked later | `deaths::ended_while_nobody_looks`, `lifecycle::ends` |
//! | an update sets what it does not name to zero | `lifecycle::update_while_running` |
//! | capabilities are put into all sets | `running::capabilities_and_privileges`, `running::what_a_program_sees` (of other users), `execs::options_of_exec` |
//! | a list of checkpoints leaves out how and when they were made | `checkpoints::it_goes_on` |
//! | a name cannot be used again after the shim was killed | `deaths::the_agent_dies`, `lifecycle::the_name_is_free_again` |
//! | much output of an OCI runtime that fails blocks its pipe | `failing::at_create`, `failing::at_exec` (`FloodLog`, `FloodStderr`) |

mod bundles;
mod checkpoints;
mod deaths;
mod escape;
mod execs;
mod failing;
mod lifecycle;
mod programs;
mod refusals;
mod running;
