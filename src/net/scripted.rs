//! A broker by script.
