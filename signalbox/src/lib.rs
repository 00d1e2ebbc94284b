//! signalbox
