//! What the rules hold, seen from outside.

mod candidates;
mod media;
