//! The cluster against scripted brokers.
