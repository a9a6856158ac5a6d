//! What is known of the other end of a connection.

use std::{
    ffi::CString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use rustls::pki_types::CertificateDer;

use crate::{
    grpc::tls::Keys,
    model::access::{Peer, PeerName, PeerRule, Right},
};

/// The other end of a connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Origin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    from: String,
    end: End,
    is_known: AtomicBool,
}

/// What says who is there.
#[derive(Debug)]
pub enum End {
    /// A user of this machine, as the kernel says.
    Peer {
        /// Their name, or number.
        name: String,
        /// What they may do.
        rights: Option<Right>,
    },
    /// Whoever holds the key of a certificate.
    Certificate {
        /// The certificate, and what leads to its CA.
        chain: Vec<CertificateDer<'static>>,
        /// What tells whether it is good.
        keys: Arc<Keys>,
    },
    /// Nothing.
    Unnamed {
        /// What such may do here.
        rights: Option<Right>,
    },
}

impl Origin {
    fn new(from: impl Into<String>, end: End) -> Self {
        let is_known = match &end {
            End::Peer { rights, .. } | End::Unnamed { rights } => rights.is_some(),
            End::Certificate { .. } => false,
        };
        Origin(Arc::new(Inner {
            from: from.into(),
            end,
            is_known: is_known.into(),
        }))
    }

    /// Somebody at the Unix socket.
    pub fn peer(name: String, rights: Option<Right>) -> Self {
        Origin::new("unix", End::Peer { name, rights })
    }

    /// Somebody with a certificate.
    pub fn certificate(
        from: impl Into<String>,
        chain: Vec<CertificateDer<'static>>,
        keys: Arc<Keys>,
    ) -> Self {
        Origin::new(from, End::Certificate { chain, keys })
    }

    /// Somebody of whom only the address is known.
    pub fn unnamed(from: impl Into<String>, rights: Option<Right>) -> Self {
        Origin::new(from, End::Unnamed { rights })
    }

    /// Returns where the connection comes from.
    pub fn from(&self) -> &str {
        &self.0.from
    }

    /// Returns what says who is there.
    pub fn end(&self) -> &End {
        &self.0.end
    }

    /// Notes that a call of this connection said who it is.
    pub fn know(&self) {
        self.0.is_known.store(true, Ordering::Relaxed);
    }

    /// Whether this connection ever said who it is. One that does not is not kept.
    pub fn is_known(&self) -> bool {
        self.0.is_known.load(Ordering::Relaxed)
    }
}

/// Looks up who a user is, and in which of the groups that `rules` are about. Blocks: the databases may be on the network.
pub fn look_up(uid: u32, gid: u32, rules: Option<&[PeerRule]>) -> Peer {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let mut gids = vec![gid];
    let is_about_groups =
        |rule: &PeerRule| matches!(rule.who, PeerName::Group(_) | PeerName::Gid(_));
    let rules = rules.unwrap_or_default();
    if let Some(user) = user.as_ref().filter(|_| rules.iter().any(is_about_groups))
        && let Ok(name) = CString::new(user.name.as_str())
    {
        let more = getgrouplist(&name, Gid::from_raw(gid)).unwrap_or_default();
        gids.extend(more.into_iter().map(Gid::as_raw));
    }
    let is_in = |name: &&String| {
        let group = Group::from_name(name).ok().flatten();
        group.is_some_and(|group| gids.contains(&group.gid.as_raw()))
    };
    let named = rules.iter().filter_map(|rule| match &rule.who {
        PeerName::Group(name) => Some(name),
        _ => None,
    });
    Peer {
        uid,
        groups: named.filter(is_in).cloned().collect(),
        gids,
        user: user.map(|user| user.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_looked_up_with_the_groups_that_matter() {
        let rule = |who| PeerRule {
            who,
            rights: Right::Read,
        };
        let rules = [
            rule(PeerName::Group("root".to_owned())),
            rule(PeerName::Group("no-such-group-here".to_owned())),
            rule(PeerName::Group("daemon".to_owned())),
        ];
        let peer = look_up(0, 0, Some(&rules));
        assert_eq!(peer.user.as_deref(), Some("root"));
        assert_eq!(peer.groups, ["root"]);
        let unknown = look_up(4_000_000_000, 4_000_000_001, None);
        assert_eq!(
            unknown,
            Peer {
                uid: 4_000_000_000,
                user: None,
                gids: vec![4_000_000_001],
                groups: vec![],
            }
        );
    }
}
