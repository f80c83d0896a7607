//! From a profile to a program of the kernel's classic BPF, see seccomp(2).
//!
//! System calls are sorted by number; neighbours with the same answer share one comparison, so that the default profile
//! takes some 200 instructions. Each block ends in an answer:
//!
//! ```text
//! another kind of program? → end it
//! number ≥ a?  no → answer of the numbers below a
//! number ≥ b?  no → conditions of that one call, the first that holds answers, else the default
//! …
//! ```

use std::collections::BTreeMap;
use std::io;

use super::numbers::{NEWEST, number};
use super::profile::{Action, Argument, Comparison, Profile, Rule};

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Offsets in the kernel's `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

/// Instructions that the kernel takes at most.
const INSTRUCTIONS_MAX: usize = 4_096;
/// The farthest a conditional jump reaches.
const JUMP_MAX: usize = u8::MAX as usize;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// A filter as the kernel takes it.
#[derive(Clone)]
pub struct Program(Vec<libc::sock_filter>);

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program({} instructions)", self.0.len())
    }
}

/// Why a profile cannot be made a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// An argument that no system call has.
    #[error("argument {index} of {name}: system calls have six, counted from 0")]
    Argument {
        /// Which was asked for.
        index: u8,
        /// Of this call.
        name: String,
    },
    /// The kernel would not take it.
    #[error("needs {instructions} instructions; the kernel takes {INSTRUCTIONS_MAX}")]
    TooLong {
        /// How many it needs.
        instructions: usize,
    },
}

fn op(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// What the kernel answers for an action.
fn answer(action: Action, data: Option<u32>) -> u32 {
    let errno = data.unwrap_or(libc::EPERM.cast_unsigned()) & libc::SECCOMP_RET_DATA;
    match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Errno => libc::SECCOMP_RET_ERRNO | errno,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Trace => libc::SECCOMP_RET_TRACE | errno,
        Action::Log => libc::SECCOMP_RET_LOG,
    }
}

/// Where a conditional jump of a rule goes.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The condition holds.
    Holds,
    /// The rule does not fit.
    Fails,
}

/// Tests one 64-bit argument in two halves; jumps are resolved when the lengths are known.
fn condition(argument: &Argument) -> Vec<(libc::sock_filter, To, To)> {
    let at = ARGUMENTS_AT + 8 * u32::from(argument.index);
    // Both machines of ours are little-endian.
    let (low_at, high_at) = (at, at + 4);
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    let plain = |code, k| (op(code, k), To::Next, To::Next);
    let (high, low) = halves(argument.value);
    let ordered = |above: To, below: To, last: u16, yes: To, no: To| {
        vec![
            plain(LOAD, high_at),
            (op(IF_ABOVE, high), above, To::Next),
            (op(IF_EQUAL, high), To::Next, below),
            plain(LOAD, low_at),
            (op(last, low), yes, no),
        ]
    };
    match argument.op {
        Comparison::Equal => vec![
            plain(LOAD, high_at),
            (op(IF_EQUAL, high), To::Next, To::Fails),
            plain(LOAD, low_at),
            (op(IF_EQUAL, low), To::Holds, To::Fails),
        ],
        Comparison::NotEqual => vec![
            plain(LOAD, high_at),
            (op(IF_EQUAL, high), To::Next, To::Holds),
            plain(LOAD, low_at),
            (op(IF_EQUAL, low), To::Fails, To::Holds),
        ],
        Comparison::MaskedEqual => {
            let (wanted_high, wanted_low) = halves(argument.value_two);
            vec![
                plain(LOAD, high_at),
                plain(AND, high),
                (op(IF_EQUAL, wanted_high), To::Next, To::Fails),
                plain(LOAD, low_at),
                plain(AND, low),
                (op(IF_EQUAL, wanted_low), To::Holds, To::Fails),
            ]
        }
        Comparison::Greater => ordered(To::Holds, To::Fails, IF_ABOVE, To::Holds, To::Fails),
        Comparison::GreaterOrEqual => ordered(To::Holds, To::Fails, IF_AT_LEAST, To::Holds, To::Fails),
        Comparison::LessOrEqual => ordered(To::Fails, To::Holds, IF_ABOVE, To::Fails, To::Holds),
        Comparison::Less => ordered(To::Fails, To::Holds, IF_AT_LEAST, To::Fails, To::Holds),
    }
}

/// One rule of one call: its conditions, then its answer. At most six conditions of six instructions.
fn rule_block(args: &[Argument], answer: u32) -> Vec<libc::sock_filter> {
    let parts: Vec<_> = args.iter().map(condition).collect();
    let total: usize = parts.iter().map(Vec::len).sum();
    let mut block = Vec::with_capacity(total + 1);
    let mut end = 0;
    for part in parts {
        end += part.len();
        for (mut instruction, yes, no) in part {
            let here = block.len() + 1;
            let distance = |to| match to {
                To::Next => 0,
                To::Holds => end - here,
                // Over the answer.
                To::Fails => total + 1 - here,
            };
            // At most 36 instructions away.
            instruction.jt = distance(yes) as u8;
            instruction.jf = distance(no) as u8;
            block.push(instruction);
        }
    }
    block.push(op(ANSWER, answer));
    block
}

/// What happens to one number.
#[derive(Clone, PartialEq, Eq)]
enum Fate {
    Sure(u32),
    Depends(Vec<(Vec<Argument>, u32)>),
}

fn check(rule: &Rule) -> Result<(), ProfileError> {
    match rule.args.iter().find(|argument| argument.index > 5) {
        Some(argument) => {
            let name = rule.names.first().map_or_else(String::new, |name| name.chars().take(40).collect());
            Err(ProfileError::Argument { index: argument.index, name })
        }
        None => Ok(()),
    }
}

fn fates(profile: &Profile, default: u32) -> Result<BTreeMap<u32, Fate>, ProfileError> {
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    for rule in &profile.syscalls {
        check(rule)?;
        let answer = answer(rule.action, rule.errno_ret.or(profile.default_errno_ret));
        // A rule that says what holds anyhow would only hide those after it.
        if answer == default {
            continue;
        }
        for number in rule.names.iter().filter_map(|name| number(name)) {
            let fate = fates.entry(number).or_insert(Fate::Depends(Vec::new()));
            // The first rule without a condition is the last that counts.
            let Fate::Depends(rules) = fate else { continue };
            match (rule.args.is_empty(), rules.is_empty()) {
                (true, true) => *fate = Fate::Sure(answer),
                (true, false) if rules.iter().all(|(args, _)| !args.is_empty()) => rules.push((Vec::new(), answer)),
                (false, _) if rules.iter().all(|(args, _)| !args.is_empty()) => rules.push((rule.args.clone(), answer)),
                _ => {}
            }
        }
    }
    Ok(fates)
}

/// Makes the program. Of several rules for a call the first that fits counts.
pub fn compile(profile: &Profile) -> Result<Program, ProfileError> {
    let default = answer(profile.default_action, profile.default_errno_ret);
    let fates = fates(profile, default)?;
    let unknown = match profile.default_action {
        Action::Errno => answer(Action::Errno, Some(libc::ENOSYS.cast_unsigned())),
        _ => default,
    };
    let last = fates.keys().next_back().copied().unwrap_or(0).max(NEWEST);
    let mut segments: Vec<(u32, Fate)> = Vec::new();
    for number in 0..=last {
        let fate = fates.get(&number).cloned().unwrap_or(Fate::Sure(default));
        if segments.last().is_none_or(|(_, before)| *before != fate || matches!(fate, Fate::Depends(_))) {
            segments.push((number, fate));
        }
    }
    segments.push((last + 1, Fate::Sure(unknown)));
    let mut program = vec![
        op(LOAD, ARCH_AT),
        libc::sock_filter { code: IF_EQUAL, jt: 1, jf: 0, k: AUDIT_ARCH },
        op(ANSWER, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, NUMBER_AT),
    ];
    for (place, (_, fate)) in segments.iter().enumerate() {
        let block = match fate {
            Fate::Sure(answer) => vec![op(ANSWER, *answer)],
            Fate::Depends(rules) => {
                let mut block: Vec<_> = rules.iter().flat_map(|(args, answer)| rule_block(args, *answer)).collect();
                block.push(op(ANSWER, default));
                block
            }
        };
        if let Some((next, _)) = segments.get(place + 1) {
            if block.len() <= JUMP_MAX {
                program.push(libc::sock_filter { code: IF_AT_LEAST, jt: block.len() as u8, jf: 0, k: *next });
            } else {
                program.push(libc::sock_filter { code: IF_AT_LEAST, jt: 0, jf: 1, k: *next });
                program.push(op(JUMP, u32::try_from(block.len()).unwrap_or(u32::MAX)));
            }
        }
        program.extend(block);
        if program.len() > INSTRUCTIONS_MAX {
            return Err(ProfileError::TooLong { instructions: program.len() });
        }
    }
    Ok(Program(program))
}

impl Program {
    /// Puts the calling thread and all its children under the filter, for ever. Needs `no_new_privs`, or the
    /// capability `SYS_ADMIN`.
    pub fn install(&self) -> io::Result<()> {
        let filter = libc::sock_fprog {
            len: u16::try_from(self.0.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program is valid for reads for the length of the call; the kernel copies it.
        let installed =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
        if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use hostler_model::Capability;

    use super::super::profile;
    use super::*;

    /// What the kernel would answer.
    pub(in super::super) fn run(program: &Program, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(AUDIT_ARCH.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        args.iter().for_each(|arg| data.extend(arg.to_ne_bytes()));
        let (mut at, mut accumulator) = (0usize, 0u32);
        loop {
            let instruction = program.0[at];
            at += 1;
            let k = instruction.k;
            let jump = |yes: bool| usize::from(if yes { instruction.jt } else { instruction.jf });
            match instruction.code {
                LOAD => {
                    let place = k as usize;
                    accumulator = u32::from_ne_bytes(data[place..place + 4].try_into().expect("four bytes"));
                }
                AND => accumulator &= k,
                IF_EQUAL => at += jump(accumulator == k),
                IF_ABOVE => at += jump(accumulator > k),
                IF_AT_LEAST => at += jump(accumulator >= k),
                JUMP => at += k as usize,
                ANSWER => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
    }

    #[test]
    fn the_default_profile_answers_as_it_says() {
        let program = compile(&profile::default(&[])).expect("compiles");
        assert!(program.0.len() < 400, "{}", program.0.len());
        let first = |name: &str, value: u64| run(&program, number(name).expect(name), [value, 0, 0, 0, 0, 0]);
        let cases: [(&str, u64, u32); 26] = [
            ("read", 0, ALLOW),
            ("execve", u64::MAX, ALLOW),
            ("mount", 0, errno(libc::EPERM)),
            ("keyctl", 0, errno(libc::EPERM)),
            ("bpf", 0, errno(libc::EPERM)),
            ("unshare", 0, errno(libc::EPERM)),
            ("clone3", 0, errno(libc::ENOSYS)),
            ("clone", libc::SIGCHLD as u64, ALLOW),
            ("clone", libc::CLONE_NEWUSER as u64, errno(libc::EPERM)),
            ("clone", (libc::CLONE_NEWNET | libc::CLONE_VM) as u64, errno(libc::EPERM)),
            ("clone", 1 << 32 | libc::CLONE_NEWNS as u64, errno(libc::EPERM)),
            ("socket", 1, ALLOW),
            ("socket", 2, ALLOW),
            ("socket", 37, ALLOW),
            ("socket", 38, errno(libc::EPERM)),
            ("socket", 39, ALLOW),
            ("socket", 40, errno(libc::EPERM)),
            ("socket", 41, ALLOW),
            ("socket", 45, ALLOW),
            ("socket", 46, errno(libc::EPERM)),
            // The kernel looks at 32 bits only: nobody passes by setting another.
            ("socket", 1 << 32 | 38, errno(libc::EPERM)),
            ("socket", 1 << 32 | 40, errno(libc::EPERM)),
            ("personality", 0, ALLOW),
            ("personality", 0xffff_ffff, ALLOW),
            ("personality", 0x4_0000, errno(libc::EPERM)),
            ("personality", 0x2_0008, ALLOW),
        ];
        for (name, value, expected) in cases {
            assert_eq!(first(name, value), expected, "{name} {value:#x}");
        }
        // Newer than the list; and the numbers of x32.
        assert_eq!(run(&program, NEWEST + 1, [0; 6]), errno(libc::ENOSYS));
        assert_eq!(run(&program, 0x4000_0000, [0; 6]), errno(libc::ENOSYS));
        let admin = compile(&profile::default(&[Capability::SYS_ADMIN])).expect("compiles");
        assert_eq!(run(&admin, number("clone").expect("known"), [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&admin, number("mount").expect("known"), [0; 6]), ALLOW);
    }

    #[test]
    fn every_comparison_is_of_64_bits() {
        let values = [0, 1, 5, 6, 0xffff_ffff, 1 << 32, 5 | 1 << 32, 5 << 32, 6 << 32 | 1, u64::MAX - 1, u64::MAX];
        let ops = [
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Equal,
            Comparison::GreaterOrEqual,
            Comparison::Greater,
            Comparison::MaskedEqual,
        ];
        for op in ops {
            for value in values {
                for index in [0u8, 5] {
                    let value_two = 5 << 32 | 1;
                    let args = vec![Argument { index, value, value_two, op }];
                    let rule = Rule { names: vec!["read".into()], action: Action::Trap, errno_ret: None, args };
                    let profile = Profile {
                        default_action: Action::Allow,
                        default_errno_ret: None,
                        architectures: Vec::new(),
                        syscalls: vec![rule],
                    };
                    let program = compile(&profile).expect("compiles");
                    for given in values {
                        let holds = match op {
                            Comparison::NotEqual => given != value,
                            Comparison::Less => given < value,
                            Comparison::LessOrEqual => given <= value,
                            Comparison::Equal => given == value,
                            Comparison::GreaterOrEqual => given >= value,
                            Comparison::Greater => given > value,
                            Comparison::MaskedEqual => given & value == value_two,
                        };
                        let mut args = [77; 6];
                        args[usize::from(index)] = given;
                        let expected = if holds { libc::SECCOMP_RET_TRAP } else { ALLOW };
                        assert_eq!(
                            run(&program, number("read").expect("known"), args),
                            expected,
                            "{given:#x} {op:?} {value:#x}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts_and_long_ones_are_jumped_over() {
        let rule = |value: u64, action, args: bool| Rule {
            names: vec!["read".into()],
            action,
            errno_ret: None,
            args: if args {
                vec![Argument { index: 0, value, value_two: 0, op: Comparison::Equal }; 6]
            } else {
                Vec::new()
            },
        };
        let mut syscalls: Vec<_> = (0..20).map(|value| rule(value, Action::Trap, true)).collect();
        syscalls.push(rule(3, Action::Log, true));
        syscalls.push(rule(0, Action::Log, false));
        syscalls.push(rule(0, Action::KillThread, false));
        let profile =
            Profile { default_action: Action::Errno, default_errno_ret: Some(7), architectures: Vec::new(), syscalls };
        let program = compile(&profile).expect("compiles");
        let read = number("read").expect("known");
        assert_eq!(run(&program, read, [3; 6]), libc::SECCOMP_RET_TRAP);
        assert_eq!(run(&program, read, [99; 6]), libc::SECCOMP_RET_LOG);
        assert_eq!(run(&program, number("write").expect("known"), [3; 6]), errno(7));
        let mut long = profile.clone();
        long.syscalls = (0..200).map(|value| rule(value, Action::Trap, true)).collect();
        assert!(matches!(compile(&long), Err(ProfileError::TooLong { .. })));
        let mut wrong = profile;
        wrong.syscalls[0].args[0].index = 6;
        assert!(matches!(compile(&wrong), Err(ProfileError::Argument { index: 6, .. })));
    }
}
