//! Users and groups from `/etc/passwd` and `/etc/group`. Other sources of users (LDAP and the like) are reached by
//! number: `--user 5000:5000`.

use std::path::PathBuf;

use hostler_model::workload::Identity;
use hostler_model::{Problem, ProblemKind};

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Users {
    passwd: PathBuf,
    group: PathBuf,
}

impl Default for Users {
    fn default() -> Self {
        Self { passwd: "/etc/passwd".into(), group: "/etc/group".into() }
    }
}

struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl Users {
    /// Who `UID[:GID]` or `NAME[:GROUP]` is. A number needs no entry; a name does.
    pub fn resolve(&self, text: &str) -> Result<Identity, Problem> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let entry = match user.parse::<u32>() {
            Ok(uid) => self.users().into_iter().find(|entry| entry.uid == uid).ok_or(uid),
            Err(_) => {
                Ok(self.users().into_iter().find(|entry| entry.name == user).ok_or_else(|| unknown("user", user))?)
            }
        };
        let gid = group.map(|group| self.gid(group)).transpose()?;
        // To the kernel this number means "leave it as it is".
        if matches!(entry, Err(u32::MAX)) || gid == Some(u32::MAX) {
            return Err(unknown("user or group", text));
        }
        Ok(match entry {
            Ok(entry) => {
                let primary = gid.unwrap_or(entry.gid);
                let groups = if group.is_some() { Vec::new() } else { self.supplementary(&entry.name, primary) };
                Identity { uid: entry.uid, gid: primary, groups, user: Some(entry.name), home: Some(entry.home) }
            }
            Err(uid) => Identity { uid, gid: gid.unwrap_or(uid), groups: Vec::new(), user: None, home: None },
        })
    }

    fn gid(&self, text: &str) -> Result<u32, Problem> {
        if let Ok(gid) = text.parse() {
            return Ok(gid);
        }
        let groups = self.groups();
        groups.into_iter().find(|(name, ..)| name == text).map(|(_, gid, _)| gid).ok_or_else(|| unknown("group", text))
    }

    fn supplementary(&self, user: &str, primary: u32) -> Vec<u32> {
        let member =
            |(_, gid, members): (String, u32, Vec<String>)| members.iter().any(|name| name == user).then_some(gid);
        let mut groups: Vec<u32> = self.groups().into_iter().filter_map(member).filter(|gid| *gid != primary).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
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

    fn groups(&self) -> Vec<(String, u32, Vec<String>)> {
        let parse = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, gid, members, ..] = fields.as_slice() else { return None };
            let members = members.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(((*name).to_owned(), gid.parse().ok()?, members))
        };
        read(&self.group).lines().filter_map(parse).collect()
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
        Users { passwd, group }
    }

    #[test]
    fn names_numbers_and_groups() {
        let dir = tempfile::tempdir().expect("temp dir");
        let users = users(&dir);
        let ann = users.resolve("ann").expect("known");
        assert_eq!((ann.uid, ann.gid, ann.groups, ann.home.as_deref()), (1000, 100, vec![10, 29], Some("/home/ann")));
        let by_number = users.resolve("1000:wheel").expect("known");
        assert_eq!((by_number.gid, by_number.groups.len()), (10, 0));
        let stranger = users.resolve("4242").expect("numbers need no entry");
        assert_eq!((stranger.uid, stranger.gid, stranger.user), (4242, 4242, None));
        for bad in ["4294967295", "1000:4294967295", "nobody-here", "ann:nogroup", "", ":", "-1"] {
            assert!(users.resolve(bad).is_err(), "{bad}");
        }
    }
}
