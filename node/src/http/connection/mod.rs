//! Connections of clients: accepted, served as HTTP/1.1 or HTTP/2, paced, and ended when they stall.

pub mod http1;
pub mod http2;
pub mod pacing;
pub mod server;
pub mod stall;
