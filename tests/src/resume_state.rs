//! The state that a peer keeps when it loses its socket, and how the peer resumes
//! (docs/PROTOCOL.md, section 8).

use std::{collections::VecDeque, net::SocketAddr};

use serde_json::Value;

use crate::{
    net::DEADLINE,
    peer::{TestConnection, TestPeer},
    process::Process,
    socket::{self, UpgradeError},
};

/// The state that a client needs for a resume.
#[derive(Debug, Clone)]
pub struct ResumeState {
    /// The peerId.
    pub peer_id: String,
    /// The newest handle.
    pub handle: String,
    /// The last `seq` that the client has received.
    pub since: u64,
    pub(crate) next_id: u64,
    /// Frames that had come and that the test has not read.
    pub(crate) unread: VecDeque<Value>,
}

impl ResumeState {
    /// The query of the resume.
    pub fn query(&self) -> String {
        format!("resume={}&since={}", self.handle, self.since)
    }

    /// Resumes at this address.
    ///
    /// # Errors
    /// If the upgrade is rejected.
    pub async fn try_resume(&self, address: SocketAddr) -> Result<TestConnection, UpgradeError> {
        let socket = socket::open(address, &self.query(), DEADLINE).await?;
        Ok(TestConnection::from_socket(socket, self.next_id, self.unread.clone()))
    }

    /// Resumes through this node.
    ///
    /// # Panics
    /// If the upgrade is rejected, or the first frame is not a `resumed` as docs/PROTOCOL.md,
    /// section 8, requires it.
    pub async fn resume_on(&self, node: &Process) -> TestPeer {
        self.resume_at(node.address).await
    }

    /// Resumes at this address and checks the `resumed` frame.
    ///
    /// # Panics
    /// As [`Self::resume_on`].
    pub async fn resume_at(&self, address: SocketAddr) -> TestPeer {
        let connection =
            self.try_resume(address).await.unwrap_or_else(|error| panic!("no resume: {error:?}"));
        let resumed = connection.next_of_type("resumed").await;
        assert_eq!(resumed["peerId"], *self.peer_id, "{resumed}");
        assert!(resumed["lastId"].is_u64() && resumed["recovered"].is_boolean(), "{resumed}");
        assert!(resumed["resume"].as_str().is_some_and(|handle| handle != self.handle), "{resumed}");
        if resumed["recovered"] == true {
            assert_eq!(resumed["seq"], self.since, "{resumed}");
        }
        TestPeer::from_connection(connection, resumed)
    }

    /// Joins as a new peer that replaces the old one, as a reloaded page does.
    ///
    /// # Errors
    /// If the upgrade is rejected.
    pub async fn take_over(&self, address: SocketAddr) -> Result<TestConnection, UpgradeError> {
        TestConnection::open_with(address, &format!("resume={}", self.handle)).await
    }
}
