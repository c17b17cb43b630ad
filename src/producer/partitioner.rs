//! Which partition a record goes to.

mod murmur2;
mod random;
mod sticky;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::error::{Error, Result};
use random::Random;
use sticky::Sticky;

/// Which partition a record without an explicit one goes to. Kafka's `partitioner.class`.
///
/// Order is kept within a partition, so what must stay in order must come to the same one: that is what keys are for. All
/// who write to a topic should partition alike, and a topic that gets more partitions has its keys elsewhere from then on.
///
/// *Uniform sticky* (KIP-794) is what records without a key get: one partition takes them until it has got 64 KiB,
/// whatever `batch_bytes` is, then another is chosen at random. So batches are large, and all partitions get the same in the
/// long run; those that their broker is slow to take get less, and those without a leader nothing, as long as another has
/// one. It is what Java's producers do, too.
///
/// A key may be empty, which is not the same as none: all records with an empty key go to one partition.
///
/// ```
/// use klamm::Partitioner;
/// // What belongs to one customer stays in order, whatever comes behind the slash.
/// let by_customer = Partitioner::custom(|choice| {
///     let key = choice.key().unwrap_or_default();
///     let customer = key.split(|byte| *byte == b'/').next().unwrap_or_default();
///     customer.iter().fold(0_i32, |sum, byte| (sum * 31 + i32::from(*byte)) % choice.partitions())
/// });
/// # drop(by_customer);
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// With a key: the very partition that Java's producers choose, by the murmur2 hash of the key, over all partitions,
    /// also those without a leader. Without: uniform sticky. The default.
    ///
    /// Others have to be told to do the same: librdkafka and what is built on it, for one, with
    /// `partitioner=murmur2_random`.
    #[default]
    Murmur2,
    /// One partition after the other, whatever the key; those without a leader are left out, unless none has one. Batches
    /// are smaller than with uniform sticky. Java's `RoundRobinPartitioner`.
    RoundRobin,
    /// Any partition for each record by itself, whatever the key; those without a leader are left out, unless none has
    /// one. Batches are smaller than with uniform sticky.
    Random,
    /// With a key: the sum of the bytes of its MD5 hash, modulo the partitions, as the Elixir clients Kaffe and Elsa choose.
    /// Without: uniform sticky. Needs the feature `md5`.
    ///
    /// It spreads badly over a thousand partitions and more: most of such sums lie between 1,400 and 2,700.
    #[cfg(feature = "md5")]
    Md5Sum,
    /// What a closure of the program says: [`Partitioner::custom`].
    Custom(CustomPartitioner),
}

impl Partitioner {
    /// A closure chooses, for each record that names no partition itself: a number from 0 on, below
    /// [`Choice::partitions`]. It is called by the thread that sends the record, by several at once if several do.
    ///
    /// Any other number is an error of the call that sends the record, of the kind
    /// [`ErrorKind::Config`](crate::ErrorKind::Config). A panic goes through to the caller of that, and does no harm to the
    /// producer.
    ///
    /// ```
    /// use klamm::Partitioner;
    /// let urgent_apart = Partitioner::custom(|choice| match choice.key() {
    ///     Some(b"urgent") => 0,
    ///     _ => choice.partitions() - 1,
    /// });
    /// # drop(urgent_apart);
    /// ```
    pub fn custom(choose: impl Fn(&Choice<'_>) -> i32 + Send + Sync + 'static) -> Self {
        Self::Custom(CustomPartitioner(Arc::new(choose)))
    }
}

/// A closure that chooses partitions; [`Partitioner::custom`] makes one.
#[derive(Clone)]
pub struct CustomPartitioner(Arc<dyn Fn(&Choice<'_>) -> i32 + Send + Sync>);

impl fmt::Debug for CustomPartitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomPartitioner(..)")
    }
}

/// A record that needs a partition, and what there is to choose from: what [`Partitioner::custom`] gives its closure.
///
/// ```
/// use klamm::{Choice, Partitioner};
/// fn first_that_can_take_it(choice: &Choice<'_>) -> i32 {
///     (0..choice.partitions()).find(|partition| choice.has_leader(*partition)).unwrap_or(0)
/// }
/// let partitioner = Partitioner::custom(first_that_can_take_it);
/// # drop(partitioner);
/// ```
pub struct Choice<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    partitions: &'a dyn Partitions,
}

impl<'a> Choice<'a> {
    /// The topic that the record is for.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The record's key, if it has one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The record's value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// How many partitions the topic has, as far as is known now; at least 1. They are counted from 0.
    #[must_use]
    pub fn partitions(&self) -> i32 {
        self.partitions.count()
    }

    /// Whether a broker leads this partition now. Records for one without a leader wait until it has one.
    #[must_use]
    pub fn has_leader(&self, partition: i32) -> bool {
        (0..self.partitions()).contains(&partition) && self.partitions.has_leader(partition)
    }
}

impl fmt::Debug for Choice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions())
            .finish_non_exhaustive()
    }
}

/// What is known of a topic's partitions when one is chosen.
pub(super) trait Partitions {
    /// At least 1, and the same throughout one choice.
    fn count(&self) -> i32;

    /// What waits for this partition to be sent, in batches or the like; `None` while it has no leader. Asked for each
    /// record without a key, of one partition; for no other than those from 0 to `count`.
    fn load(&self, partition: i32) -> Option<usize>;

    fn has_leader(&self, partition: i32) -> bool {
        self.load(partition).is_some()
    }
}

/// Chooses for one topic. Any number of threads may ask at once, and none waits for another.
pub(super) struct Chooser {
    partitioner: Partitioner,
    sticky: Sticky,
    random: Random,
    /// Of [`Partitioner::RoundRobin`].
    turn: AtomicU64,
}

impl Chooser {
    /// `sticky_bytes`: how many bytes of records without a key one partition gets before another is chosen.
    pub(super) fn new(partitioner: Partitioner, sticky_bytes: usize, seed: u64) -> Self {
        Self {
            partitioner,
            sticky: Sticky::new(sticky_bytes, seed),
            random: Random::new(seed),
            // Not every program begins with the first; and it is far from the end of the numbers.
            turn: AtomicU64::new(seed >> 32),
        }
    }

    /// `size`: about how many bytes the record takes in its batch.
    pub(super) fn choose(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        size: usize,
        partitions: &impl Partitions,
    ) -> Result<i32> {
        let chosen = match (&self.partitioner, key) {
            (Partitioner::Murmur2, Some(key)) => murmur2::partition(key, partitions.count()),
            #[cfg(feature = "md5")]
            (Partitioner::Md5Sum, Some(key)) => md5_sum(key) % partitions.count(),
            (Partitioner::Murmur2, None) => self.sticky.choose(size, partitions),
            #[cfg(feature = "md5")]
            (Partitioner::Md5Sum, None) => self.sticky.choose(size, partitions),
            (Partitioner::RoundRobin, _) => self.next_in_turn(partitions),
            (Partitioner::Random, _) => self.any(partitions),
            (Partitioner::Custom(CustomPartitioner(choose)), _) => {
                let choice = Choice {
                    topic,
                    key,
                    value,
                    partitions,
                };
                in_range(choose(&choice), &choice)?
            }
        };
        Ok(chosen)
    }

    /// Turns that fall to partitions without a leader are passed, and not given to the next: so all others get the same.
    fn next_in_turn(&self, partitions: &impl Partitions) -> i32 {
        let count = partitions.count();
        let take = || (self.turn.fetch_add(1, Ordering::Relaxed) % u64::from(count.unsigned_abs())) as i32;
        for _ in 0..count {
            let partition = take();
            if partitions.has_leader(partition) {
                return partition;
            }
        }
        // None has one; or other threads have taken the turns that would have done.
        let last = take();
        let has_leader = |partition: &i32| partitions.has_leader(*partition);
        (last..count).chain(0..last).find(has_leader).unwrap_or(last)
    }

    fn any(&self, partitions: &impl Partitions) -> i32 {
        let count = partitions.count();
        let any = self.random.below(u64::from(count.unsigned_abs())) as i32;
        if partitions.has_leader(any) {
            return any;
        }
        let led = || (0..count).filter(|partition| partitions.has_leader(*partition));
        let nth = match led().count() {
            0 => return any,
            leaders => self.random.below(leaders as u64) as usize,
        };
        led().nth(nth).unwrap_or(any)
    }
}

fn in_range(chosen: i32, choice: &Choice<'_>) -> Result<i32> {
    let count = choice.partitions();
    if (0..count).contains(&chosen) {
        return Ok(chosen);
    }
    let message = format!("the custom partitioner chose {chosen}, and there are {count} partitions, counted from 0");
    Err(Error::config(message).for_topic(choice.topic))
}

#[cfg(feature = "md5")]
fn md5_sum(key: &[u8]) -> i32 {
    md5::compute(key).iter().map(|byte| i32::from(*byte)).sum()
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::atomic::AtomicUsize,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    /// Partitions as the test says.
    pub(super) struct Known {
        loads: Vec<Option<usize>>,
        /// How often somebody looked at one.
        pub(super) looked: AtomicUsize,
    }

    impl Known {
        pub(super) fn of(loads: impl Into<Vec<Option<usize>>>) -> Self {
            Self {
                loads: loads.into(),
                looked: AtomicUsize::new(0),
            }
        }

        pub(super) fn set(&mut self, partition: i32, load: Option<usize>) {
            self.loads[partition as usize] = load;
        }
    }

    impl Partitions for Known {
        fn count(&self) -> i32 {
            self.loads.len() as i32
        }

        fn load(&self, partition: i32) -> Option<usize> {
            self.looked.fetch_add(1, Ordering::Relaxed);
            self.loads[partition as usize]
        }
    }

    /// All with a leader and nothing to do.
    pub(super) fn led(count: usize) -> Known {
        Known::of(vec![Some(0); count])
    }

    /// A tenth more or less is more than four times the standard deviation wherever this is asked.
    pub(super) fn even(shares: &[usize], expected: usize) {
        assert!(
            shares.iter().all(|got| got.abs_diff(expected) <= expected / 10),
            "{shares:?}"
        );
    }

    fn chooser(partitioner: Partitioner, seed: u64) -> Chooser {
        Chooser::new(partitioner, 1000, seed)
    }

    impl Chooser {
        fn keyed(&self, key: &[u8], partitions: &Known) -> i32 {
            self.choose("t", Some(key), Some(b"value"), 100, partitions).unwrap()
        }

        fn keyless(&self, partitions: &Known) -> i32 {
            self.choose("t", None, Some(b"value"), 100, partitions).unwrap()
        }
    }

    #[test]
    fn a_key_decides_alone_whatever_has_a_leader() {
        let chooser = chooser(Partitioner::default(), 1);
        let mut partitions = led(12);
        for (key, partition) in [(&b"key1"[..], 8), (b"foobar", 6), (b"", 9)] {
            assert_eq!(chooser.keyed(key, &partitions), partition);
            partitions.set(partition, None);
            assert_eq!(chooser.keyed(key, &partitions), partition);
        }
        assert_eq!(partitions.looked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_a_key_a_partition_is_kept_for_a_while() {
        let (chooser, partitions) = (chooser(Partitioner::Murmur2, 2), led(1000));
        let first = chooser.keyless(&partitions);
        assert!((1..10).all(|_| chooser.keyless(&partitions) == first));
        assert_ne!(chooser.keyless(&partitions), first);
    }

    #[cfg(feature = "md5")]
    #[test]
    fn md5_sums_are_those_of_kaffe_and_elsa() {
        // As `printf %s "$key" | md5sum` has it, its bytes added up.
        let known: [(&[u8], i32, [i32; 4]); 8] = [
            (b"", 2121, [1, 0, 9, 21]),
            (b"a", 2272, [0, 1, 4, 72]),
            (b"key", 1541, [1, 2, 5, 41]),
            (b"key1", 2457, [1, 0, 9, 57]),
            (b"customer-1234567", 1967, [1, 2, 11, 67]),
            ("grün".as_bytes(), 1924, [0, 1, 4, 24]),
            ("世界".as_bytes(), 2070, [0, 0, 6, 70]),
            (b"\xff\x00\x80", 2329, [1, 1, 1, 29]),
        ];
        let chooser = chooser(Partitioner::Md5Sum, 3);
        for (key, sum, partitions) in known {
            assert_eq!(md5_sum(key), sum, "{}", key.escape_ascii());
            assert_eq!([2, 3, 12, 100].map(|count| chooser.keyed(key, &led(count))), partitions);
        }
        let first = chooser.keyless(&led(1000));
        assert_eq!(chooser.keyless(&led(1000)), first);
    }

    #[test]
    fn round_robin_goes_on_with_the_next_whatever_the_key() {
        let (chooser, partitions) = (chooser(Partitioner::RoundRobin, 2 << 32), led(4));
        let chosen = [(); 3].map(|()| [chooser.keyed(b"key", &partitions), chooser.keyless(&partitions)]);
        assert_eq!(chosen, [[2, 3], [0, 1], [2, 3]]);
    }

    #[test]
    fn round_robin_leaves_out_what_has_no_leader_unless_none_has_one() {
        let chooser = chooser(Partitioner::RoundRobin, 0);
        let mut partitions = Known::of([None, Some(9), None, Some(0), Some(0)]);
        assert_eq!([(); 7].map(|()| chooser.keyless(&partitions)), [1, 3, 4, 1, 3, 4, 1]);
        for partition in 0..5 {
            partitions.set(partition, None);
        }
        assert_eq!([(); 7].map(|()| chooser.keyless(&partitions)), [2, 3, 4, 0, 1, 2, 3]);
    }

    #[test]
    fn threads_that_go_round_give_all_the_same() {
        let chooser = chooser(Partitioner::RoundRobin, u64::MAX);
        let partitions = Known::of([Some(0), None, Some(0), Some(0)]);
        let go_round = || {
            let mut got = [0; 4];
            for _ in 0..3000 {
                got[chooser.keyless(&partitions) as usize] += 1;
            }
            got
        };
        let got = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(go_round));
            threads.map(|thread| thread.join().unwrap())
        });
        let totals = [0, 1, 2, 3].map(|at: usize| got.iter().map(|of| of[at]).sum::<usize>());
        assert_eq!(totals[1], 0);
        even(&[totals[0], totals[2], totals[3]], 4000);
    }

    #[test]
    fn at_random_all_with_a_leader_get_the_same_whatever_they_have_to_do() {
        for seed in 0..5 {
            let chooser = chooser(Partitioner::Random, seed);
            let partitions = Known::of([Some(0), None, Some(1 << 30), None, Some(7)]);
            let mut shares = [0; 5];
            for record in 0..12_000 {
                let partition = match record % 2 {
                    0 => chooser.keyed(b"key", &partitions),
                    _ => chooser.keyless(&partitions),
                };
                shares[partition as usize] += 1;
            }
            assert_eq!((shares[1], shares[3]), (0, 0));
            even(&[shares[0], shares[2], shares[4]], 4_000);
        }
    }

    #[test]
    fn at_random_all_are_used_when_none_has_a_leader() {
        let chooser = chooser(Partitioner::Random, 6);
        let mut shares = [0; 3];
        for _ in 0..12_000 {
            shares[chooser.keyless(&Known::of([None; 3])) as usize] += 1;
        }
        even(&shares, 4_000);
    }

    #[test]
    fn a_closure_is_told_what_there_is_and_decides() {
        let partitioner = Partitioner::custom(|choice| {
            assert_eq!((choice.topic(), choice.partitions()), ("orders", 3));
            assert_eq!(
                [-1, 0, 1, 2, 3].map(|at| choice.has_leader(at)),
                [false, true, false, true, false]
            );
            assert_eq!(
                format!("{choice:?}"),
                r#"Choice { topic: "orders", partitions: 3, .. }"#
            );
            match (choice.key(), choice.value()) {
                (Some(b"key"), Some(b"value")) => 1,
                (None, None) => 2,
                _ => 0,
            }
        });
        let chooser = chooser(partitioner, 7);
        let partitions = Known::of([Some(0), None, Some(0)]);
        let choose = |key, value| chooser.choose("orders", key, value, 10, &partitions).unwrap();
        assert_eq!(choose(Some(b"key"), Some(b"value")), 1);
        assert_eq!(choose(None, None), 2);
        assert_eq!(choose(Some(b""), None), 0);
    }

    #[test]
    fn a_closure_s_answer_that_is_no_partition_is_refused() {
        for wrong in [-1, 3, i32::MIN, i32::MAX] {
            let chooser = chooser(Partitioner::custom(move |_| wrong), 8);
            let error = chooser.choose("orders", None, None, 10, &led(3)).unwrap_err();
            assert_eq!((error.kind(), error.topic()), (ErrorKind::Config, Some("orders")));
            let message = format!(
                "the custom partitioner chose {wrong}, and there are 3 partitions, counted from 0, for topic orders"
            );
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_closure_that_panics_harms_nobody_else() {
        let partitioner = Partitioner::custom(|choice| match choice.key() {
            Some(_) => panic!("as the test wants"),
            None => 1,
        });
        let chooser = chooser(partitioner, 9);
        let partitions = led(2);
        let panic = catch_unwind(AssertUnwindSafe(|| chooser.keyed(b"key", &partitions))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"as the test wants"));
        assert_eq!(chooser.keyless(&partitions), 1);
    }

    #[test]
    fn a_partitioner_can_be_shown_and_shared() {
        fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
        let custom = Partitioner::custom(|_| 0);
        shared(&custom);
        assert_eq!(format!("{custom:?}"), "Custom(CustomPartitioner(..))");
        assert_eq!(format!("{:?}", Partitioner::default()), "Murmur2");
    }

    fn partitioners() -> Vec<Partitioner> {
        vec![
            Partitioner::Murmur2,
            Partitioner::RoundRobin,
            Partitioner::Random,
            #[cfg(feature = "md5")]
            Partitioner::Md5Sum,
            Partitioner::custom(|choice| choice.partitions() - 1),
        ]
    }

    proptest! {
        #[test]
        fn every_choice_is_a_partition(
            partitioner in proptest::sample::select(partitioners()), seed in any::<u64>(),
            records in proptest::collection::vec((
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
                0_usize..3000,
                proptest::collection::vec(proptest::option::of(any::<usize>()), 1..8),
            ), 1..50),
        ) {
            let by_key = matches!(partitioner, Partitioner::Murmur2);
            let free = matches!(partitioner, Partitioner::RoundRobin | Partitioner::Random);
            let chooser = Chooser::new(partitioner, 1000, seed);
            for (key, size, loads) in records {
                let partitions = Known::of(loads);
                let chosen = chooser.choose("t", key.as_deref(), None, size, &partitions).unwrap();
                prop_assert!((0..partitions.count()).contains(&chosen));
                if let Some(key) = key.filter(|_| by_key) {
                    prop_assert_eq!(chooser.keyed(&key, &partitions), chosen);
                }
                if free && partitions.loads.iter().any(Option::is_some) {
                    prop_assert!(partitions.has_leader(chosen));
                }
            }
        }
    }
}
