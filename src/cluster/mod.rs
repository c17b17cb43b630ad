//! Many brokers.
