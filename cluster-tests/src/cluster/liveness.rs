//! Which nodes clients should use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The nodes that clients should use. The load avoids a node from shortly before its fault until it
/// is ready again.
#[derive(Debug, Clone)]
pub struct Liveness(Arc<[AtomicBool]>);

impl Liveness {
    pub(super) fn new(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicBool::new(false)).collect())
    }

    /// For nodes behind a balancer, which knows better.
    pub fn all_up(nodes: usize) -> Self {
        Self((0..nodes).map(|_| AtomicBool::new(true)).collect())
    }

    /// Whether clients may use the node.
    pub fn is_up(&self, node: u16) -> bool {
        self.0.get(usize::from(node) - 1).is_some_and(|up| up.load(Ordering::SeqCst))
    }

    pub(super) fn set(&self, node: u16, up: bool) {
        if let Some(flag) = self.0.get(usize::from(node) - 1) {
            flag.store(up, Ordering::SeqCst);
        }
    }
}
