//! What is within a partition: which offsets it has, and removing its oldest records.

use kafka_protocol::messages::{
    DeleteRecordsRequest,
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
};

use crate::{
    admin::{Admin, Results},
    cluster::{
        Purpose,
        offsets::{milliseconds, topic_name},
    },
    deadline::Deadline,
    error::{Error, Result},
    net::Ask,
    offset::{Isolation, StartAt, TopicPartition},
};

impl Admin {
    /// Removes the records of partitions that lie before an offset, and says what the first offset is then. Kafka
    /// removes whole segments when it sees fit, but nobody can read what lies before. `-1` stands for everything.
    ///
    /// ```no_run
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// client.admin().delete_records([("orders", 0, 1_000), ("orders", 1, -1)])?.all()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Of an item: [`OutOfRange`](crate::ErrorKind::OutOfRange) when the offset lies behind the last record,
    /// [`UnknownTopic`](crate::ErrorKind::UnknownTopic), or that its leader could not be asked in time.
    pub fn delete_records<T: AsRef<str>>(
        &self,
        before: impl IntoIterator<Item = (T, i32, i64)>,
    ) -> Result<Results<TopicPartition, i64>> {
        let deadline = self.deadline();
        let items = before.into_iter().map(|(topic, partition, offset)| {
            let result = self.delete_before(topic.as_ref(), partition, offset, &deadline);
            (TopicPartition::new(topic, partition), result)
        });
        Ok(Results::new(items.collect()))
    }

    fn delete_before(&self, topic: &str, partition: i32, offset: i64, deadline: &Deadline) -> Result<i64> {
        self.cluster.with_leader(topic, partition, deadline, |leader, _, _| {
            let wanted = DeleteRecordsPartition::default()
                .with_partition_index(partition)
                .with_offset(offset);
            let topics = DeleteRecordsTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![wanted]);
            let request = DeleteRecordsRequest::default()
                .with_timeout_ms(milliseconds(deadline))
                .with_topics(vec![topics]);
            let ask = Ask::from(&request).may_take(deadline.remaining());
            let answer = self.cluster.call_broker(leader, Purpose::Slow, ask, deadline)?;
            let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            let done = partitions
                .into_iter()
                .find(|done| done.partition_index == partition)
                .ok_or_else(|| Error::protocol("the answer lacks the partition asked for").in_api("DeleteRecords"))?;
            match done.error_code {
                0 => Ok(done.low_watermark),
                code => Err(Error::refused(code).in_api("DeleteRecords")),
            }
        })
    }

    /// Which offset each partition has at its start, its end or a point in time; `None` where no record is that new.
    /// The end is that of what is committed, as in [`Client::offset_for`](crate::Client::offset_for).
    ///
    /// ```no_run
    /// # use klamm::StartAt;
    /// # fn main() -> klamm::Result<()> {
    /// # let client = klamm::Client::connect("localhost:9092")?;
    /// let ends = client.admin().list_offsets([("orders", 0, StartAt::Latest)])?;
    /// for (partition, end) in ends {
    ///     println!("{partition} ends at {:?}", end?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Of an item: [`UnknownTopic`](crate::ErrorKind::UnknownTopic), or that its leader could not be asked in time.
    pub fn list_offsets<T: AsRef<str>>(
        &self,
        at: impl IntoIterator<Item = (T, i32, StartAt)>,
    ) -> Result<Results<TopicPartition, Option<i64>>> {
        let deadline = self.deadline();
        let items = at.into_iter().map(|(topic, partition, start)| {
            let result = start.check().and_then(|()| {
                self.cluster
                    .offset_for(topic.as_ref(), partition, start, Isolation::default(), &deadline)
            });
            (TopicPartition::new(topic, partition), result)
        });
        Ok(Results::new(items.collect()))
    }
}
