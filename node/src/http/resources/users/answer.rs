//! The documents that answer requests about users (contract/services 2).

use http::{Response, StatusCode};

use crate::access::user::User;
use crate::event::Ticks;
use crate::http::Reply;
use crate::http::exchange::response;
use crate::http::format::json::Object;
use crate::http::format::json::write::push_string;
use crate::http::format::links::{Base, encode};

/// Why a user is not shown or not changed. The answer has a document, unlike most refusals of this
/// API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserRefusal {
    /// There is no such user.
    #[error("no such user")]
    NotFound,
    /// The caller may not do this.
    #[error("not allowed")]
    Unauthorized,
    /// The change contradicts what is there.
    #[error("conflict")]
    Conflict,
    /// An administrator has deleted the stream of this user for good.
    #[error("the stream of the user was deleted for good")]
    StreamGone,
    /// Others changed the same user all the time.
    #[error("changed by others at the same time")]
    TryAgain,
    /// The node failed.
    #[error("internal error")]
    Failed,
}

impl UserRefusal {
    /// The document repeats the login name unless that is empty.
    pub(crate) fn into_response(self, login: &str) -> Response<Reply> {
        let (status, word) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "NotFound"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Conflict | Self::StreamGone => (StatusCode::CONFLICT, "Conflict"),
            Self::TryAgain => (StatusCode::REQUEST_TIMEOUT, "TryAgain"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "Error"),
        };
        response::json(status, |object| {
            result(object, login, false, word);
            if self == Self::StreamGone {
                object.string("message", "The stream of this user was deleted for good. Choose another login name.");
            }
        })
    }
}

/// A change was made.
pub(super) fn changed(status: StatusCode, login: &str) -> Response<Reply> {
    response::json(status, |object| result(object, login, true, "Success"))
}

fn result(object: &mut Object<'_>, login: &str, is_success: bool, word: &str) {
    if !login.is_empty() {
        object.string("loginName", login);
    }
    object.bool("success", is_success);
    object.string("error", word);
}

/// All users.
pub(super) fn list(users: &[User], base: &Base) -> Response<Reply> {
    response::json(StatusCode::OK, |object| {
        object.objects("data", users, |object, user| {
            members(object, user, None);
            links(object, user, base);
        });
        result(object, "", true, "Success");
    })
}

/// One user, with links to what can be done with it.
pub(super) fn single(user: &User, base: &Base) -> Response<Reply> {
    response::json(StatusCode::OK, |object| {
        object.object("data", |object| {
            members(object, user, None);
            links(object, user, base);
        });
        result(object, "", true, "Success");
    })
}

/// The user who asks.
pub(super) fn current(user: &User, updated: Ticks) -> Response<Reply> {
    // The offset is written out here, unlike everywhere else.
    let updated = updated.to_string().replace('Z', "+00:00");
    response::json(StatusCode::OK, |object| {
        object.object("data", |object| members(object, user, Some(&updated)));
        result(object, "", true, "Success");
    })
}

fn members(object: &mut Object<'_>, user: &User, updated: Option<&str>) {
    object.string("loginName", &user.login);
    if let Some(full_name) = &user.full_name {
        object.string("fullName", full_name);
    }
    if let Some(groups) = &user.groups {
        let out = object.key("groups");
        out.push(b'[');
        for (at, group) in groups.iter().enumerate() {
            if at > 0 {
                out.extend_from_slice(b", ");
            }
            push_string(out, group);
        }
        out.push(b']');
    }
    if let Some(updated) = updated {
        object.string("dateLastUpdated", updated);
    }
    object.bool("disabled", user.disabled);
}

fn links(object: &mut Object<'_>, user: &User, base: &Base) {
    let own = uri(base, &user.login);
    let switch = if user.disabled { "enable" } else { "disable" };
    let command = |name: &str| format!("{own}/command/{name}");
    let links = [
        (command("reset-password"), "reset-password"),
        (command("change-password"), "change-password"),
        (own.clone(), "edit"),
        (own.clone(), "delete"),
        (command(switch), switch),
    ];
    object.objects("links", &links, |object, (href, relation)| {
        object.string("href", href);
        object.string("rel", relation);
    });
}

/// The URI of a user.
pub(super) fn uri(base: &Base, login: &str) -> String {
    format!("{}/users/{}", base.as_str(), encode(login))
}
