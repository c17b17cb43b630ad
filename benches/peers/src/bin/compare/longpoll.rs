//! What a proxy sees of who waits behind a long poll, and of who does not: heartbeats, which no client tells about, and
//! whether there was a long poll at all.

use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::{runs::Run, support::Kafka, topics::Topics, watch::Watch};

/// As programs call their two sides, to brokers too.
const SIDES: [(&str, &str); 2] = [("polling", ""), ("paused", "without_")];

/// In a cluster that can be watched.
pub(crate) fn topics() -> Topics {
    let kafka = Kafka::builder()
        .full_speed()
        .behind_proxies()
        .property("log.segment.delete.delay.ms", 0)
        // As often as members of the older protocol are told to send theirs.
        .property("group.consumer.min.heartbeat.interval.ms", 20)
        .property("group.consumer.heartbeat.interval.ms", 20);
    Topics::of(kafka.start())
}

/// To what a program has measured, of the time in which it did.
pub(crate) fn add_seen(run: &mut Run, watch: &Watch) {
    let Some((begun, ended)) = measured(run) else { return };
    for (side, prefix) in SIDES {
        let mut heartbeats = watch.heartbeats(side, begun, ended);
        heartbeats.sort_unstable();
        for percent in [50, 99] {
            let at = heartbeats.len().saturating_sub(1) * percent / 100;
            let taken = heartbeats.get(at).map(Duration::as_secs_f64);
            let name = format!("heartbeat_{prefix}p{percent}_us");
            run.add(&name, taken.map_or(f64::NAN, |seconds| seconds * 1e6));
        }
        let waiting = watch.fetches_waiting(side, begun, ended);
        run.add(&format!("fetches_{prefix}waiting"), waiting);
    }
}

fn measured(run: &Run) -> Option<(Instant, Instant)> {
    let ended = UNIX_EPOCH + Duration::try_from_secs_f64(run.number("ended_at")).ok()?;
    let ended = Instant::now().checked_sub(ended.elapsed().unwrap_or_default())?;
    let time = Duration::try_from_secs_f64(run.number("seconds")).ok()?;
    Some((ended.checked_sub(time)?, ended))
}
