//! The file that configures a Java client configures klamm, for all that one does with a cluster.

use klamm::{Next, Properties, Record};

use crate::{
    LONG,
    cluster::{Cluster, on_both, text, unique},
};

on_both! {
    a_java_client_s_file_is_enough_to_write_and_to_read,
}

fn a_java_client_s_file_is_enough_to_write_and_to_read(cluster: &Cluster) {
    let (topic, group) = (cluster.topic("properties", 1), unique("group"));
    let file = std::env::temp_dir().join(unique("client.properties"));
    let text_of_file = format!(
        "# As a Java program has it\n\
         bootstrap.servers = {}\n\
         client.id: billing\n\
         group.id={group}\n\
         auto.offset.reset=earliest\n\
         enable.auto.commit=true\n\
         session.timeout.ms=10000\n\
         isolation.level=read_committed\n\
         key.deserializer=org.apache.kafka.common.serialization.StringDeserializer\n\
         partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor,\\\n    \
             org.apache.kafka.clients.consumer.CooperativeStickyAssignor\n\
         acks=all\n\
         linger.ms=0\n\
         batch.size=16384\n\
         compression.type=gzip\n",
        cluster.bootstrap()
    );
    std::fs::write(&file, text_of_file).unwrap();
    let properties = Properties::from_file(&file);
    std::fs::remove_file(&file).unwrap();
    let properties = properties.unwrap();
    assert_eq!(properties.unknown().count(), 0);

    let client = properties.client().unwrap().connect().unwrap();
    let producer = client.producer().properties(&properties).unwrap().build().unwrap();
    for value in ["a", "b"] {
        producer.send_sync(Record::to(&topic).value(value), LONG).unwrap();
    }

    let members = client.group(properties.group_id().unwrap()).topics([&topic]);
    let stream = members.properties(&properties).unwrap().join().unwrap();
    let mut iter = stream.iter();
    for value in ["a", "b"] {
        match iter.next_timeout(LONG).unwrap() {
            Next::Message(message) => assert_eq!(text(message.value()), value),
            other => panic!("{other:?}"),
        }
    }
    drop(iter);
    stream.close(LONG).unwrap();

    let reader = client.reader().topics([&topic]).properties(&properties).unwrap();
    assert_eq!(reader.until_end().open().unwrap().into_iter().count(), 2);
}
