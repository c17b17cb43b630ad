//! The shapes of answers.
