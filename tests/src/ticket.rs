//! Coming back: what a peer keeps when it loses its socket, and what it does with it (docs/PROTOCOL.md, section 8).

use std::{collections::VecDeque, net::SocketAddr};

use serde_json::Value;

use crate::{
    net::DEADLINE,
    peer::{Link, TestPeer},
    process::Process,
    socket::{self, Refusal},
};

/// What a client needs to come back as the same peer.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Its peerId.
    pub peer_id: String,
    /// The newest handle.
    pub handle: String,
    /// The last `seq` that it has.
    pub since: u64,
    pub(crate) next_id: u64,
    /// What had come and was not taken yet.
    pub(crate) unread: VecDeque<Value>,
}

impl Ticket {
    /// The query that brings the peer back.
    pub fn query(&self) -> String {
        format!("resume={}&since={}", self.handle, self.since)
    }

    /// Comes back as the same peer, at this address.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn try_at(&self, address: SocketAddr) -> Result<Link, Refusal> {
        let socket = socket::open(address, &self.query(), DEADLINE).await?;
        Ok(Link::over(socket, self.next_id, self.unread.clone()))
    }

    /// Comes back as the same peer, through this node.
    ///
    /// # Panics
    /// If it is refused, or the first frame is not a `resumed` that keeps the promises of docs/PROTOCOL.md, section 8.
    pub async fn resume_on(&self, node: &Process) -> TestPeer {
        self.resume_at(node.address).await
    }

    /// As [`Self::resume_on`], at an address.
    ///
    /// # Panics
    /// As there.
    pub async fn resume_at(&self, address: SocketAddr) -> TestPeer {
        let link = self.try_at(address).await.unwrap_or_else(|refusal| panic!("no resume: {refusal:?}"));
        let joined = link.next_of_type("resumed").await;
        assert_eq!(joined["peerId"], *self.peer_id, "{joined}");
        assert!(joined["lastId"].is_u64() && joined["recovered"].is_boolean(), "{joined}");
        assert!(joined["resume"].as_str().is_some_and(|handle| handle != self.handle), "{joined}");
        if joined["recovered"] == true {
            assert_eq!(joined["seq"], self.since, "{joined}");
        }
        TestPeer::over(link, joined)
    }

    /// Begins anew in the place of the old peer, as a reloaded page does.
    ///
    /// # Errors
    /// Where it is refused.
    pub async fn take_over(&self, address: SocketAddr) -> Result<Link, Refusal> {
        Link::ask_in(address, &format!("resume={}", self.handle)).await
    }
}
