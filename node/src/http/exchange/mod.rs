//! One request and its answer, whatever the resource: routing, authentication, negotiation, errors,
//! delivery, caching.

pub(super) mod audience;
pub(super) mod authentication;
pub(super) mod caching;
pub(super) mod compress;
pub(super) mod delivery;
pub(super) mod error;
pub(super) mod extract;
pub(super) mod media_type;
pub(super) mod metrics;
pub(super) mod negotiate;
mod origin;
pub(super) mod params;
pub(super) mod refusals;
pub(super) mod reply;
pub(super) mod request;
pub(super) mod request_body;
pub(super) mod response;
pub(super) mod router;
pub(super) mod service;
pub(super) mod slow;
mod span;
pub(super) mod user_refusal;
