//! Maps by slot: numbers that a stream gives out itself, one after the other. Nobody can make them collide, and a hash that
//! is safe from that costs more than all the rest of a look-up.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::buffer::Slot;

pub(crate) type SlotMap<T> = HashMap<Slot, T, BuildHasherDefault<Scatter>>;

/// Takes out what fits.
pub(crate) fn take_out<T>(map: &mut SlotMap<T>, fits: impl Fn(&T) -> bool) -> impl Iterator<Item = T> {
    let slots: Vec<Slot> = map
        .iter()
        .filter(|(_, value)| fits(value))
        .map(|(&slot, _)| slot)
        .collect();
    slots.into_iter().filter_map(|slot| map.remove(&slot))
}

/// Neighbours become strangers in the upper bits, and stay apart in the lower ones.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Scatter(u64);

impl Hasher for Scatter {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, slot: u32) {
        self.0 = (self.0 ^ u64::from(slot)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_taken_out_and_the_rest_stays() {
        let mut map: SlotMap<u32> = (0..100).map(|slot| (slot, slot * 2)).collect();
        let mut taken: Vec<u32> = take_out(&mut map, |value| value % 4 == 0).collect();
        taken.sort_unstable();
        assert_eq!(taken, (0..50).map(|at| at * 4).collect::<Vec<_>>());
        assert_eq!(map.len(), 50);
        assert!((0..100).all(|slot| map.contains_key(&slot) == (slot % 2 == 1)));
    }
}
