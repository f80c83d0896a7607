//! Users and groups from `/etc/passwd` and `/etc/group`. Other sources of users (LDAP and the like) are reached by
//! number: `--user 5000:5000`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hostler_model::workload::Identity;
use hostler_model::{Problem, ProblemKind};

/// Where the files are, and what they said when they were read last: a busy node asks for the same users all the time.
#[derive(Debug)]
pub struct Users {
    passwd: PathBuf,
    group: PathBuf,
    read: Mutex<Option<Arc<Files>>>,
}

/// Both files as they were.
#[derive(Debug)]
struct Files {
    stamp: [Option<Stamp>; 2],
    users: Vec<User>,
    groups: Vec<Group>,
}

/// Tells whether a file is still the one that was read: a replaced one has another inode, a rewritten one another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }
}

impl Default for Users {
    fn default() -> Self {
        Self::of("/etc/passwd".into(), "/etc/group".into())
    }
}

#[derive(Debug)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

#[derive(Debug, Clone)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Users {
    /// A place where nobody has a name.
    pub(crate) fn nobody() -> Self {
        Self::of("/nonexistent/passwd".into(), "/nonexistent/group".into())
    }

    pub(crate) fn of(passwd: PathBuf, group: PathBuf) -> Self {
        Self { passwd, group, read: Mutex::default() }
    }

    /// What the files say now.
    fn files(&self) -> Arc<Files> {
        let stamp = [Stamp::of(&self.passwd), Stamp::of(&self.group)];
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match &*read {
            Some(files) if files.stamp == stamp => files.clone(),
            _ => read.insert(Arc::new(Files { stamp, users: self.users(), groups: self.groups() })).clone(),
        }
    }

    /// Who `UID[:GID]` or `NAME[:GROUP]` is. A number needs no entry; a name does.
    pub fn resolve(&self, text: &str) -> Result<Identity, Problem> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let files = self.files();
        let entry = match user.parse::<u32>() {
            Ok(uid) => files.users.iter().find(|entry| entry.uid == uid).cloned().ok_or(uid),
            Err(_) => {
                let found = files.users.iter().find(|entry| entry.name == user).cloned();
                Ok(found.ok_or_else(|| unknown("user", user))?)
            }
        };
        let gid = group.map(|group| files.gid(group)).transpose()?;
        // To the kernel this number means "leave it as it is".
        if matches!(entry, Err(u32::MAX)) || gid == Some(u32::MAX) {
            return Err(unknown("user or group", text));
        }
        Ok(match entry {
            Ok(entry) => {
                let primary = gid.unwrap_or(entry.gid);
                let groups = if group.is_some() { Vec::new() } else { files.supplementary(&entry.name, primary) };
                Identity { uid: entry.uid, gid: primary, groups, user: Some(entry.name), home: Some(entry.home) }
            }
            Err(uid) => Identity { uid, gid: gid.unwrap_or(uid), groups: Vec::new(), user: None, home: None },
        })
    }

    fn users(&self) -> Vec<User> {
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
            Some(User {
                name: (*name).to_owned(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: (*home).to_owned(),
            })
        };
        read(&self.passwd).lines().filter_map(parse).collect()
    }

    fn groups(&self) -> Vec<Group> {
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields.as_slice() else { return None };
            let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(Group { name: (*name).to_owned(), gid: gid.parse().ok()?, members })
        };
        read(&self.group).lines().filter_map(parse).collect()
    }
}

impl Files {
    fn gid(&self, text: &str) -> Result<u32, Problem> {
        if let Ok(gid) = text.parse() {
            return Ok(gid);
        }
        let found = self.groups.iter().find(|group| group.name == text);
        found.map(|group| group.gid).ok_or_else(|| unknown("group", text))
    }

    fn supplementary(&self, user: &str, primary: u32) -> Vec<u32> {
        let is_member = |group: &&Group| group.members.iter().any(|name| name == user) && group.gid != primary;
        let mut groups: Vec<u32> = self.groups.iter().filter(is_member).map(|group| group.gid).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }
}

/// A missing file is a machine without names: numbers still work.
fn read(path: &PathBuf) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn unknown(what: &str, name: &str) -> Problem {
    let shown: String = name.chars().take(60).collect();
    Problem::new(
        ProblemKind::UnknownUser,
        format!("there is no {what} {shown:?} on this machine; a number works without an entry"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(dir: &tempfile::TempDir) -> Users {
        let passwd = dir.path().join("passwd");
        let group = dir.path().join("group");
        std::fs::write(&passwd, "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\n")
            .expect("write");
        std::fs::write(&group, "users:x:100:\nwheel:x:10:bob,ann\naudio:x:29:ann\nbad:y\n").expect("write");
        Users::of(passwd, group)
    }

    #[test]
    fn names_numbers_and_groups() {
        let dir = tempfile::tempdir().expect("temp dir");
        let users = users(&dir);
        let ann = users.resolve("ann").expect("known");
        assert_eq!((ann.uid, ann.gid, ann.groups, ann.home.as_deref()), (1000, 100, vec![10, 29], Some("/home/ann")));
        let by_number = users.resolve("1000:wheel").expect("known");
        assert_eq!((by_number.gid, by_number.groups.len()), (10, 0));
        std::fs::write(dir.path().join("group"), "users:x:100:\nwheel:x:11:\n").expect("write");
        assert_eq!(users.resolve("ann:wheel").expect("known").gid, 11, "a changed file is read again");
        let stranger = users.resolve("4242").expect("numbers need no entry");
        assert_eq!((stranger.uid, stranger.gid, stranger.user), (4242, 4242, None));
        for bad in ["4294967295", "1000:4294967295", "nobody-here", "ann:nogroup", "", ":", "-1"] {
            assert!(users.resolve(bad).is_err(), "{bad}");
        }
    }
}
