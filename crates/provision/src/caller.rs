//! Who asks. A local caller is told by the peer credentials of his connection; nothing he says is believed.
//!
//! The node's **owner** (root, or the user that a rootless daemon runs as) sees and does everything. Anybody else has
//! one namespace, named after his user id, and work of his runs as himself.

use hostler_model::{Namespace, Problem, ProblemKind};

/// A local caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// His user.
    pub uid: u32,
    /// His primary group.
    pub gid: u32,
    /// The user that the daemon runs as.
    pub node_uid: u32,
}

/// Which namespaces a reader sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One.
    One(Namespace),
    /// All of them, and what belongs to the node itself.
    All,
}

impl Scope {
    /// Whether this namespace is within.
    #[must_use]
    pub fn contains(&self, namespace: &Namespace) -> bool {
        match self {
            Self::One(one) => one == namespace,
            Self::All => true,
        }
    }
}

impl Caller {
    /// Root, or the user that the daemon runs as.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.uid == 0 || self.uid == self.node_uid
    }

    /// A rootless daemon serves its own user (and root) only: it could not run anybody's work as himself.
    pub fn admit(&self) -> Result<(), Problem> {
        if self.is_owner() || self.node_uid == 0 {
            return Ok(());
        }
        let detail = format!("this node belongs to user {}; start your own with: hostler up", self.node_uid);
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    /// The namespace of a caller who names none.
    #[must_use]
    pub fn own_namespace(&self) -> Namespace {
        if self.is_owner() { Namespace::owner() } else { Namespace::of_uid(self.uid) }
    }

    /// The one namespace a request is about.
    pub fn namespace(&self, asked: Option<Namespace>) -> Result<Namespace, Problem> {
        match asked {
            None => Ok(self.own_namespace()),
            Some(asked) if self.is_owner() || asked == self.own_namespace() => Ok(asked),
            Some(asked) => Err(self.not_his(asked.as_str())),
        }
    }

    /// The namespaces a reader asks for; `*` is all of them.
    pub fn scope(&self, asked: Option<&str>) -> Result<Scope, Problem> {
        match asked {
            Some("*") if self.is_owner() => Ok(Scope::All),
            Some("*") => Err(self.not_his("*")),
            None => Ok(Scope::One(self.own_namespace())),
            Some(name) => {
                let namespace: Namespace =
                    name.parse().map_err(|error| Problem::new(ProblemKind::MalformedRequest, format!("{error}")))?;
                self.namespace(Some(namespace)).map(Scope::One)
            }
        }
    }

    /// For what only the node's owner may do.
    pub fn require_owner(&self, what: &str) -> Result<(), Problem> {
        if self.is_owner() {
            return Ok(());
        }
        Err(Problem::new(ProblemKind::Forbidden, format!("only the node's owner (user {}) may {what}", self.node_uid)))
    }

    fn not_his(&self, asked: &str) -> Problem {
        let detail = format!("user {} sees only namespace {}, not {asked}", self.uid, self.own_namespace());
        Problem::new(ProblemKind::Forbidden, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: u32, node_uid: u32) -> Caller {
        Caller { uid, gid: uid, node_uid }
    }

    #[test]
    fn nobody_leaves_his_namespace_but_the_owner() {
        let other: Namespace = "u1001".parse().expect("valid");
        assert_eq!(caller(0, 0).namespace(Some(other.clone())), Ok(other.clone()));
        assert_eq!(caller(1000, 0).namespace(None).map(|n| n.to_string()), Ok("u1000".to_owned()));
        assert!(caller(1000, 0).namespace(Some(other)).is_err());
        assert!(caller(1000, 0).namespace(Some(Namespace::owner())).is_err());
        assert!(caller(1000, 0).scope(Some("*")).is_err());
        assert_eq!(caller(0, 0).scope(Some("*")), Ok(Scope::All));
        assert!(caller(1000, 0).require_owner("stop it").is_err());
    }

    #[test]
    fn a_rootless_node_serves_its_user() {
        assert!(caller(1000, 1000).admit().is_ok() && caller(0, 1000).admit().is_ok());
        assert!(caller(1001, 1000).admit().is_err());
        assert!(caller(1001, 0).admit().is_ok());
    }
}
