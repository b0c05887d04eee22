//! A bounded cache of what the state says, from which the apply thread removes what a commit changed.
//!
//! Every key has one place, which it shares with all keys of the same hash; the newest wins. So a look-up is one short lock, memory is
//! bounded, and nobody has to tidy up.

use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

/// What is known by name. `V` is cheap to clone.
pub struct Slots<V> {
    slots: Box<[Mutex<Slot<V>>]>,
    hasher: RandomState,
}

struct Slot<V> {
    /// Counts the commits that changed what this place may hold.
    version: u64,
    entry: Option<(Box<str>, V)>,
}

/// The place of a key as it was found. What is learnt of the state after it was taken may be put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    slot: usize,
    version: u64,
}

impl<V: Clone> Slots<V> {
    /// With room for so many keys.
    pub fn new(places: usize) -> Self {
        let slots = (0..places).map(|_| Mutex::new(Slot { version: 0, entry: None })).collect();
        Self { slots, hasher: RandomState::new() }
    }

    /// What is known of `key`, and its place.
    pub fn get(&self, key: &str) -> (Place, Option<V>) {
        let slot = self.slot_of(key);
        let place = self.slots[slot].lock();
        let known = place.entry.as_ref().filter(|(known, _)| **known == *key).map(|(_, value)| value.clone());
        (Place { slot, version: place.version }, known)
    }

    /// Whether nothing that this place may hold was changed since it was taken.
    pub fn is_current(&self, place: Place) -> bool {
        self.slots[place.slot].lock().version == place.version
    }

    /// Remembers what was read from the state after `place` was taken. Says whether it is still right.
    pub fn put(&self, place: Place, key: &str, value: V) -> bool {
        let mut slot = self.slots[place.slot].lock();
        let is_current = slot.version == place.version;
        if is_current {
            slot.entry = Some((key.into(), value));
        }
        is_current
    }

    /// Forgets `key`, and what is being learnt about it at this moment.
    pub fn changed(&self, key: &str) {
        let mut slot = self.slots[self.slot_of(key)].lock();
        slot.version += 1;
        slot.entry.take_if(|(known, _)| **known == *key);
    }

    /// Forgets everything.
    pub fn everything_changed(&self) {
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
    fn what_was_learnt_before_a_change_is_not_remembered() {
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
