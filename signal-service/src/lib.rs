//! signalbox-signal
