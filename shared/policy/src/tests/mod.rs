//! The rules, tested through the public functions.

mod candidates;
mod media;
