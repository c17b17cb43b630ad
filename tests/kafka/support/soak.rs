//! What soaks have in common: how long they go on, and what looks random in them.

/// Whether KLAMM_TEST_LONG asks for all of it, and not for as much as shows most.
pub fn is_long() -> bool {
    std::env::var_os("KLAMM_TEST_LONG").is_some()
}

/// Numbers that look random and are the same each time.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// One of so many.
    pub fn index(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}
