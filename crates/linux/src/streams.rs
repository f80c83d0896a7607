//! Pipes, terminals, and reading and writing descriptors that may have nothing now.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hostler_model::spec::TtySize;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::pty::OpenptFlags;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    Empty,
    /// Nothing ever: the other end is closed, or broken.
    End,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// So many bytes were taken.
    Bytes(usize),
    /// No room now.
    Full,
    /// The other end is closed.
    Closed,
}

/// Reads what is there. A terminal without a program answers `EIO`, which is its end.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Read {
    loop {
        return match rustix::io::read(&fd, &mut *buffer) {
            Ok(0) => Read::End,
            Ok(length) => Read::Bytes(length),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Read::Empty,
            Err(_) => Read::End,
        };
    }
}

/// How many bytes a read would bring now, as far as the kernel tells.
pub fn waiting(fd: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(fd).unwrap_or(0)
}

/// Writes what there is room for.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Written {
    loop {
        return match rustix::io::write(&fd, bytes) {
            Ok(length) => Written::Bytes(length),
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => Written::Full,
            Err(_) => Written::Closed,
        };
    }
}

/// Makes reads and writes answer at once.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// A pipe from a program to us: our end (does not block), its end.
pub fn pipe_from_child() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// A pipe from us to a program: our end (does not block), its end.
pub fn pipe_to_child() -> io::Result<(OwnedFd, OwnedFd)> {
    let (theirs, ours) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&ours)?;
    Ok((ours, theirs))
}

/// Our reading end of a named pipe, which is made for the owner alone where nothing has its name. Reads answer at once.
/// A symbolic link, and what is no pipe, is refused: somebody else may have put it there.
pub fn named_pipe(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, FileType, fstat, mknodat, open};
    match mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let pipe = open(path, flags, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&pipe)?.st_mode) {
        FileType::Fifo => Ok(pipe),
        _ => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has the name of the pipe")),
    }
}

/// A file in memory that holds these bytes, to be read from the start, and that nobody can change any more.
pub fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A machine may refuse files that could be executed; a kernel before 6.3 does not know those that cannot.
    let memory = match rustix::fs::memfd_create("stdin", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("stdin", flags)?,
        made => made?,
    };
    let mut file = File::from(memory);
    file.write_all(bytes)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// A new terminal of this size: the master (does not block) and the program's side.
///
/// `owner` becomes the owner of the program's side, so that the program can open `/dev/tty` and its own name.
pub fn terminal(size: TtySize, owner: Option<u32>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags)?;
    rustix::pty::grantpt(&master)?;
    rustix::pty::unlockpt(&master)?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    resize(&master, size)?;
    if let Some(uid) = owner {
        // Not possible without root, and then it is ours already.
        let _ = rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(uid)), None);
    }
    let _ = rustix::fs::fchmod(&slave, Mode::from_raw_mode(0o620));
    set_nonblocking(&master)?;
    Ok((master, slave))
}

/// Sets a terminal's size and tells its foreground program (`SIGWINCH`).
pub fn resize(terminal: impl AsFd, size: TtySize) -> io::Result<()> {
    let size = rustix::termios::Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// Makes sure that the first `length` bytes of a file can be written when the disk is full, by writing spaces.
///
/// Not by `fallocate`: a file system with delayed allocation reserves the room when it takes the bytes, and gives it back
/// without touching the disk when the file is soon removed. Freeing a block that `fallocate` took costs up to 2 ms on ext4
/// with `discard` under load, 14 us this way.
pub fn reserve(file: &File, length: usize) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, &vec![b' '; length], 0)
}

/// Renames, and fails with `AlreadyExists` when the new name is taken, be it by an empty directory.
pub fn rename_new(from: &std::path::Path, to: &std::path::Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_ok() => {
            Err(io::Error::from(io::ErrorKind::AlreadyExists))
        }
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(from, to),
        outcome => Ok(outcome?),
    }
}

/// A copy of the descriptor, closed at exec.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 3)?)
}

/// Takes the connection that a parent left as stdin, and puts `/dev/null` in its place.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = duplicate(rustix::stdio::stdin())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(taken)
}

/// Opens `/dev/null` on those of stdin, stdout and stderr that are closed: no later descriptor may take their place.
pub fn fill_standard_streams() -> io::Result<()> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        if std::os::fd::AsRawFd::as_raw_fd(&null) > 2 {
            return Ok(());
        }
        // Stays open for good: it is now one of the three.
        std::mem::forget(null);
    }
}

/// Closes every descriptor from `first` upwards. Only before anything else in this process owns one of them.
pub fn close_from(first: u32) {
    // SAFETY: the caller owns nothing in this range yet; what is closed was inherited by accident.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, 0);
    }
}

/// Which way a file is opened for a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It reads.
    Read,
    /// It appends; the file is made when it is not there.
    Append,
}

/// Opens a file for a program, without waiting for the other end of a FIFO: one that nobody reads is refused.
pub fn open_for(path: &std::path::Path, direction: Direction) -> io::Result<OwnedFd> {
    let flags = match direction {
        Direction::Read => OFlags::RDONLY,
        Direction::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
    };
    let common = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags | common, Mode::from_raw_mode(0o644))?;
    rustix::fs::fcntl_setfl(&file, flags.intersection(OFlags::APPEND))?;
    Ok(file)
}

/// The reading end of a FIFO, nonblocking.
pub fn open_fifo(path: &std::path::Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?)
}

/// A plain file, which may be in a directory that others write to: neither a link at its end nor a FIFO is waited on or
/// followed.
pub fn open_plain(path: &std::path::Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no plain file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn named_pipes_are_made_found_and_not_mistaken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.fifo");
        let pipe = named_pipe(&path).unwrap();
        let again = named_pipe(&path).unwrap();
        let mut writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(read(&pipe, &mut [0; 8]), Read::Empty);
        writer.write_all(b"line\n").unwrap();
        assert_eq!(read(&again, &mut [0; 8]), Read::Bytes(5));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(named_pipe(&dir.path().join("link")).is_err());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(named_pipe(&dir.path().join("file")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_sealed_file_is_read_from_its_start_and_cannot_be_changed() {
        for bytes in [&b""[..], b"some bytes", &[0xff; 300_000]] {
            let mut file = File::from(sealed(bytes).unwrap());
            let mut read = Vec::new();
            file.read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
            assert!(file.write_all(b"more").is_err() && file.set_len(1).is_err() && file.set_len(1 << 20).is_err());
        }
    }
}
