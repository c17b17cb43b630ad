//! What does TLS cost a reader, and how near does it come to a bare loop over rustls?
//!
//! Against a real Kafka on this machine, of which one listener is without TLS. Every run is a process of its own, and
//! contenders take turns, so that only ratios within one round are compared.
//!
//! | Contender | What it does |
//! |---|---|
//! | `floor` | one thread, rustls' own stream, one Fetch at a time: it decrypts, and looks at nothing but where batches end |
//! | `klamm` | the `for` loop of a reader, over TLS |
//! | `plain` | the same without TLS |
//!
//! | Variable | Meaning |
//! |---|---|
//! | `KLAMM_BENCH_RECORDS` | Records of 1 KiB, in 12 partitions; a million unless set |
//! | `KLAMM_BENCH_ROUNDS` | How often each contender runs; 5 unless set |
//! | `KLAMM_BENCH_OTHER` | Another build of this bench, to compare this one with: its `klamm` takes part as `other` |

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod bare;
mod race;
#[path = "../tests/kafka/support/mod.rs"]
mod support;

use std::{
    env, fs,
    hint::black_box,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Instant,
};

use bare::{each_partition, fetch_request, frame, next_offset};
use kafka_protocol::messages::ApiKey;
use klamm::{Client, ClientBuilder, Tls};
use race::{median, median_of, number, peak_megabytes, processor_seconds, ratios, waits};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use support::Kafka;

const CONTENDERS: &[&str] = &["floor", "klamm", "plain"];
const TOPIC: &str = "klamm-bench-tls";
const PARTITIONS: usize = 12;
const VALUE: usize = 1024;

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [contender, bootstrap, root, records] if CONTENDERS.contains(&contender) => {
            race::process::end_with_parent();
            run(
                contender,
                bootstrap,
                root,
                records.parse().expect("a number of records"),
            );
        }
        _ => compare(),
    }
}

// ---- one run, in a process of its own ----

fn run(contender: &str, bootstrap: &str, root: &str, records: usize) {
    let begun = Instant::now();
    let client = Client::builder().bootstrap(bootstrap);
    let bytes = match contender {
        "floor" => floor(bootstrap, root, records, || tell(begun)),
        "klamm" => messages(client.tls(Tls::new().root_file(root)), records, || tell(begun)),
        _ => messages(client, records, || tell(begun)),
    };
    println!("{bytes}");
}

/// Before anything ends: what a thread came to is not known afterwards.
fn tell(begun: Instant) {
    let seconds = begun.elapsed().as_secs_f64();
    println!("{seconds} {} {} {}", processor_seconds(), peak_megabytes(), waits());
}

fn messages(client: ClientBuilder, records: usize, done: impl FnOnce()) -> usize {
    let client = client.connect().expect("the broker is there");
    let stream = client.reader().topics([TOPIC]).open().expect("the topic is there");
    let values = stream.into_iter().map(|message| {
        let message = message.expect("a record");
        black_box(message.value()).map_or(0, <[u8]>::len)
    });
    let mut values = values.take(records);
    let bytes = values.by_ref().sum();
    done();
    bytes
}

/// As klamm asks.
const MAX_BYTES: i32 = 4 << 20;
const VERSION: i16 = 12;

fn floor(bootstrap: &str, root: &str, records: usize, done: impl FnOnce()) -> usize {
    let mut stream = bare_stream(bootstrap, root);
    let mut offsets = vec![0_i64; PARTITIONS];
    let mut buffer = Vec::new();
    while offsets.iter().sum::<i64>() < records as i64 {
        let request = frame(&fetch_request(TOPIC, &offsets, MAX_BYTES), ApiKey::Fetch, VERSION);
        stream.write_all(&request).expect("a request leaves");
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix).expect("an answer");
        let length = u32::from_be_bytes(prefix) as usize;
        buffer.resize(length.max(buffer.len()), 0);
        stream
            .read_exact(&mut buffer[..length])
            .expect("the rest of the answer");
        each_partition(&buffer[..length], |partition, records| {
            offsets[partition] = next_offset(records).unwrap_or(offsets[partition]);
        });
    }
    done();
    records * VALUE
}

fn bare_stream(bootstrap: &str, root: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    let socket = TcpStream::connect(bootstrap).expect("the broker is there");
    socket.set_nodelay(true).expect("a socket takes options");
    StreamOwned::new(connection, socket)
}

// ---- all runs ----

struct Run {
    rate: f64,
    processor: f64,
    peak: f64,
    waits: f64,
}

fn compare() {
    let records = number("KLAMM_BENCH_RECORDS", 1_000_000);
    let folder = env::temp_dir().join(support::unique("klamm-bench-tls"));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let root = folder.join("root.pem");
    let kafka = start(&root);
    kafka.topic_command(&["--create", "--topic", TOPIC, "--partitions", &PARTITIONS.to_string()]);
    kafka.wait_for_topic(TOPIC, PARTITIONS);
    kafka.producer_performance(TOPIC, records, VALUE, &["acks=1", "batch.size=65536", "linger.ms=5"]);
    let (encrypted, plain) = (kafka.bootstrap(), kafka.internal_bootstrap());
    let other = env::var_os("KLAMM_BENCH_OTHER");
    let mut contenders = CONTENDERS.to_vec();
    contenders.extend(other.is_some().then_some("other"));
    let runs = race::rounds(number("KLAMM_BENCH_ROUNDS", 5), contenders.len(), |at| {
        let contender = contenders[at];
        let bootstrap = if contender == "plain" { &plain } else { &encrypted };
        let (root, records) = (root.display().to_string(), records.to_string());
        let numbers = match (contender, &other) {
            ("other", Some(other)) => {
                race::numbers_of_program(Path::new(other), &["klamm", bootstrap, &root, &records])
            }
            _ => race::numbers_of(&[contender, bootstrap, &root, &records]),
        };
        run_of(numbers, records.parse().expect("a number"))
    });
    println!("\n{records} records of {VALUE} bytes in {PARTITIONS} partitions");
    println!(
        "{:<8}{:>10}{:>12}{:>10}{:>10}   of the floor's rate, and times its CPU; round by round",
        "", "MB/s", "CPU ms/MB", "waits/MB", "peak MB"
    );
    for (name, mine) in contenders.iter().zip(&runs) {
        let rates = ratios(mine, &runs[0], |run| run.rate);
        let processor = ratios(mine, &runs[0], |run| run.processor);
        let rounds = rates.iter().zip(&processor);
        let rounds: Vec<_> = rounds.map(|(rate, cpu)| format!("{rate:.2}/{cpu:.2}")).collect();
        println!(
            "{name:<8}{:>10.1}{:>12.3}{:>10.1}{:>10.1}   {:.2} {:.2}; {}",
            median_of(mine, |run| run.rate),
            median_of(mine, |run| run.processor),
            median_of(mine, |run| run.waits),
            median_of(mine, |run| run.peak),
            median(rates),
            median(processor),
            rounds.join(" "),
        );
    }
    let against = |other: usize| median(ratios(&runs[1], &runs[other], |run| run.rate));
    println!(
        "klamm reads over TLS at {:.2} of the floor's rate, and at {:.2} of its own without TLS",
        against(0),
        against(2)
    );
    fs::remove_dir_all(folder).ok();
}

fn run_of([seconds, processor, peak, waits, bytes]: [f64; 5], records: usize) -> Run {
    assert_eq!(bytes as usize, records * VALUE, "all values were seen");
    let megabytes = bytes / 1e6;
    Run {
        rate: megabytes / seconds,
        processor: processor / megabytes * 1000.0,
        peak,
        waits: waits / megabytes,
    }
}

/// Clients use TLS; brokers and tools, and who is to do without, the inner listener.
fn start(root: &Path) -> Kafka {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate").pem();
    fs::write(root, &certificate).expect("a certificate can be written");
    // In a file of properties, a line break is written so.
    let line = |pem: &str| pem.trim().replace('\r', "").replace('\n', "\\n");
    let protocols = "CLIENT:SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT";
    Kafka::builder()
        .full_speed()
        .property("listener.security.protocol.map", protocols)
        .property("ssl.keystore.type", "PEM")
        .property("ssl.keystore.certificate.chain", line(&certificate))
        .property("ssl.keystore.key", line(&key.serialize_pem()))
        .start()
}
