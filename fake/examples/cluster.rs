//! A cluster to point other clients at, until the end of the input: `cargo run --example cluster -- 3 orders:12 events:3`

use std::io::{self, Read};

use klamm_fake::FakeCluster;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let brokers = arguments.next().and_then(|number| number.parse().ok()).unwrap_or(1);
    let mut builder = FakeCluster::builder().brokers(brokers);
    for topic in arguments {
        let (name, partitions) = topic.split_once(':').unwrap_or((&topic, "1"));
        builder = builder.topic(name, partitions.parse().unwrap_or(1));
    }
    let cluster = builder.start()?;
    println!("{}", cluster.bootstrap());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
