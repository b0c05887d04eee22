//! What requests ask for: each resource parses, calls the rooms below, and renders.

pub mod all;
pub mod append;
pub mod event;
pub mod feed;
pub mod filter;
pub mod filtered;
pub mod gossip;
pub mod health;
pub mod live;
pub mod node;
pub mod openapi;
pub mod page;
pub mod stats;
pub mod streams;
pub mod users;
pub mod web;
