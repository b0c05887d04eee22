//! Competing consumers of a group, and the books that they keep of what they got and settled.

mod books;
mod consumer;

pub use books::{Books, Fault, Settled};
pub use consumer::{Consumer, IN_TIME};
