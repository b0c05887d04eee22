//! Connections of clients: accepted, served as HTTP/1.1 or HTTP/2, paced, and ended when they
//! stall.

mod guarded;
mod half_close;
pub(super) mod head;
mod head_memory;
mod http1;
mod http2;
mod https;
pub(super) mod pacing;
pub(super) mod server;
pub(super) mod stall;
