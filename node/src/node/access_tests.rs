//! Users, passwords and access lists on a running node.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::support::nodes::Nodes;
use super::support::until;
use crate::access::change::{append, event};
use crate::access::rules::ADMINS;
use crate::access::user::stream_of;
use crate::access::{Access, Caller, LoginError, ManageError, Principal, Right};
use crate::cluster::Requester;
use crate::event::ExpectedVersion;

/// Makes the changes where it does not matter who does.
const NODE: Requester = Requester::Node;

pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A single node that is ready, and its users.
async fn start() -> (Nodes, Access) {
    let nodes = Nodes::start(1).await;
    let access = nodes.node(0).access().clone();
    // The password of each of the first users is hashed, then compared with the default.
    until("the first users are there", || access.computed_hashes() >= 4).await;
    (nodes, access)
}

async fn roles(access: &Access, login: &str, password: &str) -> Result<Vec<bool>, LoginError> {
    let principal = access.login(login, password, HERE).await?;
    Ok([login, ADMINS, "staff"].iter().map(|role| principal.has_role(role)).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_counts_until_the_change_of_it_was_answered_and_no_longer() {
    let (nodes, access) = start().await;
    assert_eq!(roles(&access, "admin", "changeit").await, Ok(vec![true, true, false]));
    access.create_user(&NODE, "ann", None, Some(vec!["staff".into()]), "one").await.unwrap();
    assert_eq!(roles(&access, "ann", "one").await, Ok(vec![true, false, true]));
    // From memory: no hash is computed.
    let before = access.computed_hashes();
    assert!(roles(&access, "ann", "one").await.is_ok());
    assert_eq!(access.computed_hashes(), before);

    access.reset_password(&NODE, "ann", "two").await.unwrap();
    assert_eq!(roles(&access, "ann", "one").await, Err(LoginError::Wrong));
    assert!(roles(&access, "ann", "two").await.is_ok());
    access.update_user(&NODE, "ann", None, None).await.unwrap();
    assert_eq!(roles(&access, "ann", "two").await, Ok(vec![true, false, false]));
    access.set_disabled(&NODE, "ann", true).await.unwrap();
    assert_eq!(roles(&access, "ann", "two").await, Err(LoginError::Wrong));
    access.set_disabled(&NODE, "ann", false).await.unwrap();
    assert!(roles(&access, "ann", "two").await.is_ok());
    access.change_password(&NODE, "ann", "two", "three", HERE).await.unwrap();
    assert_eq!(roles(&access, "ann", "two").await, Err(LoginError::Wrong));
    assert!(roles(&access, "ann", "three").await.is_ok());
    access.delete_user(&NODE, "ann").await.unwrap();
    assert_eq!(roles(&access, "ann", "three").await, Err(LoginError::Wrong));
    assert_eq!(access.delete_user(&NODE, "ann").await, Err(ManageError::NotFound));

    access.create_user(&NODE, "ann", Some("Ann".into()), None, "four").await.unwrap();
    assert!(roles(&access, "ann", "four").await.is_ok());
    assert_eq!(access.create_user(&NODE, "ann", None, None, "four").await, Ok(()));
    assert_eq!(access.create_user(&NODE, "ann", None, None, "five").await, Err(ManageError::Exists));
    let users = access.users().await.unwrap();
    assert_eq!(users.iter().map(|user| user.login.as_str()).collect::<Vec<_>>(), ["admin", "ann", "ops"]);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_login_costs_one_hash_and_after_many_none() {
    let (nodes, access) = start().await;
    access.create_user(&NODE, "ann", None, None, "one").await.unwrap();
    access.create_user(&NODE, "off", None, None, "one").await.unwrap();
    access.set_disabled(&NODE, "off", true).await.unwrap();
    for (login, password) in [("ann", "wrong"), ("nobody", "wrong"), ("off", "one"), ("off", "wrong"), ("", "")] {
        let before = access.computed_hashes();
        assert_eq!(roles(&access, login, password).await, Err(LoginError::Wrong), "{login}");
        assert_eq!(access.computed_hashes(), before + 1, "{login}");
    }
    // As if wrong passwords had been tried at once; really trying them would take a minute here.
    access.exhaust_attempts("ann", HERE);
    let before = access.computed_hashes();
    assert_eq!(roles(&access, "ann", "wrong").await, Err(LoginError::Exhausted));
    assert_eq!(roles(&access, "ann", "one").await, Err(LoginError::Exhausted));
    assert_eq!(access.change_password(&NODE, "ann", "one", "two", HERE).await, Err(ManageError::WrongPassword));
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert!(access.login("ann", "one", elsewhere).await.is_ok());
    // One for the new password that was not taken, one for the login elsewhere.
    assert_eq!(access.computed_hashes(), before + 2);
    nodes.stop().await;
}

/// Whether the answers to some logins come later than those to others: by the quickest of each,
/// which what else goes on in the machine delays least. All take turns.
async fn quickest(access: &Access, logins: &[(&str, &str)], rounds: u8) -> Vec<Duration> {
    let mut quickest = vec![Duration::MAX; logins.len()];
    for round in 0..rounds {
        for (at, (login, password)) in logins.iter().enumerate() {
            // From another address each time, because attempts are counted.
            let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, round));
            let started = Instant::now();
            let answer = access.login(login, password, from).await;
            quickest[at] = quickest[at].min(started.elapsed());
            assert_eq!(answer.map(drop), Err(LoginError::Wrong), "{login}");
        }
    }
    quickest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_an_answer_does_not_tell_a_wrong_name_from_a_wrong_password() {
    /// A second hash would be twice the time, a missing one nearly none.
    const ALIKE: f64 = 1.5;
    const TRIES: usize = 20;
    let (nodes, access) = start().await;
    access.create_user(&NODE, "ann", None, None, "one").await.unwrap();
    access.create_user(&NODE, "off", None, None, "one").await.unwrap();
    access.set_disabled(&NODE, "off", true).await.unwrap();
    // The one whose last login is still in memory, one who never logged in, one who may not, and
    // nobody.
    assert!(access.login("ann", "one", HERE).await.is_ok());
    let logins = [("ann", "wrong"), ("ops", "wrong"), ("off", "one"), ("nobody", "wrong"), ("", "wrong")];
    let spread = |times: &[Duration]| {
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        most.as_secs_f64() / least.as_secs_f64()
    };
    // The machine may be busy with something else for a while: a real difference is there each
    // time.
    let mut found = Vec::new();
    while found.len() < TRIES && found.last().is_none_or(|spread| *spread > ALIKE) {
        found.push(spread(&quickest(&access, &logins, 4).await));
    }
    assert!(found.last().is_some_and(|spread| *spread <= ALIKE), "the slowest answer by the quickest: {found:?}");
    // What the measure would say of a user whose password is not hashed: a name that is too long to
    // be looked up is no exception.
    let long = "x".repeat(crate::access::MAX_LOGIN_BYTES + 1);
    let unhashed = "y".repeat(crate::access::MAX_PASSWORD_BYTES + 1);
    let times = quickest(&access, &[("ann", "wrong"), (&long, "wrong"), ("ann", &unhashed)], 4).await;
    assert!(spread(&times) > 2.0 * ALIKE, "the measure finds nothing: {times:?}");
    assert!(times[1] > 2 * times[2], "{times:?}");
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hash_of_the_original_server_is_renewed_at_the_next_login() {
    let (nodes, access) = start().await;
    let document = br#"{"loginName":"joe","salt":"f1li35iz2v+RETNDRy560Q==","hash":"vuKqAzuZKPqxnH/QoOLZAMY2EPE="}"#;
    let created = event("$UserCreated", true, document);
    let appends = vec![append(&stream_of("joe"), ExpectedVersion::NoStream, vec![created])];
    assert_eq!(access.store_all(&NODE, appends).await, Ok(true));
    let joe = Caller::User(access.login("joe", "pw1", HERE).await.unwrap());
    let started = Instant::now();
    loop {
        let found = access.user("joe").await.unwrap().unwrap();
        let data = String::from_utf8(found.user.to_data()).unwrap();
        if found.number == 1 {
            assert!(data.contains("$argon2id$") && !data.contains(&STANDARD.encode([0])), "{data}");
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the hash is still {data}");
        tokio::time::sleep(Duration::from_millis(10)).await; // polling interval
    }
    // Who logged in with the former hash stays logged in.
    assert!(access.caller_now(&joe).await.unwrap().is_some());
    assert!(roles(&access, "joe", "pw1").await.is_ok());
    assert_eq!(roles(&access, "joe", "pw2").await, Err(LoginError::Wrong));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_administrator_remains_when_two_are_removed_at_once() {
    let (nodes, access) = start().await;
    let admins = || Some(vec![ADMINS.to_owned()]);
    assert_eq!(access.delete_user(&NODE, "admin").await, Err(ManageError::LastAdmin));
    assert_eq!(access.set_disabled(&NODE, "admin", true).await, Err(ManageError::LastAdmin));
    assert_eq!(access.update_user(&NODE, "admin", None, None).await, Err(ManageError::LastAdmin));
    access.create_user(&NODE, "second", None, admins(), "x").await.unwrap();
    let (one, two) = tokio::join!(access.delete_user(&NODE, "admin"), access.set_disabled(&NODE, "second", true));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let users = access.users().await.unwrap();
    assert_eq!(users.iter().filter(|user| user.is_active_admin()).count(), 1);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_in_force_once_their_write_was_answered() {
    let (nodes, access) = start().await;
    let ann = Caller::User(Arc::new(Principal::vouched_for("ann", Vec::new())));
    let may_write = async |stream: &str| access.allows(&ann, stream, Right::Write).await.unwrap();
    let write = async |stream: &str, data: &str| {
        let written = vec![event("$metadata", true, data.as_bytes())];
        assert_eq!(access.store_all(&NODE, vec![append(stream, ExpectedVersion::Any, written)]).await, Ok(true));
    };
    assert!(may_write("s").await);
    write("$$s", r#"{"$acl":{"$w":"bob"}}"#).await;
    assert!(!may_write("s").await);
    write("$$s", r#"{"$acl":{"$w":["ann"]}}"#).await;
    assert!(may_write("s").await && !may_write("$t").await);
    write("$settings", r#"{"$userStreamAcl":{"$w":"bob"},"$systemStreamAcl":{"$w":"ann"}}"#).await;
    assert!(may_write("s").await && !may_write("t").await && may_write("$t").await);
    // A document that means nothing, which only data of another server can hold, leaves the
    // built-in defaults.
    for document in [r#"{"$userStreamAcl":{"write":"bob"}}"#, r#"[{"$systemStreamAcl":{"$w":"ann"}}]"#, "{"] {
        write("$settings", document).await;
        assert!(may_write("t").await && !may_write("$t").await, "{document}");
    }
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_much_memory_to_be_kept_is_in_force_all_the_same() {
    let (nodes, access) = start().await;
    let ann = Caller::User(Arc::new(Principal::vouched_for("ann", Vec::new())));
    // Longer than a client can write a list now; an earlier version has taken it.
    let others = vec!["\"bob\""; 50_000].join(",");
    for (list, may_write) in [(others.clone(), false), (format!("{others},\"ann\""), true), (others, false)] {
        let metadata = event("$metadata", true, format!("{{\"$acl\":{{\"$w\":[{list}]}}}}").as_bytes());
        let stored = access.store_all(&NODE, vec![append("$$s", ExpectedVersion::Any, vec![metadata])]).await;
        assert_eq!(stored, Ok(true));
        for _ in 0..2 {
            assert_eq!(access.allows(&ann, "s", Right::Write).await.unwrap(), may_write);
        }
    }
    let groups = (0..200).map(|number| format!("{number:0>100}")).collect();
    access.create_user(&NODE, "joe", None, Some(groups), "one").await.unwrap();
    let before = access.computed_hashes();
    let joe = Caller::User(access.login("joe", "one", HERE).await.unwrap());
    assert!(access.login("joe", "one", HERE).await.is_ok());
    assert_eq!(access.login("joe", "two", HERE).await, Err(LoginError::Wrong));
    assert_eq!(access.computed_hashes(), before + 3);
    assert!(access.caller_now(&joe).await.unwrap().is_some_and(|joe| joe.has_role(&format!("{:0>100}", 199))));
    access.set_disabled(&NODE, "joe", true).await.unwrap();
    assert_eq!(access.caller_now(&joe).await.unwrap(), None);
    assert_eq!(access.login("joe", "one", HERE).await, Err(LoginError::Wrong));
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_counts_for_the_password_of_now_and_the_groups_of_now() {
    let (nodes, access) = start().await;
    let staff = || Some(vec!["staff".to_owned()]);
    access.create_user(&NODE, "ann", None, staff(), "one").await.unwrap();
    let ann = Caller::User(access.login("ann", "one", HERE).await.unwrap());
    let now = async || access.caller_now(&ann).await.unwrap().map(|caller| caller.has_role("staff"));
    assert_eq!(now().await, Some(true));
    access.update_user(&NODE, "ann", None, None).await.unwrap();
    assert_eq!(now().await, Some(false));
    access.update_user(&NODE, "ann", Some("Ann".into()), staff()).await.unwrap();
    assert_eq!(now().await, Some(true));
    access.set_disabled(&NODE, "ann", true).await.unwrap();
    assert_eq!(now().await, None);
    access.set_disabled(&NODE, "ann", false).await.unwrap();
    assert_eq!(now().await, Some(true));
    // The same password is another one when somebody sets it.
    access.reset_password(&NODE, "ann", "one").await.unwrap();
    assert_eq!(now().await, None);
    let ann = Caller::User(access.login("ann", "one", HERE).await.unwrap());
    access.delete_user(&NODE, "ann").await.unwrap();
    assert_eq!(access.caller_now(&ann).await.unwrap(), None);
    nodes.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_from_before_the_deletion_of_a_user_does_not_restore_it() {
    let (nodes, access) = start().await;
    access.create_user(&NODE, "ann", None, None, "one").await.unwrap();
    let found = access.user("ann").await.unwrap().unwrap();
    let hash = found.user.password.clone().unwrap();
    access.delete_user(&NODE, "ann").await.unwrap();
    // As when a hash is renewed, or an administrator changes the user, at the moment of the
    // deletion.
    let mut changed = found.clone();
    changed.user.password = None;
    assert_eq!(access.replace_hash(changed, hash).await, Err(ManageError::TryAgain));
    assert!(access.user("ann").await.unwrap().is_none());
    nodes.stop().await;
}
