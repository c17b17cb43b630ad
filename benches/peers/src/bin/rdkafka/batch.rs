//! librdkafka's interface for many messages at once, which rust-rdkafka does not wrap.

#![expect(unsafe_code, reason = "an interface of C")]

use std::{
    ffi::{CStr, c_char},
    mem::ManuallyDrop,
    ptr, slice,
};

use rdkafka::{ClientConfig, TopicPartitionList, bindings as c};

/// At once.
const MESSAGES: usize = 1000;
/// For so many; of fewer none are handed out before.
const WAIT_MS: i32 = 100;
const PATIENCE_MS: i32 = 120_000;

/// Assigns what its group gives it by itself: no callbacks are set.
pub(crate) struct Consumer {
    client: *mut c::rd_kafka_t,
    queue: *mut c::rd_kafka_queue_t,
}

impl Consumer {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        // The client takes it.
        let config = ManuallyDrop::new(config.create_native_config().expect("settings that hold"));
        let mut complaint: [c_char; 512] = [0; 512];
        // SAFETY: the settings are not used again, and the complaint ends within its length.
        unsafe {
            let kind = c::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            let client = c::rd_kafka_new(kind, config.ptr(), complaint.as_mut_ptr(), complaint.len());
            assert!(!client.is_null(), "{:?}", CStr::from_ptr(complaint.as_ptr()));
            c::rd_kafka_poll_set_consumer(client);
            let queue = c::rd_kafka_queue_get_consumer(client);
            assert!(!queue.is_null(), "the settings name a group");
            Self { client, queue }
        }
    }

    /// How many the topic has.
    pub(crate) fn partitions(&self, topic: &str) -> usize {
        let mut answer = ptr::null();
        // SAFETY: the answer is read before it is destroyed, and as far as it says itself.
        unsafe {
            let error = c::rd_kafka_metadata(self.client, 1, ptr::null_mut(), &raw mut answer, PATIENCE_MS);
            check(error);
            let topics = slice::from_raw_parts((*answer).topics, (*answer).topic_cnt as usize);
            let found = topics
                .iter()
                .find(|found| CStr::from_ptr(found.topic).to_bytes() == topic.as_bytes());
            let partitions = found.map_or(0, |found| found.partition_cnt as usize);
            c::rd_kafka_metadata_destroy(answer);
            partitions
        }
    }

    pub(crate) fn assign(&self, partitions: &TopicPartitionList) {
        // SAFETY: the list is copied.
        check(unsafe { c::rd_kafka_assign(self.client, partitions.ptr()) });
    }

    pub(crate) fn subscribe(&self, topics: &TopicPartitionList) {
        // SAFETY: the list is copied.
        check(unsafe { c::rd_kafka_subscribe(self.client, topics.ptr()) });
    }

    /// Hands out the values of so many messages, or fewer if it is told that one was the last.
    pub(crate) fn read(&self, messages: u64, mut see: impl FnMut(&[u8]) -> bool) {
        let mut batch = [ptr::null_mut(); MESSAGES];
        let mut left = messages;
        while left > 0 {
            // The call waits until there are as many as it may return.
            let wanted = left.min(MESSAGES as u64) as usize;
            // SAFETY: there is room for so many.
            let found = unsafe { c::rd_kafka_consume_batch_queue(self.queue, WAIT_MS, batch.as_mut_ptr(), wanted) };
            let found = usize::try_from(found).expect("messages");
            left -= found as u64;
            for &message in &batch[..found] {
                // SAFETY: a message is not touched after it is destroyed, and its value is as long as it says.
                let last = unsafe {
                    check((*message).err);
                    let value = (*message).payload.cast::<u8>();
                    let value = if value.is_null() {
                        &[]
                    } else {
                        slice::from_raw_parts(value, (*message).len)
                    };
                    let last = see(value);
                    c::rd_kafka_message_destroy(message);
                    last
                };
                if last {
                    return;
                }
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // SAFETY: nobody has them any more.
        unsafe {
            c::rd_kafka_queue_destroy(self.queue);
            c::rd_kafka_consumer_close(self.client);
            c::rd_kafka_destroy(self.client);
        }
    }
}

fn check(error: c::rd_kafka_resp_err_t) {
    assert!(
        error == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        "librdkafka says {error:?}"
    );
}
