//! What the API does to rooms.
