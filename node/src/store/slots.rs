//! A bounded cache of facts about the state. The apply thread removes what a commit changes.
//!
//! Every key has one slot, shared with all keys of the same hash; the newest wins. So a look-up
//! takes one short lock, memory is bounded, and no clean-up is needed.

use std::hash::BuildHasher;

// Used by every commit and most requests; seeded like the one of std, and several times faster.
use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;

/// Largest key and value together that [`Slots::put_light`] remembers: the number of slots is
/// bounded, so their content has to be bounded too.
pub(crate) const MAX_LIGHT_BYTES: usize = 1 << 10;

/// Facts by name. `V` is cheap to clone.
pub(crate) struct Slots<V> {
    slots: Box<[Mutex<Slot<V>>]>,
    hasher: DefaultHashBuilder,
}

struct Slot<V> {
    /// Counts the commits that changed a key of this slot.
    version: u64,
    /// Commits under way that change a key of this slot. Meanwhile it is unknown which of them a
    /// reader of the state has seen.
    changing: u32,
    entry: Option<(Box<str>, V)>,
}

/// The slot of a key at one moment. Facts that are read from the state afterwards may be put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotPlace {
    slot: usize,
    version: u64,
}

impl<V: Clone> Slots<V> {
    /// With room for this many keys.
    pub(crate) fn new(places: usize) -> Self {
        let slots = (0..places).map(|_| Mutex::new(Slot { version: 0, changing: 0, entry: None })).collect();
        Self { slots, hasher: DefaultHashBuilder::default() }
    }

    /// The fact about `key`, and its slot.
    pub(crate) fn get(&self, key: &str) -> (SlotPlace, Option<V>) {
        let slot = self.slot_of(key);
        let place = self.slots[slot].lock();
        let known = place.entry.as_ref().filter(|(known, _)| **known == *key).map(|(_, value)| value.clone());
        (SlotPlace { slot, version: place.version }, known)
    }

    /// Whether no key of this slot has changed since `place` was taken.
    pub(crate) fn is_current(&self, place: SlotPlace) -> bool {
        self.slots[place.slot].lock().version == place.version
    }

    /// Remembers what was read from the state after `place` was taken. Returns whether it is still
    /// right.
    pub(crate) fn put(&self, place: SlotPlace, key: &str, value: V) -> bool {
        let mut slot = self.slots[place.slot].lock();
        let is_current = slot.version == place.version && slot.changing == 0;
        if is_current {
            slot.entry = Some((key.into(), value));
        }
        is_current
    }

    /// Like [`Self::put`], unless the key and a value of this weight are too large together.
    pub(crate) fn put_light(&self, place: SlotPlace, key: &str, value: V, weight: usize) {
        if key.len() + weight <= MAX_LIGHT_BYTES {
            self.put(place, key, value);
        }
    }

    /// Forgets `key`, and rejects what is being read about it at this moment.
    pub(crate) fn changed(&self, key: &str) {
        let mut slot = self.slots[self.slot_of(key)].lock();
        slot.version += 1;
        slot.entry.take_if(|(known, _)| **known == *key);
    }

    /// Forgets `key` before a commit that changes it, and accepts nothing about it until
    /// [`Self::end_change`]. So a reader that has seen the new state elsewhere never finds the old
    /// one here.
    pub(crate) fn begin_change(&self, key: &str) {
        let mut slot = self.slots[self.slot_of(key)].lock();
        slot.changing += 1;
        slot.entry.take_if(|(known, _)| **known == *key);
    }

    /// Ends the change: the commit is visible to every reader.
    pub(crate) fn end_change(&self, key: &str) {
        let mut slot = self.slots[self.slot_of(key)].lock();
        slot.changing -= 1;
        slot.version += 1;
    }

    /// [`Self::begin_change`] for all keys.
    pub(crate) fn begin_change_of_everything(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            slot.changing += 1;
            slot.entry = None;
        }
    }

    /// [`Self::end_change`] for all keys.
    pub(crate) fn end_change_of_everything(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            slot.changing -= 1;
            slot.version += 1;
        }
    }

    /// Forgets everything.
    pub(crate) fn everything_changed(&self) {
        for slot in &self.slots {
            let mut slot = slot.lock();
            slot.version += 1;
            slot.entry = None;
        }
    }

    fn slot_of(&self, key: &str) -> usize {
        (self.hasher.hash_one(key) % self.slots.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_from_before_a_change_are_not_remembered() {
        let slots = Slots::new(4);
        let (before, known) = slots.get("a");
        assert_eq!(known, None);
        slots.changed("a");
        assert!(!slots.put(before, "a", 1));
        assert_eq!(slots.get("a").1, None);
        let (place, _) = slots.get("a");
        assert!(slots.put(place, "a", 2));
        assert_eq!(slots.get("a").1, Some(2));
        slots.changed("a");
        assert!(!slots.is_current(place));
        assert_eq!(slots.get("a").1, None);
    }

    #[test]
    fn while_a_key_is_changed_nothing_is_known_and_nothing_learnt() {
        let slots = Slots::new(1);
        let (place, _) = slots.get("a");
        assert!(slots.put(place, "a", 1));
        slots.begin_change("a");
        assert_eq!(slots.get("a").1, None);
        let (meanwhile, _) = slots.get("a");
        assert!(!slots.put(meanwhile, "a", 1), "it is unknown whether it was read before or after the commit");
        slots.end_change("a");
        assert!(!slots.put(meanwhile, "a", 1));
        let (after, _) = slots.get("a");
        assert!(slots.put(after, "a", 2));
        slots.begin_change_of_everything();
        slots.begin_change("a");
        slots.end_change_of_everything();
        let (still, known) = slots.get("a");
        assert_eq!(known, None);
        assert!(!slots.put(still, "a", 2));
        slots.end_change("a");
        let (settled, _) = slots.get("a");
        assert!(slots.put(settled, "a", 3));
        assert_eq!(slots.get("a").1, Some(3));
    }

    #[test]
    fn what_is_too_heavy_is_not_remembered() {
        let slots = Slots::new(4);
        let (place, _) = slots.get("a");
        slots.put_light(place, "a", 1, MAX_LIGHT_BYTES);
        assert_eq!(slots.get("a").1, None);
        slots.put_light(place, "a", 1, MAX_LIGHT_BYTES - 1);
        assert_eq!(slots.get("a").1, Some(1));
        let long = "x".repeat(MAX_LIGHT_BYTES + 1);
        let (place, _) = slots.get(&long);
        slots.put_light(place, &long, 2, 0);
        assert_eq!(slots.get(&long).1, None);
    }

    #[test]
    fn keys_of_one_place_push_each_other_out_and_are_not_mistaken() {
        let slots = Slots::new(1);
        let (place, _) = slots.get("a");
        assert!(slots.put(place, "a", 1));
        assert_eq!(slots.get("b").1, None);
        slots.changed("b");
        assert_eq!(slots.get("a").1, Some(1));
        let (place, _) = slots.get("b");
        assert!(slots.put(place, "b", 2));
        assert_eq!((slots.get("a").1, slots.get("b").1), (None, Some(2)));
        slots.everything_changed();
        assert_eq!(slots.get("b").1, None);
    }
}
