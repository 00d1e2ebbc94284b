//! signalbox-tests
