//! Links and topics over real servers: one, behind Sentinels, in a Cluster, guarded by TLS and an
//! ACL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod moved_address;
mod muting_proxy;
mod sentinel;
mod standalone;
mod test_client;
mod tls_and_acl;
