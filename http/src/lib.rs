//! How the services speak HTTP.
