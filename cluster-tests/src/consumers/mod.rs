//! Competing consumers of a group, and the books that they keep of what they got and settled.

mod books;
mod consumer;

pub use books::{AttemptId, Books, Fault, Settled, Wish};
pub use consumer::{Consumer, IN_TIME};
