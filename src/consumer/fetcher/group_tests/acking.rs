//! What the program says to be done with.

use super::*;

impl World {
    pub(super) fn ack(&mut self, thing: &Thing) {
        let model = &mut self.models[thing.part];
        let is_current = self.stage != Stage::Gone && thing.era == model.era;
        let counted = match &thing.object {
            Object::Message(message) => {
                assert_eq!(message.is_current(), is_current);
                message.ack()
            }
            Object::Batch(batch) => batch.ack(),
        };
        assert_eq!(counted, is_current, "an ack of {:?}", thing.offsets);
        if is_current {
            model.finished.extend(&thing.offsets);
            if self.terms.order != CommitOrder::LowestContiguous {
                let below = self.logs[thing.part].records.range(..=thing.offsets.last().unwrap());
                model.finished.extend(below.map(|(&offset, _)| offset));
            }
        }
    }

    pub(super) fn release(&mut self, thing: &Thing) {
        let model = &mut self.models[thing.part];
        if let Object::Message(message) = &thing.object {
            message.release();
            if self.stage != Stage::Gone && thing.era == model.era {
                model.released.extend(&thing.offsets);
            }
        }
    }

    pub(super) fn split(&mut self, which: usize) {
        let Some(thing) = self.take_kept(which) else { return };
        match thing.object {
            Object::Message(_) => self.kept.push(thing),
            Object::Batch(batch) => {
                let things = batch.into_iter().zip(&thing.offsets).map(|(message, &offset)| Thing {
                    hand: thing.hand,
                    part: thing.part,
                    era: thing.era,
                    chunk: thing.chunk,
                    offsets: vec![offset],
                    object: Object::Message(message.unwrap()),
                });
                self.kept.extend(things);
            }
        }
    }

    pub(super) fn ack_through(&mut self, part: usize, at: usize) {
        if self.stage == Stage::Gone {
            return;
        }
        let model = &mut self.models[part];
        let at = i64::try_from(at).unwrap() % (self.logs[part].end + 1);
        let result = self.shared.lock().partitions[&self.slots[part]]
            .ack_through(at)
            .unwrap();
        self.shared.settle(self.slots[part]);
        let next = self.logs[part].records.range(model.next.max(model.behind)..).next();
        if next.is_some_and(|(&next, _)| at >= next) {
            assert!(result.is_err(), "{at} was not given out yet: {} is next", model.next);
        }
        if model.given.last().is_some_and(|&last| at <= last) {
            assert!(result.is_ok(), "{at} was given out");
        }
        if result.is_ok() {
            model.finished.extend(self.logs[part].between(model.start, at + 1));
        }
    }
}
