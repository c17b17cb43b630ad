use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicUsize,
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::stop::Stop;

const LONG: Duration = Duration::from_secs(300);
const MB: usize = 1 << 20;

fn memory(limit: usize) -> Arc<Memory> {
    Memory::new(limit, || ())
}

/// Tells of each who begins to wait.
fn telling(limit: usize) -> (Arc<Memory>, Receiver<()>) {
    let (tell, told) = crossbeam_channel::unbounded();
    (Memory::new(limit, move || tell.send(()).unwrap()), told)
}

fn long() -> Deadline {
    Deadline::after(LONG, "max_block")
}

fn idle(memory: &Memory) -> usize {
    memory.ledger.lock().idle()
}

fn buffer(memory: &Arc<Memory>, bytes: usize) -> Buffer {
    memory.buffer(memory.try_reserve(bytes).unwrap())
}

/// Those who wait, by their place, as they were granted.
fn granted(places: &[Place<'_>]) -> Vec<bool> {
    places.iter().map(|place| !place.granted.is_empty()).collect()
}

#[test]
fn what_is_dropped_is_given_back() {
    let memory = memory(100);
    let mut first = memory.try_reserve(60).unwrap();
    assert!(memory.try_reserve(41).is_none());
    let second = memory.try_reserve(40).unwrap();
    assert_eq!((memory.held(), memory.limit()), (100, 100));
    assert!(!memory.is_pressed());

    first.join(second);
    assert_eq!((first.bytes(), memory.held()), (100, 100));
    let mut other = first.split_off(30);
    assert_eq!((first.bytes(), other.bytes(), memory.held()), (70, 30, 100));
    other.shrink_to(10);
    other.shrink_to(50);
    assert_eq!((other.bytes(), memory.held()), (10, 80));
    assert_eq!(other.split_off(11).bytes(), 10);
    drop((first, other));
    assert_eq!(memory.held(), 0);
}

#[test]
fn places_are_granted_in_order_and_a_large_request_is_collected_for() {
    let memory = memory(100);
    let held: Vec<_> = (0..10).map(|_| memory.try_reserve(10).unwrap()).collect();
    let places: Vec<_> = [90, 5, 10, 1].map(|bytes| memory.queue(bytes)).into();
    assert!(memory.is_pressed());
    let mut held = held.into_iter();
    for _ in 0..8 {
        held.next();
        assert_eq!(granted(&places), [false; 4]);
        assert!(memory.try_reserve(1).is_none(), "overtakes");
    }
    held.next();
    assert_eq!(granted(&places), [true, false, false, false]);
    held.next();
    assert_eq!(granted(&places), [true, true, false, false]);
    drop(places[0].granted.try_recv().unwrap());
    assert_eq!(granted(&places), [false, true, true, true]);
    assert!(!memory.is_pressed());
    drop(places);
    assert_eq!(memory.held(), 0);
}

#[test]
fn who_gives_up_passes_the_turn_on() {
    let memory = memory(100);
    let held = memory.try_reserve(60).unwrap();
    let mut places: Vec<_> = [80, 30, 30].map(|bytes| memory.queue(bytes)).into();
    drop(places.remove(0));
    assert_eq!(granted(&places), [true, false]);
    // Not the first: nothing changes for those before it.
    places.push(memory.queue(1));
    drop(places.remove(1));
    assert_eq!(granted(&places), [true, true]);
    drop((held, places));
    assert_eq!((memory.held(), memory.is_pressed()), (0, false));
}

#[test]
fn a_grant_that_meets_a_waiter_who_has_given_up_goes_to_the_next() {
    let memory = memory(100);
    let held = memory.try_reserve(100).unwrap();
    let (first, second) = (memory.queue(100), memory.queue(100));

    // Granted, and not looked at any more.
    drop(held);
    assert_eq!((first.granted.len(), second.granted.len()), (1, 0));
    drop(first);
    let held = second.granted.try_recv().unwrap();
    drop(second);

    // Granted by the ledger, and gone before the grant is sent.
    let (first, second) = (memory.queue(100), memory.queue(100));
    let mut after = After::default();
    {
        let mut ledger = memory.ledger.lock();
        ledger.give_back(100, None, &mut after);
        ledger.serve(&mut after);
    }
    drop(first);
    assert_eq!(second.granted.len(), 0);
    let (waiting, grant) = after.grants.pop().unwrap();
    waiting.send(memory.reservation(grant)).unwrap_err();
    assert_eq!(second.granted.len(), 1);
    drop(second);
    assert_eq!(memory.held(), 0);
    std::mem::forget(held); // given back above, by hand
}

#[test]
fn a_wait_ends_when_room_is_given_back() {
    let (memory, told) = telling(100);
    let held = memory.try_reserve(100).unwrap();
    thread::scope(|scope| {
        let first = scope.spawn(|| memory.reserve(100, &long()));
        told.recv_timeout(LONG).unwrap();
        let second = scope.spawn(|| memory.reserve(1, &long()));
        told.recv_timeout(LONG).unwrap();
        assert!(memory.is_pressed());
        drop(held);
        let room = first.join().unwrap().unwrap();
        assert!(memory.is_pressed() && !second.is_finished());
        drop(room);
        assert_eq!(second.join().unwrap().unwrap().bytes(), 1);
    });
    assert_eq!((memory.held(), memory.is_pressed()), (0, false));
    assert!(told.is_empty());
}

#[test]
fn a_stop_ends_a_wait_and_lets_the_next_go_on() {
    let (memory, told) = telling(100);
    let _held = memory.try_reserve(50).unwrap();
    let stop = Stop::new("producer");
    thread::scope(|scope| {
        let first = scope.spawn(|| memory.reserve(100, &long().with_stop(&stop)));
        told.recv_timeout(LONG).unwrap();
        let second = scope.spawn(|| memory.reserve(50, &long()));
        told.recv_timeout(LONG).unwrap();
        stop.stop();
        let error = first.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the producer was closed");
        assert_eq!(second.join().unwrap().unwrap().bytes(), 50);
    });
    let error = memory.reserve(100, &long().with_stop(&stop)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(told.is_empty() && !memory.is_pressed());
    // Room that is there is for those who may go on.
    assert!(memory.reserve(1, &long().with_stop(&stop)).is_err());
}

#[test]
fn a_deadline_says_what_was_waited_for() {
    let (memory, told) = telling(100);
    let held = memory.try_reserve(50).unwrap();
    let wait = |limit| memory.reserve(51, &Deadline::after(limit, "max_block"));
    let error = wait(Duration::from_millis(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up waiting for room in the buffer (buffer_bytes) after 1ms (max_block)"
    );
    told.try_recv().ok(); // not if the millisecond was over before

    // Who does not wait presses nobody, and takes what is there.
    assert_eq!(wait(Duration::ZERO).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(told.is_empty() && !memory.is_pressed());
    drop(held);
    assert_eq!(wait(Duration::ZERO).unwrap().bytes(), 51);
    assert_eq!(memory.held(), 0);
}

#[test]
fn what_can_never_be_is_refused_at_once() {
    let (memory, told) = telling(100);
    for bytes in [101, usize::MAX] {
        let error = memory.reserve(bytes, &long()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.to_string().contains("buffer_bytes: 100"), "{error}");
        assert!(memory.try_reserve(bytes).is_none());
    }
    assert!(told.is_empty());
    assert_eq!(memory.reserve(100, &long()).unwrap().bytes(), 100);
}

#[test]
fn a_panic_in_a_wait_leaves_nothing_behind() {
    let memory = Memory::new(100, || panic!("out of luck"));
    let held = memory.try_reserve(100).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| memory.reserve(1, &long()))).is_err());
    assert!(!memory.is_pressed());
    drop(held);
    assert_eq!(memory.try_reserve(100).unwrap().bytes(), 100);
}

#[test]
fn force_goes_beyond_the_limit_and_others_wait_until_it_is_over() {
    let memory = memory(100);
    let held = memory.try_reserve(90).unwrap();
    let place = memory.queue(20);
    let forced = memory.force(50);
    assert_eq!((forced.bytes(), memory.held()), (50, 140));
    drop(held);
    assert_eq!(memory.held(), 70);
    assert_eq!(place.granted.try_recv().unwrap().bytes(), 20);
}

#[test]
fn huge_numbers_are_no_trouble() {
    let memory = memory(usize::MAX);
    let held = memory.try_reserve(usize::MAX - 10).unwrap();
    assert!(memory.try_reserve(11).is_none());
    let mut forced = memory.force(usize::MAX);
    assert_eq!((forced.bytes(), memory.held()), (10, usize::MAX));
    assert_eq!(memory.force(1).bytes(), 0);
    let place = memory.queue(usize::MAX);
    assert_eq!(forced.split_off(usize::MAX).bytes(), 10);
    drop((held, forced));
    assert_eq!(place.granted.try_recv().unwrap().bytes(), usize::MAX);
    assert!(fitting(usize::MAX).contains(&usize::MAX));
    assert_eq!(memory.held(), 0);
}

#[test]
fn what_is_held_is_the_capacity_of_buffers() {
    let memory = memory(64 * MB);
    let mut buffers: Vec<_> = (0..1000).map(|_| buffer(&memory, 1000)).collect();
    assert_eq!(memory.held(), 1_000_000);
    for (at, buffer) in buffers.iter_mut().enumerate() {
        let room = buffer.room();
        buffer.bytes_mut().resize(room, at as u8);
        buffer.grow(memory.try_reserve(at + 1).unwrap());
        assert_eq!(buffer.room(), at + 1);
        assert!(buffer.iter().all(|byte| *byte == at as u8));
    }
    let capacity = |buffers: &[Buffer]| buffers.iter().map(|buffer| buffer.capacity()).sum::<usize>();
    assert_eq!(memory.held(), capacity(&buffers));
    buffers.truncate(10);
    assert_eq!(memory.held(), capacity(&buffers));
    drop(buffers);
    assert_eq!((memory.held(), idle(&memory)), (0, 0));
}

#[test]
fn a_vector_that_grew_by_itself_is_counted() {
    let memory = memory(100);
    let mut buffer = buffer(&memory, 100);
    buffer.bytes_mut().resize(101, 7);
    buffer.bytes_mut();
    assert!(buffer.capacity() > 100);
    assert_eq!(
        (memory.held(), buffer.reserved()),
        (buffer.capacity(), buffer.capacity())
    );
    buffer.bytes_mut().reserve(MB);
    buffer.grow(memory.force(5));
    assert_eq!(memory.held(), buffer.capacity());

    // Taken out and put back, as for a writer that wants to own it.
    let taken = std::mem::take(buffer.bytes_mut());
    buffer.bytes_mut();
    assert_eq!(memory.held(), taken.capacity());
    *buffer.bytes_mut() = taken;
    assert_eq!((memory.held(), buffer.as_ref()), (buffer.capacity(), &[7; 101][..]));
    drop(buffer);
    assert_eq!((memory.held(), idle(&memory)), (0, 0));
}

#[test]
fn large_buffers_come_back_and_small_ones_do_not() {
    let memory = memory(64 * MB);
    let mut first = buffer(&memory, MB);
    first.bytes_mut().extend_from_slice(b"old");
    let place = first.as_ptr();
    drop(first);
    drop(buffer(&memory, LEAST_SPARE - 1));
    assert_eq!((memory.held(), idle(&memory)), (0, MB));

    // It holds what it is, not what was asked for.
    let mut again = buffer(&memory, MB - MB / 10);
    assert_eq!((again.as_ptr(), again.len(), again.capacity()), (place, 0, MB));
    assert_eq!((memory.held(), idle(&memory)), (MB, 0));
    again.bytes_mut().extend_from_slice(b"new");
    drop(again);
    for bytes in [1, 1000, LEAST_SPARE, MB / 2, MB + 1, 2 * MB] {
        assert_eq!(buffer(&memory, bytes).capacity(), bytes);
    }
    memory.drop_spares();
    assert_eq!((memory.held(), idle(&memory)), (0, 0));
}

#[test]
fn what_lies_idle_is_bounded() {
    for (limit, most) in [(64 * MB, 16 * MB), (1024 * MB, 16 * MB), (9 * MB, 2 * MB), (3 * MB, 0)] {
        let memory = memory(limit);
        let buffers: Vec<_> = (0..limit / MB).map(|_| buffer(&memory, MB)).collect();
        drop(buffers);
        assert_eq!((memory.held(), idle(&memory)), (0, most), "{limit}");
        drop(buffer(&memory, limit));
        assert!(idle(&memory) <= most);
    }
}

#[test]
fn spares_go_before_anybody_waits() {
    let memory = memory(8 * MB);
    let buffers = [(); 2].map(|()| buffer(&memory, MB));
    drop(buffers);
    let held = memory.try_reserve(6 * MB).unwrap();
    assert_eq!(idle(&memory), 2 * MB);
    let more = memory.try_reserve(1).unwrap();
    assert_eq!(idle(&memory), MB);
    let rest = memory.try_reserve(2 * MB - 1).unwrap();
    assert_eq!((memory.held(), idle(&memory)), (8 * MB, 0));
    drop((held, more, rest));

    drop(buffer(&memory, MB));
    drop(memory.force(8 * MB));
    assert_eq!((memory.held(), idle(&memory)), (0, 0));
}

#[test]
fn a_buffer_goes_to_who_waits_for_one_like_it() {
    let memory = memory(8 * MB);
    let mut buffers: Vec<_> = (0..8).map(|_| buffer(&memory, MB)).collect();
    let place = memory.queue(MB - 100);
    let given = buffers.pop().unwrap();
    let address = given.as_ptr();
    drop(given);
    let room = place.granted.try_recv().unwrap();
    assert_eq!((room.bytes(), memory.held(), idle(&memory)), (MB, 8 * MB, 0));
    assert_eq!(memory.buffer(room).as_ptr(), address);
    assert_eq!((memory.held(), idle(&memory)), (7 * MB, MB));

    // Or is let go, when its bytes are wanted for something else.
    let mut room = memory.try_reserve(MB).unwrap();
    let spare = memory.try_reserve(MB);
    assert!(spare.is_none());
    room.shrink_to(MB / 2);
    assert_eq!(memory.buffer(room).capacity(), MB / 2);
    drop((place, buffers));
    assert_eq!(memory.held(), 0);
}

#[test]
fn who_can_use_more_waits_for_the_least_and_gets_what_there_is() {
    let memory = memory(100);
    let held = memory.try_reserve(60).unwrap();
    let rest = memory.try_reserve(Wish::between(10, 80)).unwrap();
    assert_eq!(rest.bytes(), 20, "half of what is left");
    let last = memory.try_reserve(20).unwrap();
    assert!(memory.try_reserve(Wish::between(1, 80)).is_none());
    let places: Vec<_> = [(30, 80), (70, 70)]
        .map(|(least, most)| memory.queue(Wish::between(least, most)))
        .into();
    drop((rest, last));
    assert_eq!(granted(&places), [true, false]);
    assert_eq!(places[0].granted.try_recv().unwrap().bytes(), 40);
    drop(held);
    assert_eq!(granted(&places), [false, true]);
    drop(places);
    assert_eq!(memory.try_reserve(Wish::between(10, 80)).unwrap().bytes(), 80);
    assert_eq!((Wish::between(10, 5).least, Wish::between(10, 5).most), (10, 10));
}

#[test]
fn who_can_use_more_gets_a_spare_that_would_have_to_go() {
    for (spare, wish, is_given) in [
        (MB, Wish::between(100, 2 * MB), true),
        (MB / 2 + 100, Wish::between(100, MB), true),
        // It is less than is wanted at least, or much less than there is, or much more than is wanted.
        (MB / 2 + 100, Wish::between(MB - 100, MB), false),
        (MB / 2 - 100, Wish::between(100, MB), false),
        (MB, Wish::from(100), false),
    ] {
        let memory = memory(3 * MB + wish.most.max(spare));
        let _held = memory.try_reserve(3 * MB).unwrap();
        drop(buffer(&memory, spare));
        assert_eq!(idle(&memory), spare);
        let room = memory.try_reserve(wish).unwrap();
        let given = room.spare.as_ref().map(Vec::capacity);
        assert_eq!(given, is_given.then_some(spare), "{spare} {wish:?}");
        assert_eq!(room.bytes(), if is_given { spare } else { wish.most }, "{wish:?}");
        assert_eq!(idle(&memory), 0);
    }
}

#[test]
fn a_buffer_grows_into_a_spare_if_it_doubles() {
    let memory = memory(64 * MB);
    let spares = [MB, MB / 4 + MB / 8].map(|bytes| buffer(&memory, bytes));
    let address = spares[0].as_ptr();
    drop(spares);
    let mut growing = buffer(&memory, MB / 4);
    growing.bytes_mut().extend_from_slice(b"abc");
    growing.grow(memory.try_reserve(MB / 8).unwrap());
    // Not worth the copy, though there is one.
    assert_eq!(idle(&memory), MB + MB / 4 + MB / 8);
    memory.change(|ledger, _| assert!(ledger.exchange(MB / 4 + MB / 8).is_some()));
    growing.grow(memory.try_reserve(MB - MB / 4 - MB / 8 - 7).unwrap());
    assert_eq!((growing.as_ptr(), &growing[..]), (address, &b"abc"[..]));
    assert_eq!(memory.held(), MB);
    assert_eq!(idle(&memory), MB / 4 + MB / 8);
    drop(growing);
    assert_eq!(memory.held(), 0);
}

#[test]
fn a_finished_buffer_is_trimmed_when_memory_is_short() {
    let memory = memory(8 * MB);
    let mut finished = buffer(&memory, MB);
    finished.bytes_mut().resize(MB / 4, 7);
    finished.trim();
    assert_eq!(memory.held(), MB);

    let held = memory.try_reserve(4 * MB).unwrap();
    let address = finished.as_ptr();
    finished.trim();
    assert_eq!((finished.capacity(), memory.held()), (MB / 4, 4 * MB + MB / 4));
    assert!(finished.iter().all(|byte| *byte == 7));
    finished.trim();
    assert_eq!(finished.capacity(), MB / 4);
    // What it was in goes round.
    let mut next = buffer(&memory, MB);
    assert_eq!((next.as_ptr(), idle(&memory)), (address, 0));
    // And so does what it is in.
    let address = finished.as_ptr();
    drop(finished);
    next.bytes_mut().resize(MB / 4 - 100, 7);
    next.trim();
    assert_eq!((next.as_ptr(), next.capacity(), idle(&memory)), (address, MB / 4, MB));
    drop((held, next));

    // Or when somebody waits: it may be for this very buffer.
    let mut finished = [(); 2].map(|()| memory.buffer(memory.try_reserve(MB).unwrap()));
    let place = memory.queue(6 * MB);
    finished[0].bytes_mut().resize(MB / 2 + 1, 7);
    finished.iter_mut().for_each(Buffer::trim);
    assert_eq!(finished.each_ref().map(|buffer| buffer.capacity()), [MB, 0]);
    assert_eq!(place.granted.try_recv().unwrap().bytes(), 6 * MB);
}

#[derive(Debug, Clone)]
enum Step {
    Try(usize),
    Queue(usize),
    /// Whoever was granted something takes it.
    Take,
    GiveUp(usize),
    Force(usize),
    Drop(usize),
    Shrink(usize, usize),
    Split(usize, usize),
    Join(usize),
    Buffer(usize),
    Fill(usize, usize),
    Grow(usize, usize),
    Overrun(usize),
    Trim(usize),
    DropBuffer(usize),
    DropSpares,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![0..MB, Just(LEAST_SPARE), Just(256 << 10), Just(250 << 10)];
    let at = || 0_usize..16;
    prop_oneof![
        6 => bytes().prop_map(Step::Try),
        4 => bytes().prop_map(Step::Queue),
        4 => Just(Step::Take),
        2 => at().prop_map(Step::GiveUp),
        1 => bytes().prop_map(Step::Force),
        4 => at().prop_map(Step::Drop),
        1 => (at(), bytes()).prop_map(|(at, bytes)| Step::Shrink(at, bytes)),
        1 => (at(), bytes()).prop_map(|(at, bytes)| Step::Split(at, bytes)),
        1 => at().prop_map(Step::Join),
        6 => at().prop_map(Step::Buffer),
        2 => (at(), bytes()).prop_map(|(at, bytes)| Step::Fill(at, bytes)),
        3 => (at(), bytes()).prop_map(|(at, bytes)| Step::Grow(at, bytes)),
        1 => at().prop_map(Step::Overrun),
        1 => at().prop_map(Step::Trim),
        4 => at().prop_map(Step::DropBuffer),
        1 => Just(Step::DropSpares),
    ]
}

/// Everything that somebody has or waits for, counted independently.
#[derive(Default)]
struct Model<'a> {
    rooms: Vec<Reservation>,
    buffers: Vec<Buffer>,
    places: Vec<(usize, Place<'a>)>,
}

impl<'a> Model<'a> {
    /// Whether it may have gone beyond the limit.
    fn run(&mut self, memory: &'a Arc<Memory>, step: Step) -> bool {
        match step {
            Step::Try(bytes) => {
                let (held, waiting) = (memory.held(), self.is_waiting());
                let room = memory.try_reserve(bytes);
                assert_eq!(room.is_some(), !waiting && held + bytes <= memory.limit());
                self.rooms.extend(room);
            }
            Step::Queue(bytes) => self.places.push((bytes, memory.queue(bytes))),
            Step::Take => {
                let rooms = self.places.iter().filter_map(|(bytes, place)| {
                    let room = place.granted.try_recv().ok()?;
                    assert!(fitting(*bytes).contains(&room.bytes()));
                    Some((place.id, room))
                });
                let (served, rooms): (Vec<_>, Vec<_>) = rooms.unzip();
                self.places.retain(|(_, place)| !served.contains(&place.id));
                self.rooms.extend(rooms);
            }
            Step::GiveUp(at) => drop(take(&mut self.places, at)),
            Step::Force(bytes) => {
                self.rooms.push(memory.force(bytes));
                return true;
            }
            Step::Drop(at) => drop(take(&mut self.rooms, at)),
            Step::Shrink(at, bytes) => {
                if let Some(room) = self.rooms.get_mut(at) {
                    let before = room.bytes();
                    room.shrink_to(bytes);
                    assert_eq!(room.bytes(), before.min(bytes));
                }
            }
            Step::Split(at, bytes) => {
                if let Some(room) = self.rooms.get_mut(at) {
                    let before = room.bytes();
                    let other = room.split_off(bytes);
                    assert_eq!(other.bytes() + room.bytes(), before);
                    self.rooms.push(other);
                }
            }
            Step::Join(at) => {
                if let Some((mut room, other)) = take(&mut self.rooms, at).zip(self.rooms.pop()) {
                    room.join(other);
                    self.rooms.push(room);
                }
            }
            Step::Buffer(at) => {
                let buffer = take(&mut self.rooms, at).map(|room| {
                    let bytes = room.bytes();
                    let buffer = memory.buffer(room);
                    assert!(buffer.is_empty() && fitting(bytes).contains(&buffer.capacity()));
                    buffer
                });
                self.buffers.extend(buffer);
            }
            Step::Fill(at, bytes) => {
                if let Some(buffer) = self.buffers.get_mut(at) {
                    let len = buffer.len() + bytes.min(buffer.room());
                    buffer.bytes_mut().resize(len, 7);
                }
            }
            Step::Grow(at, bytes) => {
                if let Some(buffer) = self.buffers.get_mut(at) {
                    if let Some(more) = memory.try_reserve(bytes) {
                        let (wanted, len) = (buffer.reserved() + more.bytes(), buffer.len());
                        buffer.grow(more);
                        assert!(fitting(wanted).contains(&buffer.capacity()));
                        assert_eq!((buffer.len(), buffer.iter().all(|byte| *byte == 7)), (len, true));
                    }
                }
            }
            Step::Overrun(at) => {
                if let Some(buffer) = self.buffers.get_mut(at) {
                    let len = buffer.capacity() + 1;
                    buffer.bytes_mut().resize(len, 7);
                    buffer.bytes_mut();
                    return true;
                }
            }
            Step::Trim(at) => {
                if let Some(buffer) = self.buffers.get_mut(at) {
                    buffer.trim();
                }
            }
            Step::DropBuffer(at) => drop(take(&mut self.buffers, at)),
            Step::DropSpares => memory.drop_spares(),
        }
        false
    }

    fn is_waiting(&self) -> bool {
        self.places.iter().any(|(_, place)| place.granted.is_empty())
    }

    fn check(&self, memory: &Memory) {
        let waiting: Vec<_> = self
            .places
            .iter()
            .skip_while(|(_, place)| !place.granted.is_empty())
            .collect();
        assert!(
            waiting.iter().all(|(_, place)| place.granted.is_empty()),
            "out of order"
        );
        assert_eq!(memory.is_pressed(), !waiting.is_empty());
        let held = memory.held();
        if let Some((first, _)) = waiting.first() {
            assert!(held.saturating_add(*first) > memory.limit(), "waits for nothing");
        }

        assert!(self.buffers.iter().all(|buffer| buffer.capacity() == buffer.reserved()));
        let taken = self.rooms.iter().map(Reservation::bytes).sum::<usize>()
            + self.buffers.iter().map(|buffer| buffer.capacity()).sum::<usize>();
        let granted = self.places.iter().filter(|(_, place)| !place.granted.is_empty());
        let (least, most) = granted.fold((taken, taken), |(least, most), (bytes, _)| {
            (least + fitting(*bytes).start(), most + fitting(*bytes).end())
        });
        assert!((least..=most).contains(&held), "{least} {held} {most}");

        let idle = idle(memory);
        assert!(idle <= memory.limit() / 4 && idle <= memory.limit().saturating_sub(held));
    }
}

fn take<T>(from: &mut Vec<T>, at: usize) -> Option<T> {
    (at < from.len()).then(|| from.remove(at))
}

proptest! {
    #[test]
    fn bytes_are_neither_lost_nor_made_nor_given_out_of_turn(
        limit in prop_oneof![Just(0), Just(2 * MB), Just(4 * MB), 1..4 * MB],
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let memory = memory(limit);
        let mut model = Model::default();
        for step in steps {
            let before = memory.held();
            let forced = model.run(&memory, step);
            model.check(&memory);
            prop_assert!(forced || memory.held() <= limit.max(before));
        }
        // What can never be granted waits for its deadline.
        model.run(&memory, Step::DropSpares);
        drop(model);
        prop_assert_eq!((memory.held(), memory.is_pressed()), (0, false));
        memory.drop_spares();
        prop_assert_eq!(Arc::strong_count(&memory), 1);
    }
}

/// A little randomness that is the same each time.
fn next(seed: &mut u64) -> usize {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

#[test]
fn many_threads_all_get_through() {
    const LIMIT: usize = 2 * MB;
    let pressed = Arc::new(AtomicUsize::new(0));
    let memory = Memory::new(LIMIT, {
        let pressed = Arc::clone(&pressed);
        move || {
            pressed.fetch_add(1, Ordering::Relaxed);
        }
    });
    thread::scope(|scope| {
        for mut seed in 0..8 {
            let memory = &memory;
            scope.spawn(move || {
                for _ in 0..500 {
                    let room = memory.reserve(next(&mut seed) % MB, &long()).unwrap();
                    let mut buffer = memory.buffer(room);
                    assert!(memory.held() <= LIMIT);
                    let full = buffer.room();
                    buffer.bytes_mut().resize(full.min(1000), 1);
                    // While it holds something it must not wait for more, or all might.
                    if let Some(more) = memory.try_reserve(next(&mut seed) % 1000) {
                        buffer.grow(more);
                    }
                    if next(&mut seed) % 4 == 0 {
                        thread::yield_now();
                    }
                    buffer.trim();
                }
            });
        }
    });
    assert_eq!((memory.held(), memory.is_pressed()), (0, false));
    assert!(idle(&memory) <= LIMIT / 4);
    assert!(pressed.load(Ordering::Relaxed) > 0);
}

#[test]
fn threads_that_give_up_all_the_time_lose_nothing() {
    const LIMIT: usize = 1000;
    let memory = memory(LIMIT);
    let stop = Stop::new("producer");
    let (served, gave_up) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let impatient = &|mut seed: u64| loop {
        let wait = Duration::from_micros(next(&mut seed) as u64 % 300);
        let deadline = Deadline::after(wait, "max_block").with_stop(&stop);
        let count = match memory.reserve(next(&mut seed) % (LIMIT + 1), &deadline) {
            Ok(_room) => {
                assert!(memory.held() <= LIMIT);
                thread::yield_now();
                &served
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => &gave_up,
            Err(error) => return error.kind(),
        };
        count.fetch_add(1, Ordering::Relaxed);
    };
    let wait_for_more = |count: &AtomicUsize| {
        let enough = count.load(Ordering::Relaxed) + 300;
        while count.load(Ordering::Relaxed) < enough {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || impatient(seed))).collect();
        for _ in 0..5 {
            let all = memory.reserve(LIMIT, &long()).unwrap();
            wait_for_more(&gave_up);
            drop(all);
            wait_for_more(&served);
        }
        let _all = memory.reserve(LIMIT, &long()).unwrap();
        let patient = scope.spawn(|| memory.reserve(1, &long().with_stop(&stop)));
        while !memory.is_pressed() {
            thread::yield_now();
        }
        stop.stop();
        assert_eq!(patient.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), ErrorKind::Closed);
        }
    });
    assert_eq!((memory.held(), memory.is_pressed()), (0, false));
}
