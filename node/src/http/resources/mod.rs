//! What requests ask for: each resource parses, calls the rooms below, and renders.

pub(super) mod all;
pub(super) mod append;
pub(super) mod backup;
pub(super) mod delete;
pub(super) mod description;
pub(super) mod event;
pub(super) mod feed;
pub(super) mod filter;
pub(super) mod filtered;
pub(super) mod gossip;
pub(super) mod health;
pub(super) mod kept_pages;
pub(super) mod live;
pub(super) mod node;
pub(super) mod openapi;
pub(super) mod operate;
pub(super) mod page;
pub(super) mod redact;
pub(super) mod scavenge;
pub(super) mod stats;
pub(super) mod subscriptions;
pub(super) mod trailing_slash;
pub(super) mod transfer;
pub(super) mod users;
pub(super) mod web;
