//! signalbox-shared
