//! Rules about the repository itself. Every test reads files and none starts a process.
//!
//! - [`imports`]: the table of ARCHITECTURE.md says which folder may import which.
//! - [`cycles`]: no modules of a crate import each other in a circle.
//! - [`paths`]: the walkthroughs of ARCHITECTURE.md name files and functions that exist.
//! - [`floors`]: the benchmark measures the libraries of the product.
//! - [`words`]: words that the style forbids, names of files, the glossary.
//!
//! The other modules read files ([`repository`]), manifests ([`workspace`]), documents
//! ([`markdown`]) and Rust code ([`tokens`] → [`module`] → [`crate_tree`]).

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod crate_tree;
mod cycles;
mod floors;
mod imports;
mod markdown;
mod module;
mod paths;
mod repository;
mod tokens;
mod words;
mod workspace;
