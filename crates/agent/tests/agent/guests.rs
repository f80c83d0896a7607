//! Runs in guests: real ones, by QEMU. What is needed for them is made by the set-up of the tests; where it is not there,
//! each says so.

use std::path::{Path, PathBuf};

use hostler_model::exit::{Cause, ExitStatus};
use hostler_model::guest::{AGENT_PORT, Furnish, GuestChannel, GuestIdentity, VmBoot, VmLaunch};
use hostler_model::launch::{Launch, Program};
use hostler_model::spec::Limits;

use crate::client::{Node, ended, program};

fn words(text: &str) -> Vec<hostler_model::ByteString> {
    text.split_whitespace().map(Into::into).collect()
}

fn boot(directory: &Path, kernel: &Path, initrd: &Path) -> VmBoot {
    let line = format!(
        "/usr/bin/qemu-system-x86_64 -M microvm -accel tcg -cpu max -m 128 -smp 1 -nodefaults -no-user-config -no-reboot \
         -display none -serial stdio -kernel {} -initrd {} -device virtio-serial-device \
         -chardev socket,id=agent,path=agent.sock,server=on,wait=off -device virtserialport,chardev=agent,name={AGENT_PORT} -append",
        kernel.display(),
        initrd.display()
    );
    let mut command = words(&line);
    command.push("console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2596000".into());
    VmBoot {
        directory: directory.as_os_str().into(),
        vmm: "qemu".to_owned(),
        program: Program { workdir: directory.as_os_str().into(), command, ..program(&["x"]) },
        channel: GuestChannel::Stream { socket: "agent.sock".to_owned() },
        cgroup: None,
        limits: Limits::default(),
        boot_max_ms: 15_000,
        attempts: 2,
        furnish: Some(Furnish::default()),
        keeps_disks: false,
    }
}

fn guest(node: &mut Node, command: &[&str]) -> Option<Launch> {
    let kernel = PathBuf::from("/tmp/vmx/vmlinux");
    let initrd = PathBuf::from("/tmp/vmx/initramfs.cpio");
    let mut launch = node.launch(command);
    let boot = boot(&node.path("vm"), &kernel, &initrd);
    let identity = GuestIdentity { hostname: "guest-1".to_owned(), ..GuestIdentity::default() };
    launch.vm =
        Some(Box::new(VmLaunch { asked: Box::default(), names: Vec::new(), boot: Some(Box::new(boot)), identity }));
    Some(launch)
}

#[test]
fn a_program_runs_in_a_guest() {
    let mut node = Node::new();
    let Some(launch) = guest(&mut node, &["sh", "-c", "hostname; uname -r; cat /proc/1/comm; echo oops >&2; exit 7"])
    else {
        return;
    };
    let begin = std::time::Instant::now();
    node.start(&launch);
    eprintln!("started after {:?}", begin.elapsed());
    let exit = node.exited();
    eprintln!("exited after {:?} {exit:?}", begin.elapsed());
    assert_eq!(ended(&exit), (ExitStatus::Code(7), Cause::Error));
    let lines = node.log_lines();
    eprintln!("{lines:?}");
    node.commit(launch.run);
    assert!(!node.path("vm").exists(), "the machine's directory is removed");
}
