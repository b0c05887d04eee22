//! One request and its answer, whatever the resource: routing, authentication, negotiation, errors,
//! delivery, caching.

pub mod audit;
pub mod authentication;
pub mod caching;
pub mod compress;
pub mod delivery;
pub mod error;
pub mod extract;
pub mod kept_pages;
pub mod metrics;
pub mod negotiate;
pub mod reply;
pub mod request;
pub mod request_body;
pub mod response;
pub mod router;
pub mod service;
