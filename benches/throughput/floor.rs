//! The floor: what reading a topic costs when nothing is done but what must be done. One thread, one connection to the
//! one broker, one Fetch at a time into one buffer; every checksum is checked and every record walked in place.
//!
//! No client can be built like this: it cannot lose its broker, does nothing while it waits, and hands out nothing that
//! lives longer than the next answer.

use klamm::internals::BatchReader;

use super::bare::{Connection, fetch_request};

/// As klamm asks: larger answers fall out of the processor's cache, smaller ones cost more requests.
const MAX_BYTES: i32 = 4 << 20;
/// What a batch may inflate to: as klamm's default.
const BATCH_LIMIT: usize = 64 << 20;

/// Shows all values to `see`, until it has seen enough.
pub(crate) fn read(bootstrap: &str, topic: &str, mut see: impl FnMut(&[u8]) -> bool) {
    let mut connection = Connection::new(bootstrap);
    let mut offsets = vec![0_i64; connection.partitions(topic)];
    let mut reader = BatchReader::new(BATCH_LIMIT);
    let mut enough = false;
    while !enough {
        let request = fetch_request(topic, &offsets, MAX_BYTES);
        connection.fetch(&request, |partition, records| {
            let walked = reader.walk_values(records, |value| enough = enough || see(value));
            if let Some(next) = walked.expect("batches that hold") {
                offsets[partition] = next;
            }
        });
    }
}
