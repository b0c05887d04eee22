//! Groups of competing consumers, which the original calls persistent subscriptions
//! (contract/services 3).

mod answer;
mod consume;
mod describe;
mod live;
mod manage;
mod parked;
pub(in crate::http) mod settings;

pub(crate) use consume::{acknowledge, acknowledge_one, give_back, give_back_one, next, next_ones};
pub(crate) use describe::{info, list, of_stream};
pub(crate) use manage::{create, delete, replay_parked, restart, update};
pub(crate) use parked::{parked_backward, parked_forward, parked_head};

use crate::consumers::GroupName;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::request::Request;

/// The group that the path names.
fn group(request: &Request<'_>) -> Result<GroupName, ApiError> {
    let stream = extract::stream(&request.params.stream)?;
    Ok(GroupName { stream, group: request.params.group.clone().into_owned() })
}
