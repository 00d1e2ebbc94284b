//! Tokens, from the wish to the text.
//!
//! Owns: who a caller is ([`Caller`]), what it may have ([`Policy`]), the signed token ([`Minter`]).
//! Must not: know HTTP, read a clock or make an id; both are handed in. Next: `routes/token.rs` calls the three in order.

mod caller;
mod mint;
mod policy;
pub(crate) mod wish;

pub use caller::{Caller, identify, prove};
pub use mint::Minter;
pub use policy::{Grant, Policy};
pub use wish::Wish;
