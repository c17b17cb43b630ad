//! The floor: what reading a topic costs when nothing is done but what must be done. One thread, one connection to the
//! one broker, one Fetch at a time into one buffer; every checksum is checked and every record walked in place.
//!
//! The next answer is asked for before the last one is walked, from where its batches' headers say that it ends: the broker
//! works, and fills the socket's buffers, while this thread does. It waits for nothing but the first answer, and for a
//! broker that is slower than itself. An answer of a few records is walked first: there, somebody waits for them.
//!
//! No client can be built like this: it cannot lose its broker, does nothing while it waits, and hands out nothing that
//! lives longer than the next answer. A client may still come in before it, by walking on several threads at once.

use klamm::internals::BatchReader;

use super::bare::{Connection, each_partition, fetch_request, next_offset};

/// As klamm asks: larger answers fall out of the processor's cache, smaller ones cost more requests.
const MAX_BYTES: i32 = 4 << 20;
/// What a batch may inflate to: as klamm's default.
const BATCH_LIMIT: usize = 64 << 20;
/// To walk so much takes about as long as to ask.
const FEW_BYTES: usize = 4 << 10;

/// Shows all values to `see`, until it has seen enough.
pub(crate) fn read(bootstrap: &str, topic: &str, mut see: impl FnMut(&[u8]) -> bool) {
    let mut connection = Connection::new(bootstrap);
    let mut offsets = vec![0_i64; connection.partitions(topic)];
    let mut reader = BatchReader::new(BATCH_LIMIT);
    let ask = |connection: &mut Connection, offsets: &[i64]| {
        connection.write_fetch(&fetch_request(topic, offsets, MAX_BYTES));
    };
    ask(&mut connection, &offsets);
    let mut enough = false;
    while !enough {
        connection.receive();
        each_partition(connection.received(), |partition, records| {
            offsets[partition] = next_offset(records).unwrap_or(offsets[partition]);
        });
        let has_few = connection.received().len() < FEW_BYTES;
        if !has_few {
            ask(&mut connection, &offsets);
        }
        each_partition(connection.received(), |_, records| {
            let walked = reader.walk_values(records, |value| enough = enough || see(value));
            let walked = walked.expect("batches that hold");
            assert_eq!(walked, next_offset(records), "it was asked for what follows");
        });
        if has_few && !enough {
            ask(&mut connection, &offsets);
        }
    }
}
