//! A few requests written by hand: what the support code asks brokers without trusting any client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a broker says about its cluster.
#[derive(Debug)]
pub struct Metadata {
    pub brokers: Vec<i32>,
    pub topics: Vec<Topic>,
}

#[derive(Debug)]
pub struct Topic {
    pub error: i16,
    pub name: String,
    /// Leader by partition, -1 when there is none.
    pub leaders: Vec<i32>,
}

/// Asks which versions the broker speaks, and returns how many APIs it listed.
pub fn api_versions(broker: SocketAddr) -> io::Result<usize> {
    let answer = ask(broker, 18, 0, &[])?;
    let mut fields = Fields(&answer);
    match fields.i16()? {
        0 => Ok(fields.i32()? as usize),
        code => Err(io::Error::other(format!("ApiVersions failed with code {code}"))),
    }
}

/// Asks one broker for the brokers it knows and for some topics.
pub fn metadata(broker: SocketAddr, topics: &[&str]) -> io::Result<Metadata> {
    let mut body = (topics.len() as i32).to_be_bytes().to_vec();
    for topic in topics {
        put_string(&mut body, topic);
    }
    let answer = ask(broker, 3, 1, &body)?;
    let mut fields = Fields(&answer);
    let mut brokers = Vec::new();
    for _ in 0..fields.i32()? {
        brokers.push(fields.i32()?);
        fields.string()?;
        fields.i32()?;
        fields.string()?;
    }
    let _controller = fields.i32()?;
    let mut topics = Vec::new();
    for _ in 0..fields.i32()? {
        let error = fields.i16()?;
        let name = fields.string()?;
        let _internal = fields.bytes(1)?;
        let mut leaders = Vec::new();
        for _ in 0..fields.i32()? {
            let _error = fields.i16()?;
            let index = fields.i32()? as usize;
            if leaders.len() <= index {
                leaders.resize(index + 1, -1);
            }
            leaders[index] = fields.i32()?;
            for _replicas_then_isr in 0..2 {
                let count = fields.i32()? as usize;
                fields.bytes(4 * count)?;
            }
        }
        topics.push(Topic { error, name, leaders });
    }
    Ok(Metadata { brokers, topics })
}

/// Whether the broker itself knows that it leads all of these partitions: it tells so a little later than metadata does.
pub fn leads(broker: SocketAddr, topic: &str, partitions: &[i32]) -> io::Result<bool> {
    let consumer = -1_i32;
    let mut body = consumer.to_be_bytes().to_vec();
    body.extend(1_i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend((partitions.len() as i32).to_be_bytes());
    for partition in partitions {
        let latest = -1_i64;
        body.extend(partition.to_be_bytes());
        body.extend(latest.to_be_bytes());
    }
    let answer = ask(broker, 2, 1, &body)?;
    let mut fields = Fields(&answer);
    let _one_topic = fields.i32()?;
    fields.string()?;
    let count = fields.i32()? as usize;
    let mut errors = 0;
    for _ in 0..count {
        fields.i32()?;
        errors += i32::from(fields.i16()? != 0);
        let _timestamp_and_offset = fields.bytes(16)?;
    }
    Ok(count == partitions.len() && errors == 0)
}

/// The node that coordinates a group, when the broker knows one.
pub fn coordinator(broker: SocketAddr, group: &str) -> io::Result<i32> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    let answer = ask(broker, 10, 0, &body)?;
    let mut fields = Fields(&answer);
    match fields.i16()? {
        0 => fields.i32(),
        code => Err(io::Error::other(format!("FindCoordinator failed with code {code}"))),
    }
}

/// One request and its answer's body, over a connection of its own.
pub fn ask(broker: SocketAddr, api_key: i16, version: i16, body: &[u8]) -> io::Result<Vec<u8>> {
    let limit = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&broker, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let correlation = 7_i32;
    let mut frame = vec![0; 4];
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    put_string(&mut frame, "klamm-test");
    frame.extend(body);
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = i32::from_be_bytes(length);
    if !(4..100_000_000).contains(&length) {
        return Err(io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer)?;
    if answer[..4] != correlation.to_be_bytes() {
        return Err(io::Error::other("an answer to another question"));
    }
    Ok(answer.split_off(4))
}

fn put_string(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as i16).to_be_bytes());
    body.extend(text.as_bytes());
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.0 = tail;
        Ok(head)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.bytes(2)?.try_into().expect("two bytes")))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into().expect("four bytes")))
    }

    /// Null reads as empty: nothing here needs the difference.
    fn string(&mut self) -> io::Result<String> {
        let length = self.i16()?.max(0) as usize;
        Ok(String::from_utf8_lossy(self.bytes(length)?).into_owned())
    }
}
