//! One broker.
