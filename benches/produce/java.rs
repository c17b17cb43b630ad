//! A rough peer: Kafka's own `ProducerPerformance`, by its own clock, which starts when Java and the producer have.

use std::fs;

use super::{
    load::Load,
    race,
    support::{fast_java_tool, unique},
};

pub(crate) fn run(load: &Load, bootstrap: &str, topic: &str) {
    let file = std::env::temp_dir().join(unique("klamm-bench"));
    fs::write(&file, load.lines()).expect("a file can be written");
    let said = fast_java_tool(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            topic,
            "--num-records",
            &load.records.to_string(),
            "--payload-file",
            &file.display().to_string(),
            "--throughput",
            "-1",
            "--producer-props",
            &format!("bootstrap.servers={bootstrap}"),
            "acks=all",
            &format!("compression.type={}", load.workload.codec),
        ],
    );
    let _ = fs::remove_file(&file);
    // "2000000 records sent, 812345.6 records/sec (77.47 MB/sec), …"
    let mut rates = said.lines().filter_map(|line| {
        let (_, rest) = line.split_once("records sent, ")?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    let rate = rates.next_back().expect("a rate");
    let seconds = load.records as f64 / rate;
    println!("{seconds} {} NaN", race::processor_seconds_of_children());
}
