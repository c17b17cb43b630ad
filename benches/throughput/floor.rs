//! The floor: what reading a topic costs when nothing is done but what must be done. One thread, one connection to the
//! one broker, one Fetch at a time into one buffer; every checksum is checked and every record walked in place.
//!
//! No client can be built like this: it cannot lose its broker, does nothing while it waits, and hands out nothing that
//! lives longer than the next answer.

use std::{hint::black_box, time::Instant};

use klamm::internals::BatchReader;

use super::{
    Read,
    bare::{Connection, fetch_request},
};

/// As klamm asks: larger answers fall out of the processor's cache, smaller ones cost more requests.
const MAX_BYTES: i32 = 4 << 20;

pub(crate) fn read(bootstrap: &str, topic: &str, records: usize) -> Read {
    let mut connection = Connection::new(bootstrap);
    let mut offsets = vec![0_i64; connection.partitions(topic)];
    let mut reader = BatchReader::new(64 << 20);
    let (mut first, mut seen, mut bytes) = (None, 0, 0);
    while seen < records {
        let request = fetch_request(topic, &offsets, MAX_BYTES);
        connection.fetch(&request, |partition, records| {
            let walked = reader.walk_values(records, |value| {
                first.get_or_insert_with(Instant::now);
                bytes += black_box(value).len();
                seen += 1;
            });
            if let Some(next) = walked.expect("batches that hold") {
                offsets[partition] = next;
            }
        });
    }
    Read {
        first: first.expect("at least one record"),
        last: Instant::now(),
        bytes,
    }
}
