//! Handshakes under way on one port: how many in all, and how many from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes under way on one port. Each is a task of its own, so that a slow one does not delay
/// others.
pub(crate) struct Handshakes {
    /// One place for each handshake.
    places: Arc<Semaphore>,
    /// How many with one address may be under way or waiting for a place; `None`: no limit.
    most_of_address: Option<usize>,
    /// How many are under way or waiting, by address; addresses with none are left out.
    by_address: Arc<ByAddress>,
}

#[derive(Default)]
struct ByAddress(Mutex<HashMap<IpAddr, usize>>);

/// The right to make one handshake; the place is free again when this is dropped.
pub(crate) struct Turn {
    _place: OwnedSemaphorePermit,
    _origin: Option<FromAddress>,
}

/// Why a handshake does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The address has as many handshakes under way as it may.
    TooManyOfAddress,
    /// No place became free in time.
    TooLate,
}

/// A handshake with an address, counted until this is dropped.
struct FromAddress {
    by_address: Arc<ByAddress>,
    address: IpAddr,
}

impl Handshakes {
    /// At most `most` at a time, at most `most_of_address` of them with one address.
    pub(crate) fn new(most: usize, most_of_address: Option<usize>) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), most_of_address, by_address: Arc::default() }
    }

    /// Begins a handshake with `peer`, which may wait for a place for `patience` at most.
    pub(crate) async fn begin(&self, peer: IpAddr, patience: Duration) -> Result<Turn, NoTurn> {
        let origin = match self.most_of_address {
            Some(most) => Some(self.by_address.begin(peer, most).ok_or(NoTurn::TooManyOfAddress)?),
            None => None,
        };
        let place = tokio::time::timeout(patience, self.places.clone().acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(NoTurn::TooLate)?;
        Ok(Turn { _place: place, _origin: origin })
    }
}

impl ByAddress {
    /// `None` when `most` are already under way.
    fn begin(self: &Arc<Self>, peer: IpAddr, most: usize) -> Option<FromAddress> {
        let address = network(peer);
        let mut underway = self.0.lock();
        let count = underway.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(FromAddress { by_address: self.clone(), address })
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        let mut underway = self.by_address.0.lock();
        if let Some(count) = underway.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                underway.remove(&self.address);
            }
        }
    }
}

/// The unit of counting: of an IPv6 address the 64-bit network, because a single host owns all
/// addresses in it.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn one_address_does_not_get_all_places() {
        let handshakes = Handshakes::new(8, Some(2));
        let begin = async |address: &str| handshakes.begin(address.parse().unwrap(), PATIENCE).await;
        let mut turns = vec![begin("10.0.0.1").await.unwrap(), begin("10.0.0.1").await.unwrap()];
        assert_eq!(begin("10.0.0.1").await.err(), Some(NoTurn::TooManyOfAddress));
        assert_eq!(begin("::ffff:10.0.0.1").await.err(), Some(NoTurn::TooManyOfAddress));
        assert!(begin("10.0.0.2").await.is_ok());
        turns.pop();
        assert!(begin("10.0.0.1").await.is_ok(), "the place was given back");
        turns.push(begin("2001:db8::1").await.unwrap());
        turns.push(begin("2001:db8::2").await.unwrap());
        assert_eq!(begin("2001:db8::ffff").await.err(), Some(NoTurn::TooManyOfAddress));
        assert!(begin("2001:db8:0:1::1").await.is_ok());
        drop(turns);
        assert!(handshakes.by_address.0.lock().is_empty());
    }

    #[tokio::test]
    async fn a_handshake_waits_for_a_place_but_not_for_ever() {
        let handshakes = Handshakes::new(1, None);
        let begin = || handshakes.begin(IpAddr::from([10, 0, 0, 1]), PATIENCE);
        let turn = begin().await.unwrap();
        assert_eq!(begin().await.err(), Some(NoTurn::TooLate));
        drop(turn);
        assert!(begin().await.is_ok());
    }
}
