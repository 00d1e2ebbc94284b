//! Links and topics over real servers: one, behind Sentinels, in a Cluster, guarded by TLS and an ACL.

mod access;
mod cluster;
mod common;
mod sentinel;
mod standalone;
