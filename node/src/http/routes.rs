//! The table of routes. Each row has the method, the path, the name in metrics, the audience, the
//! media types of bodies and of answers, and the handler. The rest of the server knows routes only
//! through this table, and `openapi.json` describes exactly its rows.

use crate::http::exchange::audience::Audience;
use crate::http::exchange::media_type::{
    EVENT, FEED, GROUPS, INCOMING, INCOMING_BODY, LIVE_FEED, LIVE_MESSAGES, MESSAGES, NODE, PARKED, PING, USERS, WRITE,
};
use crate::http::exchange::router::Route;
use crate::http::resources::{
    all, append, backup, consumers, delete, event, feed, filtered, gossip, health, member_changes, members, node,
    openapi, operate, redact, scavenge, stats, trailing_slash, transfer, users, web,
};

/// Makes a [`Route`] of each row. `-` in a column of media types is none: bodies are not looked at,
/// or there is one form of the answer for everybody. A handler gets the body where its row says so.
macro_rules! routes {
    (@types -) => { None };
    (@types $types:ident) => { Some($types) };
    (@reads) => { false };
    (@reads body) => { true };
    (@handler $module:ident $handler:ident) => { |request, _| Box::pin($module::$handler(request)) };
    (@handler $module:ident $handler:ident body) => { |request, body| Box::pin($module::$handler(request, body)) };
    ($($method:ident $path:literal $name:literal $audience:ident $accepts:tt $produces:tt
       $module:ident::$handler:ident($($body:ident)?);)*) => {
        /// In the order in which Access-Control-Allow-Methods lists them (contract/streams 2.3).
        /// Where several match, a literal segment wins over a placeholder, from left to right
        /// (contract/streams 2.2).
        pub(crate) static ROUTES: &[Route] = &[$(Route {
            method: http::Method::$method,
            path: $path,
            name: $name,
            audience: Audience::$audience,
            accepts: routes!(@types $accepts),
            reads_body: routes!(@reads $($body)?),
            produces: routes!(@types $produces),
            handler: routes!(@handler $module $handler $($body)?),
        }),*];
    };
}

routes! {
//  method path                                                   name in metrics        who may ask        bodies        answers   handler
    POST   "/streams/{stream}"                                    "append"               Streams            WRITE         WRITE     append::to_stream(body);
    DELETE "/streams/{stream}"                                    "delete"               Streams            -             WRITE     delete::stream();
    GET    "/streams/{stream}"                                    "feed_head"            Streams            -             LIVE_FEED feed::head();
    POST   "/streams/{stream}/"                                   "trailing_slash"       Streams            WRITE         WRITE     trailing_slash::remove();
    DELETE "/streams/{stream}/"                                   "trailing_slash"       Streams            -             WRITE     trailing_slash::remove();
    GET    "/streams/{stream}/"                                   "trailing_slash"       Streams            -             WRITE     trailing_slash::remove();
    GET    "/streams/{stream}/{number}"                           "event"                Streams            -             EVENT     event::of_stream();
    GET    "/streams/{stream}/{number}/{count}"                   "feed_backward"        Streams            -             FEED      feed::backward();
    GET    "/streams/{stream}/{number}/backward/{count}"          "feed_backward"        Streams            -             FEED      feed::backward();
    GET    "/streams/{stream}/{number}/forward/{count}"           "feed_forward"         Streams            -             FEED      feed::forward();
    POST   "/streams/{stream}/incoming/{guid}"                    "incoming"             Streams            INCOMING_BODY INCOMING  append::incoming(body);
    POST   "/streams/{stream}/metadata"                           "metadata_write"       Streams            WRITE         WRITE     append::metadata(body);
    GET    "/streams/{stream}/metadata"                           "metadata_event"       Streams            -             EVENT     event::of_metadata();
    GET    "/streams/{stream}/metadata/"                          "trailing_slash"       Streams            -             EVENT     trailing_slash::remove();
    POST   "/streams/{stream}/metadata/"                          "trailing_slash"       Streams            WRITE         WRITE     trailing_slash::remove();
    GET    "/streams/{stream}/metadata/{number}"                  "metadata_event"       Streams            -             EVENT     event::of_metadata();
    GET    "/streams/{stream}/metadata/{number}/{count}"          "metadata_backward"    Streams            -             FEED      feed::metadata_backward();
    GET    "/streams/{stream}/metadata/{number}/backward/{count}" "metadata_backward"    Streams            -             FEED      feed::metadata_backward();
    GET    "/streams/{stream}/metadata/{number}/forward/{count}"  "metadata_forward"     Streams            -             FEED      feed::metadata_forward();

    GET    "/streams/$all"                                        "all_head"             Streams            -             LIVE_FEED all::head();
    GET    "/streams/$all/"                                       "trailing_slash"       Streams            -             FEED      trailing_slash::remove();
    GET    "/streams/$all/{number}/{count}"                       "all_backward"         Streams            -             FEED      all::backward();
    GET    "/streams/$all/{number}/backward/{count}"              "all_backward"         Streams            -             FEED      all::backward();
    GET    "/streams/$all/{number}/forward/{count}"               "all_forward"          Streams            -             FEED      all::forward();
    GET    "/streams/$all/filtered"                               "filtered_head"        Streams            -             LIVE_FEED filtered::head();
    GET    "/streams/$all/filtered/{number}/{count}"              "filtered_backward"    Streams            -             FEED      filtered::backward();
    GET    "/streams/$all/filtered/{number}/backward/{count}"     "filtered_backward"    Streams            -             FEED      filtered::backward();
    GET    "/streams/$all/filtered/{number}/forward/{count}"      "filtered_forward"     Streams            -             FEED      filtered::forward();

    GET    "/users"                                               "users"                UserAdmins         -             USERS     users::list();
    GET    "/users/"                                              "users"                UserAdmins         -             USERS     users::list();
    GET    "/users/{user}"                                        "user"                 UserAdmins         -             USERS     users::single();
    POST   "/users"                                               "user_create"          UserAdmins         USERS         USERS     users::create(body);
    POST   "/users/"                                              "user_create"          UserAdmins         USERS         USERS     users::create(body);
    PUT    "/users/{user}"                                        "user_update"          UserAdmins         USERS         USERS     users::update(body);
    DELETE "/users/{user}"                                        "user_delete"          UserAdmins         -             USERS     users::delete();
    GET    "/users/$current"                                      "current_user"         Endpoints          -             USERS     users::current();
    POST   "/users/{user}/command/enable"                         "user_enable"          UserAdmins         -             USERS     users::enable();
    POST   "/users/{user}/command/disable"                        "user_disable"         UserAdmins         -             USERS     users::disable();
    POST   "/users/{user}/command/reset-password"                 "user_reset_password"  UserAdmins         USERS         USERS     users::reset_password(body);
    POST   "/users/{user}/command/change-password"                "user_change_password" Endpoints          USERS         USERS     users::change_password(body);

    GET    "/subscriptions"                                       "subscriptions"        Streams            -             GROUPS    consumers::list();
    GET    "/subscriptions/{stream}"                              "subscriptions"        Streams            -             GROUPS    consumers::of_stream();
    POST   "/subscriptions/restart"                               "subscription_restart" Streams            -             GROUPS    consumers::restart();
    PUT    "/subscriptions/{stream}/{group}"                      "subscription_create"  Streams            GROUPS        GROUPS    consumers::create(body);
    POST   "/subscriptions/{stream}/{group}"                      "subscription_update"  Streams            GROUPS        GROUPS    consumers::update(body);
    DELETE "/subscriptions/{stream}/{group}"                      "subscription_delete"  Streams            -             GROUPS    consumers::delete();
    GET    "/subscriptions/{stream}/{group}"                      "subscription_read"    Streams            -             LIVE_MESSAGES consumers::next();
    // The original lists GET twice here, because it has a row for `?embed=`.
    GET    "/subscriptions/{stream}/{group}"                      "subscription_read"    Streams            -             LIVE_MESSAGES consumers::next();
    GET    "/subscriptions/{stream}/{group}/{count}"              "subscription_read"    Streams            -             MESSAGES  consumers::next_ones();
    GET    "/subscriptions/viewparkedmessages/{stream}/{group}"   "subscription_parked"  Streams            -             PARKED    consumers::parked_head();
    GET    "/subscriptions/viewparkedmessages/{stream}/{group}/{number}/backward/{count}" "subscription_parked" Streams  -             PARKED    consumers::parked_backward();
    GET    "/subscriptions/viewparkedmessages/{stream}/{group}/{number}/forward/{count}"  "subscription_parked" Streams  -             PARKED    consumers::parked_forward();
    GET    "/subscriptions/{stream}/{group}/info"                 "subscription_info"    Streams            -             GROUPS    consumers::info();
    POST   "/subscriptions/{stream}/{group}/ack/{guid}"           "subscription_ack"     Streams            -             -         consumers::acknowledge_one();
    POST   "/subscriptions/{stream}/{group}/nack/{guid}"          "subscription_nack"    Streams            -             -         consumers::give_back_one();
    POST   "/subscriptions/{stream}/{group}/ack"                  "subscription_ack"     Streams            -             -         consumers::acknowledge();
    POST   "/subscriptions/{stream}/{group}/nack"                 "subscription_nack"    Streams            -             -         consumers::give_back();
    POST   "/subscriptions/{stream}/{group}/replayParked"         "subscription_replay"  Streams            -             GROUPS    consumers::replay_parked();

    POST   "/admin/backup"                                        "backup"               AdministratorsOnly -             -         backup::take(body);
    GET    "/admin/cluster"                                       "cluster"              Operators          -             NODE      members::overview();
    POST   "/admin/cluster/members"                               "cluster_change"       AdministratorsOnly -             NODE      member_changes::add(body);
    DELETE "/admin/cluster/members/{number}"                      "cluster_change"       AdministratorsOnly -             NODE      member_changes::remove();
    POST   "/admin/cluster/members/{number}/promote"              "cluster_change"       AdministratorsOnly -             NODE      member_changes::promote();
    POST   "/admin/cluster/members/{number}/demote"               "cluster_change"       AdministratorsOnly -             NODE      member_changes::demote();
    POST   "/admin/cluster/members/{number}/replace"              "cluster_change"       AdministratorsOnly -             NODE      member_changes::replace(body);
    POST   "/admin/cluster/transfer"                              "cluster_change"       AdministratorsOnly -             NODE      member_changes::transfer();
    GET    "/admin/hashes/{number}/{count}"                       "hashes"               AdministratorsOnly -             NODE      backup::hash();
    POST   "/admin/import"                                        "import"               AdministratorsOnly -             -         transfer::import(body);
    GET    "/admin/export"                                        "export"               AdministratorsOnly -             -         transfer::export();

    GET    "/ping"                                                "ping"                 Anybody            -             PING      node::ping();
    GET    "/info"                                                "info"                 Anybody            -             NODE      node::info();
    GET    "/info/options"                                        "options"              Operators          -             NODE      node::options();
    GET    "/sys/subsystems"                                      "subsystems"           Operators          -             NODE      node::subsystems();
    GET    "/histogram/{name}"                                    "histogram"            Operators          -             PING      node::histogram();
    POST   "/admin/scavenge"                                      "scavenge_start"       Operators          -             NODE      scavenge::start();
    DELETE "/admin/scavenge/{guid}"                               "scavenge_stop"        Operators          -             NODE      scavenge::stop();
    GET    "/admin/scavenge/current"                              "scavenge_state"       Operators          -             NODE      scavenge::current();
    GET    "/admin/scavenge/last"                                 "scavenge_state"       Operators          -             NODE      scavenge::last();
    POST   "/admin/shutdown"                                      "shutdown"             Operators          -             -         operate::shut_down();
    POST   "/admin/node/resign"                                   "resign"               Operators          -             -         operate::resign();
    POST   "/admin/node/priority/{number}"                        "node_priority"        Operators          -             -         operate::set_priority();
    POST   "/admin/reloadconfig"                                  "reload"               Operators          -             -         operate::reload();
    POST   "/admin/mergeindexes"                                  "merge_indexes"        Operators          -             NODE      operate::merge_indexes();
    GET    "/admin/slow-requests"                                 "slow_requests"        Operators          -             NODE      node::slow_requests();
    POST   "/admin/redact/{stream}/{number}"                      "redact"               AdministratorsOnly -             NODE      redact::event();
    GET    "/gossip"                                              "gossip"               Anybody            -             NODE      gossip::members();
    GET    "/health/live"                                         "health_live"          Anybody            -             -         health::live();
    HEAD   "/health/live"                                         "health_live"          Anybody            -             -         health::live();
    GET    "/health/ready"                                        "health_ready"         Anybody            -             -         health::ready();
    HEAD   "/health/ready"                                        "health_ready"         Anybody            -             -         health::ready();
    GET    "/health/leader"                                       "health_leader"        Anybody            -             -         health::leader();
    HEAD   "/health/leader"                                       "health_leader"        Anybody            -             -         health::leader();
    GET    "/metrics"                                             "metrics"              Endpoints          -             -         node::metrics();
    GET    "/stats"                                               "stats"                Anybody            -             NODE      stats::figures();
    GET    "/stats/tcp"                                           "stats_tcp"            Anybody            -             NODE      stats::connections();
    GET    "/stats/replication"                                   "stats_replication"    Anybody            -             NODE      stats::replication();
    GET    "/stats/{path}"                                        "stats_part"           Anybody            -             NODE      stats::figures();
    GET    "/openapi.json"                                        "openapi"              Anybody            -             -         openapi::document();
    HEAD   "/openapi.json"                                        "openapi"              Anybody            -             -         openapi::document();
    GET    "/"                                                    "root"                 Anybody            -             -         web::redirect();
    GET    "/web"                                                 "root"                 Anybody            -             -         web::redirect();
    GET    "/web/"                                                "root"                 Anybody            -             -         web::redirect();
    GET    "/web/index.html"                                      "web_index"            Anybody            -             -         web::index();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_passes_by_access_lists_is_for_administrators_alone() {
        let passing =
            ROUTES.iter().filter(|route| matches!(route.name, "backup" | "hashes" | "import" | "export" | "redact"));
        let audiences: Vec<Audience> = passing.map(|route| route.audience).collect();
        assert_eq!(audiences, [Audience::AdministratorsOnly; 5]);
    }

    #[test]
    fn the_members_are_changed_by_administrators_alone() {
        let changes = ROUTES.iter().filter(|route| route.path.starts_with("/admin/cluster/"));
        let audiences: Vec<Audience> = changes.map(|route| route.audience).collect();
        assert_eq!(audiences, [Audience::AdministratorsOnly; 6]);
    }

    #[test]
    fn endpoints_that_are_always_open_are_documented() {
        let security = include_str!("../../../docs/security.md");
        let (_, rest) = security.split_once("- `/ping`").unwrap();
        let (list, _) = rest.split_once("stay open").unwrap();
        let documented: BTreeSet<&str> =
            list.split('`').filter(|path| path.starts_with('/')).chain(["/ping"]).collect();
        let first_segment = |path: &'static str| match path[1..].find('/') {
            Some(end) => &path[..=end],
            None => path,
        };
        let anybody = ROUTES.iter().filter(|route| route.audience == Audience::Anybody);
        let open: BTreeSet<&str> = anybody.map(|route| first_segment(route.path)).collect();
        assert_eq!(documented, open);
    }
}
