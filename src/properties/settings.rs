//! What the properties say of everything but security, into the settings of clients, streams and producers.

use std::time::Duration;

use super::{Properties, value::Value};
use crate::{
    cluster::{Backoff, ClusterConfig},
    consumer::config::FetchConfig,
    error::Result,
    group::{Assignor, GroupProtocol, config::GroupConfig},
    net::Address,
    offset::{Isolation, OutOfRange, StartAt},
    producer::{Acks, Partitioner, config::ProducerConfig},
    wire::batch::Compression,
};

/// Kafka's INT and LONG.
const INT: u64 = i32::MAX as u64;
const LONG: u64 = i64::MAX as u64;

/// Sizes of answers are limits: less than was allowed is allowed as well.
const MOST_OF_AN_ANSWER: usize = 64 << 20;
/// What a producer can wait for, 24 days; Java's files have longer times for ever.
const LONGEST: Duration = Duration::from_millis(INT);

/// `bootstrap.servers`, each of which may have its protocol in front of it.
pub(super) fn servers(properties: &Properties) -> Result<Option<String>> {
    let Some(value) = properties.find_filled("bootstrap.servers") else {
        return Ok(None);
    };
    let protocol = properties.find_filled("security.protocol");
    let protocol = protocol.map_or("PLAINTEXT", |protocol| protocol.text);
    let mut servers = Vec::new();
    // In all of it: a password may hold a comma.
    if value.text.contains('@') {
        return Err(value.wrong("must name hosts and ports only; who logs in is for sasl.jaas.config to say"));
    }
    for server in value.list() {
        let address = match server.split_once("://") {
            Some((scheme, address)) if scheme.eq_ignore_ascii_case(protocol) => address,
            Some((scheme, _)) => {
                return Err(value.wrong(format!("asks for {scheme}, and security.protocol is {protocol}")));
            }
            None => server,
        };
        Address::parse(address).map_err(|error| value.wrong(format!("cannot be used: {error}")))?;
        servers.push(address);
    }
    Ok(Some(servers.join(",")))
}

pub(super) fn client(properties: &Properties, config: &mut ClusterConfig) -> Result<()> {
    if let Some(id) = properties.find_filled("client.id") {
        id.text.clone_into(&mut config.client_id);
    }
    if let Some(rack) = properties.find_filled("client.rack") {
        config.rack = Some(rack.text.to_owned());
    }
    for (key, time) in [
        ("request.timeout.ms", &mut config.request_timeout),
        ("socket.connection.setup.timeout.ms", &mut config.connect_timeout),
    ] {
        set(properties, key, time, |value| value.millis(1..=INT))?;
    }
    set(
        properties,
        "metadata.max.age.ms",
        &mut config.metadata_max_age,
        |value| value.millis(1..=LONG),
    )?;
    set(
        properties,
        "connections.max.idle.ms",
        &mut config.connections_max_idle,
        |value| match value.text {
            "-1" => Ok(Duration::MAX),
            _ => value.millis(1..=LONG),
        },
    )?;
    for (key, bytes) in [
        ("send.buffer.bytes", &mut config.socket.send_buffer),
        ("receive.buffer.bytes", &mut config.socket.receive_buffer),
    ] {
        // Below 1 it is the system's in Java and in librdkafka.
        set(properties, key, bytes, |value| {
            let bytes = value.integer(-1..=i32::MAX)?;
            Ok(usize::try_from(bytes).ok().filter(|bytes| *bytes > 0))
        })?;
    }
    backoff(
        properties,
        "retry.backoff.ms",
        "retry.backoff.max.ms",
        &mut config.retry_backoff,
    )?;
    backoff(
        properties,
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
        &mut config.reconnect_backoff,
    )
}

/// A first time above the longest one counts as the longest in Java, if that was said, and else replaces it.
fn backoff(properties: &Properties, first: &str, longest: &str, backoff: &mut Backoff) -> Result<()> {
    let mut is_said = false;
    set(properties, first, &mut backoff.min, |value| value.millis(1..=LONG))?;
    set(properties, longest, &mut backoff.max, |value| {
        is_said = true;
        value.millis(1..=LONG)
    })?;
    match is_said {
        true => backoff.min = backoff.min.min(backoff.max),
        false => backoff.max = backoff.max.max(backoff.min),
    }
    Ok(())
}

pub(super) fn reading(properties: &Properties, config: &mut FetchConfig) -> Result<()> {
    if let Some(reset) = properties.find_filled("auto.offset.reset") {
        (config.start_at, config.out_of_range) = offset_reset(reset)?;
    }
    let most = usize::try_from(INT).unwrap_or(usize::MAX);
    set(properties, "fetch.min.bytes", &mut config.min_bytes, |value| {
        value.integer(1..=1 << 30)
    })?;
    for (key, bytes) in [
        ("fetch.max.bytes", &mut config.max_bytes),
        ("max.partition.fetch.bytes", &mut config.partition_max_bytes),
    ] {
        set(properties, key, bytes, |value| {
            Ok(value.integer(1..=most)?.min(MOST_OF_AN_ANSWER))
        })?;
    }
    // No answer could be large enough.
    if properties.find_filled("fetch.max.bytes").is_none() {
        config.max_bytes = config.max_bytes.max(config.min_bytes.min(MOST_OF_AN_ANSWER));
    }
    if config.max_bytes == MOST_OF_AN_ANSWER {
        config.min_bytes = config.min_bytes.min(MOST_OF_AN_ANSWER);
    }
    set(properties, "fetch.max.wait.ms", &mut config.max_wait, |value| {
        value.millis(1..=3_600_000)
    })?;
    set(properties, "isolation.level", &mut config.isolation, |value| {
        value.one_of(&[
            ("read_committed", Isolation::ReadCommitted),
            ("read_uncommitted", Isolation::ReadUncommitted),
        ])
    })
}

/// Where to begin, and where to go on when that is gone: in Java, one setting.
fn offset_reset(value: Value<'_>) -> Result<(StartAt, OutOfRange)> {
    const EARLIEST: (StartAt, OutOfRange) = (StartAt::Earliest, OutOfRange::Earliest);
    const LATEST: (StartAt, OutOfRange) = (StartAt::Latest, OutOfRange::Latest);
    let known = value.one_of(&[
        ("earliest", EARLIEST),
        ("smallest", EARLIEST),
        ("beginning", EARLIEST),
        ("latest", LATEST),
        ("largest", LATEST),
        ("end", LATEST),
    ]);
    let duration = value
        .text
        .split_once(':')
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("by_duration"));
    match duration.and_then(|(_, duration)| iso_8601(duration)) {
        // A place that is gone is before that time, or it was reached by time already.
        Some(duration) => Ok((StartAt::Ago(duration), OutOfRange::Nearest)),
        None => known.map_err(|_| value.refuse("earliest, latest or by_duration:PnDTnHnMn.nS")),
    }
}

/// Days to seconds, as Java's `Duration.parse` reads them; not negative.
fn iso_8601(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text.strip_prefix('P')?, ""),
    };
    if days.is_empty() && time.is_empty() {
        return None;
    }
    let mut seconds = 0_u64;
    let mut nanos = 0;
    let mut add = |count: &str, unit: u64| {
        let count = count.parse::<u64>().ok()?.checked_mul(unit)?;
        seconds = seconds.checked_add(count)?;
        Some(())
    };
    if !days.is_empty() {
        add(days.strip_suffix('D')?, 86_400)?;
    }
    let mut rest = time;
    for (sign, unit) in [('H', 3_600), ('M', 60)] {
        if let Some((count, behind)) = rest.split_once(sign) {
            add(count, unit)?;
            rest = behind;
        }
    }
    if !rest.is_empty() {
        let (whole, fraction) = rest
            .strip_suffix('S')
            .map(|count| count.split_once('.').unwrap_or((count, "")))?;
        add(whole, 1)?;
        if fraction.len() > 9 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        nanos = format!("{fraction:0<9}").parse().ok()?;
    }
    Some(Duration::new(seconds, nanos))
}

pub(super) fn group(properties: &Properties, id: &str, config: &mut GroupConfig) -> Result<()> {
    match properties.find_filled("group.id") {
        Some(named) if named.text != id => {
            return Err(named.wrong(format!(
                "is {}, and the program joins {id}: `Properties::group_id` gives the former, `with` replaces it",
                named.text
            )));
        }
        _ => {}
    }
    if let Some(id) = properties.find_filled("group.instance.id") {
        config.instance_id = Some(id.text.to_owned());
    }
    for (key, time) in [
        ("session.timeout.ms", &mut config.session_timeout),
        ("heartbeat.interval.ms", &mut config.heartbeat_interval),
        ("max.poll.interval.ms", &mut config.rebalance_timeout),
    ] {
        set(properties, key, time, |value| value.millis(1..=INT))?;
    }
    set(
        properties,
        "auto.commit.interval.ms",
        &mut config.commit_interval,
        |value| value.millis(1..=INT).map(Some),
    )?;
    if let Some(commits) = properties.find_filled("enable.auto.commit") {
        config.commit_interval = match commits.is_true()? {
            true => config.commit_interval.or(GroupConfig::default().commit_interval),
            false => None,
        };
    }
    set(properties, "group.protocol", &mut config.protocol, |value| {
        let classic = value.one_of(&[("classic", GroupProtocol::Classic)]);
        classic.map_err(|_| value.refuse("classic: klamm does not speak the newer protocol yet"))
    })?;
    set(
        properties,
        "partition.assignment.strategy",
        &mut config.assignors,
        assignors,
    )
}

/// Those that klamm has, in the order in which they are named: members agree on one that all have.
fn assignors(value: Value<'_>) -> Result<Vec<Assignor>> {
    let mut assignors = Vec::new();
    for name in value.list() {
        let assignor = match name.rsplit('.').next().unwrap_or_default() {
            "RangeAssignor" | "range" => Assignor::Range,
            "RoundRobinAssignor" | "roundrobin" => Assignor::RoundRobin,
            _ => {
                let text =
                    format!("names {name}, which klamm does not have: other members must have another one as well");
                log::info!("{}", value.sentence(text));
                continue;
            }
        };
        if !assignors.contains(&assignor) {
            assignors.push(assignor);
        }
    }
    match assignors.is_empty() {
        true => Err(value.refuse("RangeAssignor or RoundRobinAssignor, or both")),
        false => Ok(assignors),
    }
}

const ACKS: [(&str, Acks); 4] = [
    ("all", Acks::All),
    ("-1", Acks::All),
    ("1", Acks::Leader),
    ("0", Acks::None),
];

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

pub(super) fn producer(properties: &Properties, config: &mut ProducerConfig) -> Result<()> {
    set(properties, "acks", &mut config.acks, |value| value.one_of(&ACKS))?;
    if let Some(idempotence) = properties.find_filled("enable.idempotence") {
        if idempotence.is_true()? && config.acks != Acks::All {
            return Err(idempotence.wrong("is true, which needs acks=all"));
        }
    }
    sizes(properties, config)?;
    set(properties, "linger.ms", &mut config.linger, |value| {
        value.millis(0..=INT)
    })?;
    set(
        properties,
        "delivery.timeout.ms",
        &mut config.delivery_timeout,
        |value| value.millis(1..=INT),
    )?;
    set(properties, "max.block.ms", &mut config.max_block, |value| {
        Ok(value.millis(0..=LONG)?.min(LONGEST))
    })?;
    if config.acks != Acks::None {
        set(properties, "retries", &mut config.max_retries, |value| {
            let retries = value.integer(0..=i32::MAX.unsigned_abs())?;
            Ok((retries < i32::MAX.unsigned_abs()).then_some(retries))
        })?;
    }
    let acks = config.acks;
    set(
        properties,
        "max.in.flight.requests.per.connection",
        &mut config.in_flight,
        |value| match acks {
            Acks::All => value
                .integer(1..=5)
                .map_err(|_| value.refuse("a whole number from 1 to 5 with acks=all")),
            _ => value.integer(1..=100),
        },
    )?;
    compression(properties, config)?;
    set(properties, "partitioner.class", &mut config.partitioner, partitioner)
}

fn sizes(properties: &Properties, config: &mut ProducerConfig) -> Result<()> {
    set(properties, "buffer.memory", &mut config.buffer_bytes, |value| {
        value.integer(1_024..=usize::MAX >> 1)
    })?;
    match properties.find_filled("batch.size") {
        Some(size) => {
            config.batch_bytes = size.integer(1_024..=64 << 20)?;
            config.request_bytes = config.request_bytes.max(config.batch_bytes);
        }
        // Java's batches fit into less than klamm's.
        None => config.batch_bytes = config.batch_bytes.min(config.buffer_bytes),
    }
    Ok(())
}

fn compression(properties: &Properties, config: &mut ProducerConfig) -> Result<()> {
    if let Some(codec) = properties.find_filled("compression.type") {
        let codec = codec.one_of(&CODECS)?;
        if codec != config.compression {
            config.compression_level = None;
        }
        config.compression = codec;
    }
    let level = &mut config.compression_level;
    match config.compression {
        Compression::Gzip => set(properties, "compression.gzip.level", level, |value| match value.text {
            "-1" => Ok(None),
            _ => value.integer(1..=9).map(Some),
        }),
        Compression::Zstd => set(properties, "compression.zstd.level", level, |value| {
            value.integer(-131_072..=22).map(Some)
        }),
        _ => Ok(()),
    }
}

fn partitioner(value: Value<'_>) -> Result<Partitioner> {
    match value.text.rsplit('.').next().unwrap_or_default() {
        "DefaultPartitioner" | "murmur2_random" => Ok(Partitioner::Murmur2),
        "RoundRobinPartitioner" => Ok(Partitioner::RoundRobin),
        "random" => Ok(Partitioner::Random),
        _ => Err(value.refuse(
            "left out for Java's default, or RoundRobinPartitioner (librdkafka: murmur2_random or random); \
             `Partitioner::custom` takes any other one",
        )),
    }
}

/// Why a key that builders take changes nothing, beside what others say.
pub(super) fn without_effect(properties: &Properties, key: &str, value: Value<'_>) -> Option<&'static str> {
    let says = |key: &str, text: &str| properties.find_filled(key).is_some_and(|value| value.is(text));
    let codec = properties.find_filled("compression.type");
    let is_other = |codec_of_level| codec.is_some_and(|codec| !codec.is(codec_of_level));
    let is_large = || {
        value
            .text
            .parse()
            .is_ok_and(|bytes: u64| bytes > MOST_OF_AN_ANSWER as u64)
    };
    let acks = properties
        .find_filled("acks")
        .map_or(Ok(Acks::All), |value| value.one_of(&ACKS));
    match key {
        "auto.commit.interval.ms" if says("enable.auto.commit", "false") => Some("enable.auto.commit is false"),
        "enable.idempotence" if value.is("false") && acks.is_ok_and(|acks| acks == Acks::All) => {
            Some("with acks=all, klamm is idempotent")
        }
        "retries" if says("acks", "0") => Some("with acks=0, nothing is sent again"),
        "compression.gzip.level" if is_other("gzip") => Some("compression.type is not gzip"),
        "compression.zstd.level" if is_other("zstd") => Some("compression.type is not zstd"),
        "compression.gzip.level" | "compression.zstd.level" if codec.is_none() => {
            Some("without compression.type, nothing is compressed unless the program says so")
        }
        "fetch.max.bytes" | "max.partition.fetch.bytes" | "fetch.min.bytes" if is_large() => {
            Some("klamm asks for 64 MiB at most")
        }
        _ => None,
    }
}

/// Puts a value in its place, if there is one.
fn set<T>(properties: &Properties, key: &str, place: &mut T, read: impl FnOnce(Value<'_>) -> Result<T>) -> Result<()> {
    if let Some(value) = properties.find_filled(key) {
        *place = read(value)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Properties {
        text.parse().unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn of_client(text: &str) -> Result<ClusterConfig> {
        let mut config = ClusterConfig::default();
        client(&of(text), &mut config).map(|()| config)
    }

    fn of_reading(text: &str) -> Result<FetchConfig> {
        let mut config = FetchConfig::default();
        reading(&of(text), &mut config).map(|()| config)
    }

    fn of_group(text: &str) -> Result<GroupConfig> {
        let mut config = GroupConfig::default();
        group(&of(text), "billing", &mut config).map(|()| config)
    }

    fn of_producer(text: &str) -> Result<ProducerConfig> {
        let mut config = ProducerConfig::default();
        producer(&of(text), &mut config).map(|()| config)
    }

    #[track_caller]
    fn refused<T>(outcome: Result<T>, why: &str) {
        let error = outcome.err().unwrap().to_string();
        assert!(error.starts_with("line ") && error.contains(why), "{error}");
    }

    #[test]
    fn what_is_not_there_stays_as_it_was() {
        let same = |one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
            assert_eq!(format!("{one:?}"), format!("{other:?}"));
        };
        let nothing = "linger.ms=\nfetch.min.bytes=\nrequest.timeout.ms=\nsession.timeout.ms=\nacks=";
        same(&of_client(nothing).unwrap(), &ClusterConfig::default());
        same(&of_reading(nothing).unwrap(), &FetchConfig::default());
        same(&of_group(nothing).unwrap(), &GroupConfig::default());
        same(&of_producer(nothing).unwrap(), &ProducerConfig::default());
    }

    #[test]
    fn a_client_has_its_times_and_names() {
        let config = of_client(
            "client.id=a\nclient.rack=b\nrequest.timeout.ms=1000\nsocket.connection.setup.timeout.ms=2000\n\
             metadata.max.age.ms=3000\nconnections.max.idle.ms=-1\nsend.buffer.bytes=131072\nreceive.buffer.bytes=-1\n\
             retry.backoff.ms=4000\nretry.backoff.max.ms=5000\nreconnect.backoff.ms=6000\nreconnect.backoff.max.ms=7000",
        )
        .unwrap();
        assert_eq!((&*config.client_id, config.rack.as_deref()), ("a", Some("b")));
        assert_eq!(
            (config.request_timeout, config.connect_timeout),
            (seconds(1), seconds(2))
        );
        assert_eq!(
            (config.metadata_max_age, config.connections_max_idle),
            (seconds(3), Duration::MAX)
        );
        assert_eq!(
            (config.socket.send_buffer, config.socket.receive_buffer),
            (Some(131_072), None)
        );
        assert_eq!(
            (config.retry_backoff.min, config.retry_backoff.max),
            (seconds(4), seconds(5))
        );
        assert_eq!(
            (config.reconnect_backoff.min, config.reconnect_backoff.max),
            (seconds(6), seconds(7))
        );
        refused(of_client("request.timeout.ms=0"), "from 1 to 2147483647, not 0");
        refused(of_client("metadata.max.age.ms=5s"), "not 5s");
    }

    #[test]
    fn the_longest_backoff_is_never_below_the_first() {
        let of = |text| {
            let backoff = of_client(text).unwrap().retry_backoff;
            (backoff.min, backoff.max)
        };
        assert_eq!(of("retry.backoff.ms=5000"), (seconds(5), seconds(5)));
        assert_eq!(
            of("retry.backoff.ms=5000\nretry.backoff.max.ms=2000"),
            (seconds(2), seconds(2))
        );
        assert_eq!(
            of("retry.backoff.max.ms=50"),
            (Duration::from_millis(50), Duration::from_millis(50))
        );
    }

    #[test]
    fn servers_may_name_the_protocol_that_is_meant() {
        let of = |text| servers(&of(text));
        assert_eq!(of("client.id=a").unwrap(), None);
        assert_eq!(
            of("bootstrap.servers=a:1, b:2 ,[::1]:3").unwrap().unwrap(),
            "a:1,b:2,[::1]:3"
        );
        assert_eq!(of("metadata.broker.list=a:1").unwrap().unwrap(), "a:1");
        let both = "security.protocol=SASL_SSL\nbootstrap.servers=SASL_SSL://a:1";
        assert_eq!(of(both).unwrap().unwrap(), "a:1");
        refused(
            of("bootstrap.servers=SSL://a:1"),
            "asks for SSL, and security.protocol is PLAINTEXT",
        );
        refused(of("bootstrap.servers=a"), "port is missing");
        for text in ["bootstrap.servers=me:hunter2@a:1", "bootstrap.servers=me:1,hunter2@a:1"] {
            let error = of(text).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn reading_has_its_sizes_and_places() {
        let config = of_reading(
            "fetch.min.bytes=2\nfetch.max.bytes=104857600\nmax.partition.fetch.bytes=1048576\nfetch.max.wait.ms=100\n\
             isolation.level=read_uncommitted\nauto.offset.reset=latest",
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(
            (config.min_bytes, config.max_bytes, config.partition_max_bytes),
            (2, 64 << 20, 1 << 20)
        );
        assert_eq!(config.max_wait, Duration::from_millis(100));
        assert_eq!(config.isolation, Isolation::ReadUncommitted);
        assert_eq!(
            (config.start_at, config.out_of_range),
            (StartAt::Latest, OutOfRange::Latest)
        );
        refused(of_reading("fetch.min.bytes=0"), "from 1 to");
        refused(
            of_reading("isolation.level=serializable"),
            "read_committed or read_uncommitted",
        );
        refused(of_reading("auto.offset.reset=none"), "earliest, latest or by_duration");
        refused(
            of_reading("auto.offset.reset=by_duration:1h"),
            "by_duration:PnDTnHnMn.nS",
        );
    }

    #[test]
    fn sizes_beyond_klamm_s_are_cut_and_named() {
        let of_sizes = |text: &str| {
            let config = of_reading(text).unwrap();
            config.check().unwrap();
            (config.min_bytes, config.max_bytes)
        };
        assert_eq!(of_sizes("fetch.min.bytes=8388608"), (8 << 20, 8 << 20));
        assert_eq!(of_sizes("fetch.min.bytes=104857600"), (64 << 20, 64 << 20));
        let both = "fetch.min.bytes=83886080\nfetch.max.bytes=104857600\nmax.partition.fetch.bytes=104857600";
        assert_eq!(of_sizes(both), (64 << 20, 64 << 20));
        let little = of_reading("fetch.min.bytes=2000\nfetch.max.bytes=1000").unwrap();
        assert_eq!((little.min_bytes, little.max_bytes), (2_000, 1_000));
        little.check().unwrap_err();
        let properties = of(both);
        let ignored: Vec<_> = properties.ignored().collect();
        let why = "klamm asks for 64 MiB at most";
        let keys = ["fetch.max.bytes", "fetch.min.bytes", "max.partition.fetch.bytes"];
        assert_eq!(ignored, keys.map(|key| (key, why)));
        assert_eq!(of("fetch.max.bytes=67108864").ignored().count(), 0);
    }

    #[test]
    fn a_level_without_a_codec_is_named() {
        for level in ["compression.gzip.level=3", "compression.zstd.level=3"] {
            let properties = of(level);
            let why: Vec<_> = properties.ignored().map(|(_, why)| why).collect();
            assert!(why.len() == 1 && why[0].contains("without compression.type"), "{why:?}");
        }
        assert_eq!(
            of("compression.type=gzip\ncompression.gzip.level=3").ignored().count(),
            0
        );
    }

    #[test]
    fn a_reset_may_go_back_by_time() {
        let of = |text: &str| {
            of_reading(&format!("auto.offset.reset=by_duration:{text}"))
                .unwrap()
                .start_at
        };
        assert_eq!(of("P3DT3H4M5.25S"), StartAt::Ago(Duration::from_millis(270_245_250)));
        assert_eq!(of("pt1h"), StartAt::Ago(seconds(3_600)));
        for wrong in [
            "",
            "P",
            "PT",
            "P1",
            "1D",
            "P1DT",
            "PT1",
            "PT1S2M",
            "PT-1S",
            "P1H",
            "PT1.1234567890S",
            "PT.S",
            "PT1.+5S",
        ] {
            assert_eq!(iso_8601(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_group_has_its_times_and_names() {
        let config = of_group(
            "group.id=billing\ngroup.instance.id=a\nsession.timeout.ms=10000\nheartbeat.interval.ms=2000\n\
             max.poll.interval.ms=300000\nauto.commit.interval.ms=1000\ngroup.protocol=CLASSIC\n\
             partition.assignment.strategy=org.apache.kafka.clients.consumer.RoundRobinAssignor, \
             org.apache.kafka.clients.consumer.CooperativeStickyAssignor,range",
        )
        .unwrap();
        config.check().unwrap();
        assert_eq!(
            (config.session_timeout, config.heartbeat_interval),
            (seconds(10), seconds(2))
        );
        assert_eq!(
            (config.rebalance_timeout, config.commit_interval),
            (seconds(300), Some(seconds(1)))
        );
        assert_eq!(
            (config.instance_id.as_deref(), config.protocol),
            (Some("a"), GroupProtocol::Classic)
        );
        assert_eq!(config.assignors, [Assignor::RoundRobin, Assignor::Range]);
        let explicit = of_group("enable.auto.commit=false\nauto.commit.interval.ms=1000").unwrap();
        assert_eq!(explicit.commit_interval, None);
        let again = |text: &str| {
            let mut config = GroupConfig {
                commit_interval: None,
                ..GroupConfig::default()
            };
            group(&of(text), "billing", &mut config).unwrap();
            config.commit_interval
        };
        assert_eq!(again("enable.auto.commit=true"), Some(seconds(5)));
        assert_eq!(
            again("enable.auto.commit=true\nauto.commit.interval.ms=1000"),
            Some(seconds(1))
        );
        assert_eq!(again("client.id=a"), None);
        refused(of_group("group.id=other"), "is other, and the program joins billing");
        refused(of_group("group.protocol=consumer"), "classic");
        refused(
            of_group("partition.assignment.strategy=cooperative-sticky"),
            "RangeAssignor",
        );
    }

    #[test]
    fn a_producer_has_its_sizes_times_and_codec() {
        let config = of_producer(
            "acks=1\nenable.idempotence=false\nbatch.size=8388608\nbuffer.memory=33554432\nlinger.ms=10\n\
             max.block.ms=9223372036854775807\ndelivery.timeout.ms=60000\nretries=3\n\
             max.in.flight.requests.per.connection=10\ncompression.type=none\n\
             partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner",
        )
        .unwrap();
        config.check(seconds(30)).unwrap();
        assert_eq!(
            (config.acks, config.in_flight, config.max_retries),
            (Acks::Leader, 10, Some(3))
        );
        assert_eq!(
            (config.batch_bytes, config.request_bytes, config.buffer_bytes),
            (8 << 20, 8 << 20, 32 << 20)
        );
        assert_eq!(
            (config.linger, config.delivery_timeout),
            (Duration::from_millis(10), seconds(60))
        );
        assert_eq!(config.max_block, LONGEST);
        assert!(matches!(config.partitioner, Partitioner::RoundRobin));
        assert_eq!(of_producer("retries=2147483647").unwrap().max_retries, None);
        assert_eq!(of_producer("acks=0\nretries=3").unwrap().max_retries, None);
        refused(of_producer("acks=1\nenable.idempotence=true"), "needs acks=all");
        refused(
            of_producer("max.in.flight.requests.per.connection=6"),
            "from 1 to 5 with acks=all, not 6",
        );
        refused(of_producer("batch.size=0"), "from 1024");
        refused(of_producer("partitioner.class=my.Own"), "`Partitioner::custom`");
    }

    #[test]
    fn a_small_buffer_has_small_batches() {
        let config = of_producer("buffer.memory=65536").unwrap();
        config.check(seconds(30)).unwrap();
        assert_eq!(config.batch_bytes, 65_536);
    }

    #[test]
    fn a_level_is_of_its_codec() {
        let of = |text| {
            let config = of_producer(text).unwrap();
            (config.compression, config.compression_level)
        };
        assert_eq!(
            of("compression.type=gzip\ncompression.gzip.level=9"),
            (Compression::Gzip, Some(9))
        );
        assert_eq!(
            of("compression.type=gzip\ncompression.gzip.level=-1"),
            (Compression::Gzip, None)
        );
        assert_eq!(
            of("compression.codec=ZSTD\ncompression.zstd.level=-7"),
            (Compression::Zstd, Some(-7))
        );
        assert_eq!(
            of("compression.type=lz4\ncompression.zstd.level=7"),
            (Compression::Lz4, None)
        );
        refused(
            of_producer("compression.type=brotli"),
            "none or gzip or snappy or lz4 or zstd",
        );
    }
}
