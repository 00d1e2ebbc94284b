//! signalbox-auth
