//! The documents that answer requests about users (contract/services 2).

use http::{Response, StatusCode};

use crate::access::user::User;
use crate::event::Ticks;
use crate::http::Reply;
use crate::http::exchange::response;
use crate::http::exchange::user_refusal::login_name;
use crate::http::format::json::Object;
use crate::http::format::json::write::push_string;
use crate::http::format::links::{Base, encode};

/// A change was made.
pub(super) fn changed(status: StatusCode, login: &str) -> Response<Reply> {
    response::json(status, |object| success(object, login))
}

/// How every document but that of a refusal ends.
fn success(object: &mut Object<'_>, login: &str) {
    login_name(object, login);
    object.bool("success", true);
    object.string("error", "Success");
}

/// All users.
pub(super) fn list(users: &[User], base: &Base) -> Response<Reply> {
    response::json(StatusCode::OK, |object| {
        object.objects("data", users, |object, user| {
            members(object, user, None);
            links(object, user, base);
        });
        success(object, "");
    })
}

/// One user, with links to what can be done with it.
pub(super) fn single(user: &User, base: &Base) -> Response<Reply> {
    response::json(StatusCode::OK, |object| {
        object.object("data", |object| {
            members(object, user, None);
            links(object, user, base);
        });
        success(object, "");
    })
}

/// The calling user.
pub(super) fn current(user: &User, updated: Ticks) -> Response<Reply> {
    // The offset is written out here, unlike everywhere else.
    let updated = updated.to_string().replace('Z', "+00:00");
    response::json(StatusCode::OK, |object| {
        object.object("data", |object| members(object, user, Some(&updated)));
        success(object, "");
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
