//! What the program does with iterators.

use super::*;

impl World {
    pub(super) fn let_go(&mut self, it: usize) {
        drop(self.iterators[it].thing.take());
    }

    /// A thing of this hand is dropped by a panic.
    pub(super) fn spoil(&mut self, hand: u64) {
        for iterating in &mut self.iterators {
            if let Some(in_hand) = iterating.hand.as_mut().filter(|in_hand| in_hand.id == hand) {
                in_hand.spoiled = true;
            }
        }
    }

    /// Whether the program has something of this. Of a batch that cannot be told from what else it has of the same chunk.
    pub(super) fn is_alive(&self, hand: &Hand) -> bool {
        let mut things = self
            .iterators
            .iter()
            .filter_map(|it| it.thing.as_ref())
            .chain(&self.kept);
        things.any(|thing| thing.hand == hand.id || hand.is_batch && thing.chunk == hand.chunk)
    }

    /// The program asks for more: what it had of this iterator is done, if nothing of it is left.
    pub(super) fn model_ask(&mut self, it: usize) {
        let Some(hand) = self.iterators[it].hand.take() else {
            return;
        };
        let is_done = self.terms.mode == AckMode::OnNext && !hand.spoiled && !self.is_alive(&hand);
        let model = &mut self.models[hand.part];
        if is_done && hand.era == model.era && self.stage != Stage::Gone {
            model.finished.extend(hand.offsets);
        }
    }

    /// The iterator goes: what nobody has is given again.
    pub(super) fn model_drop(&mut self, it: usize) {
        let Some(hand) = self.iterators[it].hand.take() else {
            return;
        };
        let is_alive = self.is_alive(&hand);
        let model = &mut self.models[hand.part];
        if hand.era != model.era || self.stage == Stage::Gone || is_alive {
            return;
        }
        if let Some(&again) = hand.offsets.iter().find(|&offset| !model.finished.contains(offset)) {
            model.next = again;
            model.given.split_off(&again);
        }
    }

    pub(super) fn drop_iterator(&mut self, it: usize) {
        let lease = self.iterators[it].lease.take();
        self.model_drop(it);
        if let Some(lease) = lease {
            self.shared.put_back(lease);
        }
    }

    /// As `Iter` does: for a message, the fast way or not, or for a batch. False when nothing is there.
    pub(super) fn ask(&mut self, it: usize, fast: Option<bool>) -> bool {
        self.let_go(it);
        self.model_ask(it);
        let mut lease = self.iterators[it].lease.take();
        let mut found = match fast {
            Some(true) => lease.as_mut().and_then(Lease::next_common).map(Object::Message),
            _ => None,
        };
        while found.is_none() {
            let given = lease.as_mut().and_then(|lease| match fast {
                Some(_) => lease.next().map(|message| Object::Message(message.unwrap())),
                None => lease.next_batch().map(|batch| Object::Batch(batch.unwrap())),
            });
            found = given;
            if found.is_none() {
                match self.shared.next_lease(lease.take(), Some(Instant::now())) {
                    Turn::Lease(taken) => lease = Some(taken),
                    Turn::TimedOut => break,
                    Turn::Failed(error) => panic!("{error}"),
                    Turn::Ended => panic!("ended"),
                }
            }
        }
        self.iterators[it].lease = lease;
        match found {
            Some(object) => self.given(it, object),
            None => {
                self.check_nothing_is_there();
                false
            }
        }
    }

    pub(super) fn given(&mut self, it: usize, object: Object) -> bool {
        assert_eq!(self.stage, Stage::Owned, "nothing is given out of what is given up");
        let (part, offsets) = match &object {
            Object::Message(message) => (message.partition(), vec![message.offset()]),
            Object::Batch(batch) => {
                let messages = batch.iter().map(|message| message.unwrap().offset());
                (batch.partition(), messages.collect())
            }
        };
        let part = usize::try_from(part).unwrap();
        let (model, log) = (&mut self.models[part], &self.logs[part]);
        assert!(!model.paused, "nothing is given out of what is paused");
        let wanted: Vec<i64> = log
            .records
            .range(model.next..)
            .take(offsets.len())
            .map(|(&offset, _)| offset)
            .collect();
        assert_eq!(offsets, wanted, "the next messages of partition {part}");
        if let Object::Message(message) = &object {
            assert_eq!(message.value(), log.records.get(&offsets[0]).map(Vec::as_slice));
        }
        assert!(
            model.unfinished() < self.terms.window,
            "given {offsets:?} with {} unfinished already",
            model.unfinished()
        );
        model.next = offsets.last().unwrap() + 1;
        model.behind = model.behind.max(model.next);
        model.given.extend(&offsets);
        self.hands += 1;
        let (hand, era) = (self.hands, model.era);
        let chunk = self.iterators[it]
            .lease
            .as_ref()
            .map_or(0, |lease| Arc::as_ptr(&lease.walker.chunk.data).addr());
        self.iterators[it].hand = Some(Hand {
            id: hand,
            part,
            era,
            chunk,
            is_batch: matches!(object, Object::Batch(_)),
            offsets: offsets.clone(),
            spoiled: false,
        });
        self.iterators[it].thing = Some(Thing {
            hand,
            part,
            era,
            chunk,
            offsets,
            object,
        });
        true
    }

    /// An iterator got nothing: rightly so?
    pub(super) fn check_nothing_is_there(&self) {
        if self.stage != Stage::Owned {
            return;
        }
        let state = self.shared.lock();
        for (part, model) in self.models.iter().enumerate() {
            let partition = &state.partitions[&self.slots[part]];
            let has_records = model.next < partition.position
                && self.logs[part]
                    .records
                    .range(model.next..partition.position)
                    .next()
                    .is_some();
            let is_open = partition.leased.is_none() && !model.paused && model.unfinished() < self.terms.window;
            assert!(
                !(has_records && is_open),
                "partition {part} is stuck at {} with {} unfinished",
                model.next,
                model.unfinished()
            );
        }
    }
}
