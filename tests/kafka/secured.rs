//! Brokers that want to know who asks, and that are to prove who they are: TLS, SASL and ACLs against a real Kafka.

#![allow(
    clippy::disallowed_methods,
    reason = "these tests measure time, and play the programs that use klamm: with threads of their own"
)]

mod access;
mod files;
mod java;
mod load;
mod memory;
mod refusals;
mod rotation;
mod sessions;
mod ways;

use std::time::Duration;

use klamm::{Client, ClientBuilder, Producer, Record, Sasl, Stream, Tls, Token};

use crate::support::{self, User, secured, unsecured_token};

/// No machine is so slow.
const LONG: Duration = Duration::from_secs(90);

/// Trusts the authority of the secured broker, and nobody else.
fn tls() -> Tls {
    Tls::new().root_pem(secured().authority.root())
}

fn plain(user: User) -> Sasl {
    Sasl::plain(user.name, user.password)
}

fn oauthbearer(user: User) -> Sasl {
    Sasl::oauthbearer(move |_| Ok(Token::new(unsecured_token(user.name, 600))))
}

/// A client of one listener of the secured broker.
fn at(listener: &str) -> ClientBuilder {
    Client::builder().bootstrap(secured().kafka.listener(listener))
}

/// Writes texts, each of which must arrive.
#[track_caller]
fn write<'t>(producer: &Producer, topic: &str, partition: i32, texts: impl IntoIterator<Item = &'t str>) {
    let sent: Vec<_> = texts
        .into_iter()
        .map(|text| producer.send(Record::to(topic).partition(partition).value(text)))
        .collect();
    for delivery in sent {
        delivery.expect("it is taken").wait(LONG).expect("it is written");
    }
}

/// Reads so many messages, each acked: topic and text.
#[track_caller]
fn take(stream: &Stream, count: usize) -> Vec<(String, String)> {
    support::take(stream, count, |message| {
        let text = String::from_utf8_lossy(message.value().unwrap_or_default());
        (message.topic().to_owned(), text.into_owned())
    })
}
