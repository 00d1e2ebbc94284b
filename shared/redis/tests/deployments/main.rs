//! Links and topics over real servers: one, behind Sentinels, in a Cluster, guarded by TLS and an ACL.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod cluster;
mod common;
mod proxy;
mod sentinel;
mod standalone;
