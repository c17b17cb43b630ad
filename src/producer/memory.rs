//! The bytes that a producer may hold: who has them, who waits for them.
