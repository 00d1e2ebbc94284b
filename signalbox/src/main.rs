//! signalbox
fn main() {}
