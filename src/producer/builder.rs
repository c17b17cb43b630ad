//! Options of a producer, and how one comes to be.
