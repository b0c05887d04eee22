//! The rules as a matrix.

use std::sync::Arc;

use super::rules::{ADMINS, Caller, EVERYBODY, Principal, Right, allows, is_open, subject};
use crate::event::metadata::{Acl, DefaultAcls};

const RIGHTS: [Right; 5] = [Right::Read, Right::Write, Right::Delete, Right::MetaRead, Right::MetaWrite];

/// The roles that a source names for a right, if it names any.
type RoleList = Option<&'static [&'static str]>;

const ROLE_LISTS: [RoleList; 6] =
    [None, Some(&[]), Some(&[EVERYBODY]), Some(&[ADMINS]), Some(&["ann"]), Some(&["staff", "other"])];

fn acl(right: Right, says: RoleList) -> Acl {
    let roles = says.map(|roles| roles.iter().map(|role| (*role).to_owned()).collect::<Vec<_>>());
    let mut acl = Acl::default();
    *match right {
        Right::Read => &mut acl.read,
        Right::Write => &mut acl.write,
        Right::Delete => &mut acl.delete,
        Right::MetaRead => &mut acl.meta_read,
        Right::MetaWrite => &mut acl.meta_write,
    } = roles;
    acl
}

fn callers() -> Vec<(Caller, &'static [&'static str])> {
    let user = |login: &str, groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Caller::User(Arc::new(Principal::vouched_for(login, groups)))
    };
    vec![
        (Caller::Anonymous, &[]),
        (user("ann", &[]), &["ann"]),
        (user("bob", &["staff"]), &["bob", "staff"]),
        (user("eve", &["$ops"]), &["eve", "$ops"]),
        (user("root", &[ADMINS]), &["root", ADMINS]),
        // From a server that permitted such names: no user has them as roles.
        (user(ADMINS, &[]), &[]),
        (user(EVERYBODY, &["staff"]), &["staff"]),
    ]
}

/// Contract/streams 13 once more, in the words of the contract.
fn expected(stream: &str, right: Right, own: RoleList, settings: RoleList, roles: &[&str], is_anonymous: bool) -> bool {
    // 1. Denied to everyone.
    let (owner, right) = match stream.strip_prefix("$$") {
        Some(described) if described.starts_with("$$") => return false,
        Some(_) if right != Right::Read && right != Right::Write => return false,
        Some(described) => (described, if right == Right::Read { Right::MetaRead } else { Right::MetaWrite }),
        None => (stream, right),
    };
    if stream == "$all" && matches!(right, Right::Write | Right::Delete) {
        return false;
    }
    // 2. Own list, settings, built-in default.
    let built_in: &[&str] = if owner.starts_with('$') { &[ADMINS] } else { &[EVERYBODY] };
    let list = own.or(settings).unwrap_or(built_in);
    // 3.
    list.contains(&EVERYBODY)
        || !is_anonymous && (roles.contains(&ADMINS) || list.iter().any(|role| roles.contains(role)))
}

#[test]
fn every_operation_by_every_role_under_every_list_is_decided_as_the_contract_says() {
    let mut decided = 0;
    for stream in ["s", "$s", "$all", "$$s", "$$$s", "$$$all", "$$$$s", "$$$$$s"] {
        for right in RIGHTS {
            for own in ROLE_LISTS {
                for settings in ROLE_LISTS {
                    for (caller, roles) in callers() {
                        let is_anonymous = caller == Caller::Anonymous;
                        let expected = expected(stream, right, own, settings, roles, is_anonymous);
                        let found = subject(stream, right).is_some_and(|(owner, right)| {
                            let of_settings = acl(right, settings);
                            // The list for the other kind of streams is the opposite and must not
                            // matter.
                            let of_others = acl(right, Some(if expected { &[] } else { &[EVERYBODY] }));
                            let defaults = if owner.starts_with('$') {
                                DefaultAcls { user_streams: of_others, system_streams: of_settings }
                            } else {
                                DefaultAcls { user_streams: of_settings, system_streams: of_others }
                            };
                            let own_list = own.map(|own| acl(right, Some(own)));
                            let allowed = allows(&caller, owner, right, own_list.as_ref(), &defaults);
                            if is_open(owner, right, own_list.as_ref(), &defaults) {
                                assert!(allowed, "public, but denied: {stream} {right:?}");
                            }
                            allowed
                        });
                        assert_eq!(found, expected, "{stream} {right:?} own {own:?} settings {settings:?} {roles:?}");
                        decided += 1;
                    }
                }
            }
        }
    }
    assert_eq!(decided, 8 * 5 * 6 * 6 * 7);
}

#[test]
fn a_right_falls_through_by_itself_and_not_with_the_whole_list() {
    let own = acl(Right::MetaWrite, Some(&["ann"]));
    let (ann, bob) = (callers().remove(1).0, callers().remove(2).0);
    let defaults = DefaultAcls::default();
    let may = |caller: &Caller, right| allows(caller, "s", right, Some(&own), &defaults);
    assert!(may(&ann, Right::MetaWrite) && !may(&bob, Right::MetaWrite));
    assert!(may(&bob, Right::Read) && may(&Caller::Anonymous, Right::Delete));
}

#[test]
fn a_list_that_says_who_writes_and_not_who_deletes_lets_only_writers_delete() {
    for writers in ROLE_LISTS {
        for deleters in ROLE_LISTS {
            for settings in ROLE_LISTS {
                let list = Acl { delete: acl(Right::Delete, deleters).delete, ..acl(Right::Write, writers) };
                for own in [true, false] {
                    // In the list of the stream, and in that of `$settings`, which is asked next.
                    let of_settings = if own { acl(Right::Delete, settings) } else { list.clone() };
                    let defaults = DefaultAcls { user_streams: of_settings, ..DefaultAcls::default() };
                    let own_list = own.then_some(&list);
                    let after = if own { settings } else { None };
                    for (caller, roles) in callers() {
                        let says = deleters.or(writers).or(after);
                        let expected = expected("s", Right::Delete, says, None, roles, caller == Caller::Anonymous);
                        let found = allows(&caller, "s", Right::Delete, own_list, &defaults);
                        assert_eq!(found, expected, "$w {writers:?} $d {deleters:?} then {after:?}: {roles:?}");
                        if writers.is_some() && deleters.is_none() {
                            assert_eq!(found, allows(&caller, "s", Right::Write, own_list, &defaults), "{roles:?}");
                        }
                    }
                }
            }
        }
    }
}
