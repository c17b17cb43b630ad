//! Runs a cluster until its standard input ends, for programs that are not tests:
//! `cargo run -p klamm-fake --example serve -- orders:12 payments:3`.

use std::io::{self, Read};

use klamm_fake::FakeCluster;

fn main() -> io::Result<()> {
    let mut builder = FakeCluster::builder().brokers(3).auto_create_topics(3);
    for topic in std::env::args().skip(1) {
        let (name, partitions) = topic.split_once(':').unwrap_or((&topic, "1"));
        let partitions = partitions.parse().map_err(io::Error::other)?;
        builder = builder.topic(name, partitions);
    }
    let cluster = builder.start()?;
    println!("{}", cluster.bootstrap());
    io::stdin().read_to_end(&mut Vec::new())?;
    cluster.close();
    Ok(())
}
