//! The same with threads that iterate and ack at once.

use super::*;

/// What the threads have finished, by partition.
type Finished = parking_lot::Mutex<Vec<BTreeSet<i64>>>;

/// Whether all below this was finished.
fn is_finished(log: &Log, finished: &BTreeSet<i64>, offset: i64) -> bool {
    log.between(0, offset).all(|offset| finished.contains(&offset))
}

/// One thread iterates until the stream ends, and passes every third message on.
fn iterate(shared: &Arc<Shared>, finished: &Finished, pool: &crossbeam_channel::Sender<Message>, mut turn: usize) {
    let mut lease: Option<Lease> = None;
    loop {
        while let Some(message) = lease
            .as_mut()
            .and_then(|lease| lease.next_common().or_else(|| lease.next().map(Result::unwrap)))
        {
            turn += 1;
            let part = usize::try_from(message.partition()).unwrap();
            if turn % 3 == 0 {
                pool.send(message).unwrap();
            } else {
                // Before it is let go of.
                finished.lock()[part].insert(message.offset());
            }
            if turn % 97 == 0 {
                // The iterator is dropped, and another one takes its place.
                break;
            }
        }
        if turn % 97 == 0 {
            turn += 1;
            if let Some(lease) = lease.take() {
                shared.put_back(lease);
            }
        }
        match shared.next_lease(lease.take(), None) {
            Turn::Lease(taken) => lease = Some(taken),
            Turn::Ended => return,
            Turn::Failed(error) => panic!("{error}"),
            Turn::TimedOut => {}
        }
    }
}

#[test]
fn with_many_threads_and_handovers_nothing_unfinished_is_committed_and_nothing_is_lost() {
    let piece = |at: usize| match at % 11 {
        3 => Piece::Aborted(2),
        7 => Piece::Marker,
        _ => Piece::Records(
            vec![true, true, at % 2 == 0, true, true, at % 5 != 0, true],
            1,
            at % 4 == 0,
        ),
    };
    let logs: Vec<Log> = (0..PARTITIONS)
        .map(|part| Log::new(&(0..400).map(|at| piece(at + part)).collect::<Vec<_>>()))
        .collect();
    let mut world = World::new(logs.clone(), AckMode::OnNext, CommitOrder::LowestContiguous, 50);
    let finished = Arc::new(Finished::new(vec![BTreeSet::new(); PARTITIONS]));
    let (to_pool, from_iterators) = crossbeam_channel::unbounded::<Message>();
    let iterators: Vec<_> = (0..4)
        .map(|at| {
            let (shared, finished, to_pool) = (Arc::clone(&world.shared), Arc::clone(&finished), to_pool.clone());
            std::thread::spawn(move || iterate(&shared, &finished, &to_pool, at))
        })
        .collect();
    drop(to_pool);
    let pool: Vec<_> = (0..2)
        .map(|_| {
            let (from_iterators, finished) = (from_iterators.clone(), Arc::clone(&finished));
            std::thread::spawn(move || {
                for message in from_iterators {
                    let part = usize::try_from(message.partition()).unwrap();
                    finished.lock()[part].insert(message.offset());
                    message.ack();
                }
            })
        })
        .collect();
    let check = |part: usize, offset: i64| {
        let finished = &finished.lock()[part];
        assert!(
            is_finished(&logs[part], finished, offset),
            "{offset} of {part} is committed too early"
        );
    };
    let limit = Instant::now() + Duration::from_secs(120);
    for round in 0_usize.. {
        assert!(Instant::now() < limit, "nothing moves any more");
        for part in 0..PARTITIONS {
            world.feed(part, 1 + round % 5);
        }
        let progress = world.shared.progress();
        for one in &progress {
            check(usize::try_from(one.name.partition()).unwrap(), one.offset);
        }
        let is_read = |part: usize| {
            let mut all = progress.iter().filter(|one| one.name == name(part));
            let end = logs[part].readable_end();
            // Of what was taken over at the end there is nothing more to tell.
            all.any(|one| one.offset >= end) || world.models[part].committed >= end
        };
        if (0..PARTITIONS).all(is_read) {
            break;
        }
        if round % 200 == 199 {
            world.shared.drain();
            // In good order now and then, and at once now and then.
            while round % 400 == 399 && !world.shared.is_let_go() {
                assert!(Instant::now() < limit, "the program has let go of everything");
                std::thread::yield_now();
            }
            for one in world.shared.give_up() {
                let part = usize::try_from(one.name.partition()).unwrap();
                if let Some(progress) = one.progress {
                    check(part, progress.offset);
                    world.models[part].committed = progress.offset;
                }
            }
            world.stage = Stage::Gone;
            world.claim();
        }
        std::thread::yield_now();
    }
    world.shared.close();
    for thread in iterators.into_iter().chain(pool) {
        thread.join().unwrap();
    }
    for (log, finished) in logs.iter().zip(&*finished.lock()) {
        assert!(is_finished(log, finished, log.end));
    }
}
