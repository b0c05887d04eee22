use super::*;

fn id(server: u16) -> NodeId {
    NodeId(u64::from(server) << 48 | 1)
}

fn places(server: u16) -> Member {
    Member::at(format!("10.0.0.{server}:1"), format!("10.0.0.{server}:2"))
}

fn voter(server: u16) -> Known {
    Known { id: id(server), member: places(server), votes: true, is_alive: true, lag: Some(0), knows_changes: true }
}

fn replica(server: u16) -> Known {
    let member = Member { replica: true, joined: true, ..places(server) };
    Known { member, votes: false, ..voter(server) }
}

fn learner(server: u16) -> Known {
    Known { votes: false, lag: Some(50_000), ..voter(server) }
}

fn dead(known: Known) -> Known {
    Known { is_alive: false, lag: None, ..known }
}

/// Led by the first.
fn cluster(members: impl IntoIterator<Item = Known>) -> Situation {
    let members: Vec<Known> = members.into_iter().collect();
    Situation { leader: members[0].id, members, is_exchanging: false, is_changed: false }
}

fn three() -> Situation {
    cluster([1, 2, 3].map(voter))
}

fn add(server: u16) -> Change {
    Change::Add { server, places: places(server), replica: false }
}

fn replace(server: u16, by: u16) -> Change {
    Change::Replace { server, by, places: places(by) }
}

fn refused(situation: &Situation, change: &Change) -> Refusal {
    decide(situation, change).expect_err("it is not refused")
}

#[test]
fn a_new_server_is_added_without_a_vote_and_with_its_marks() {
    let member = Member { joined: true, changed: true, ..places(4) };
    assert_eq!(decide(&three(), &add(4)), Ok(Plan::Add { server: 4, member: member.clone() }));
    let as_replica = Change::Add { server: 4, places: places(4), replica: true };
    assert_eq!(decide(&three(), &as_replica), Ok(Plan::Add { server: 4, member: Member { replica: true, ..member } }));
    assert!(decide(&cluster([voter(1)]), &add(2)).is_ok(), "a single node grows");
    let with_dead = cluster([voter(1), voter(2), dead(voter(3))]);
    assert!(decide(&with_dead, &add(4)).is_ok(), "three of four answer then");
}

#[test]
fn an_id_or_an_address_that_is_in_use_is_refused() {
    assert_eq!(refused(&three(), &add(3)), Refusal::IdInUse(3));
    assert_eq!(refused(&cluster([voter(1), replica(2)]), &add(2)), Refusal::IdInUse(2));
    for (raft, http, taken) in [
        ("10.0.0.2:1", "10.0.0.4:2", "10.0.0.2:1"),
        ("10.0.0.4:1", "10.0.0.2:2", "10.0.0.2:2"),
        ("10.0.0.2:2", "10.0.0.4:2", "10.0.0.2:2"),
    ] {
        let change = Change::Add { server: 4, places: Member::at(raft, http), replica: false };
        assert_eq!(refused(&three(), &change), Refusal::AddressInUse(taken.into(), 2));
    }
    let change = Change::Add { server: 4, places: Member::at("10.0.0.4:1", "10.0.0.4:1"), replica: true };
    assert_eq!(refused(&three(), &change), Refusal::SameAddress("10.0.0.4:1".into()));
}

#[test]
fn servers_that_would_not_reach_each_other_are_refused() {
    let on = |host: &str| Member::at(format!("{host}:1"), format!("{host}:2"));
    for loopback in ["127.0.0.1", "localhost", "[::1]"] {
        let alone = cluster([Known { member: on(loopback), ..voter(1) }]);
        assert_eq!(refused(&alone, &add(2)), Refusal::Loopback(1, 2), "{loopback}");
        let change = Change::Add { server: 4, places: on(loopback), replica: false };
        assert_eq!(refused(&three(), &change), Refusal::Loopback(4, 1), "{loopback}");
        let beside = Change::Add { server: 2, places: Member::at("127.0.0.1:7", "127.0.0.1:8"), replica: false };
        assert!(decide(&alone, &beside).is_ok());
    }
}

#[test]
fn members_are_limited() {
    let full = cluster((1..=MAX_MEMBERS as u16).map(|server| if server > 5 { replica(server) } else { voter(server) }));
    assert_eq!(refused(&full, &add(20)), Refusal::TooMany);
}

#[test]
fn two_changes_at_once_are_refused() {
    let catching_up = cluster([voter(1), learner(2)]);
    for change in [
        add(3),
        Change::Promote { server: 2 },
        Change::Demote { server: 1 },
        Change::Remove { server: 1 },
        replace(1, 3),
    ] {
        assert_eq!(refused(&catching_up, &change), Refusal::CatchingUp(2), "{change:?}");
    }
    let removed = decide(&catching_up, &Change::Remove { server: 2 });
    assert_eq!(removed, Ok(Plan::Remove { id: id(2), votes: false }), "its coming can be undone");
    let exchanging = Situation { is_exchanging: true, ..three() };
    for change in [add(4), Change::Remove { server: 3 }, Change::Transfer { to: Some(2) }] {
        assert_eq!(refused(&exchanging, &change), Refusal::Exchanging, "{change:?}");
    }
    let with_replica = cluster([voter(1), replica(2)]);
    assert!(decide(&with_replica, &add(3)).is_ok(), "a replica is not on its way to anything");
}

#[test]
fn nothing_is_changed_while_no_majority_answers() {
    let alone = cluster([voter(1), dead(voter(2)), dead(voter(3))]);
    let quorum = Quorum { voters: 3, alive: 1, needed: 2 };
    for change in [add(4), Change::Remove { server: 3 }, replace(3, 4), Change::Transfer { to: None }] {
        assert_eq!(refused(&alone, &change), Refusal::NoMajority(quorum), "{change:?}");
    }
}

#[test]
fn a_removal_that_would_lose_the_majority_is_refused() {
    let one_dead = cluster([voter(1), voter(2), dead(voter(3))]);
    let rest = Quorum { voters: 2, alive: 1, needed: 2 };
    assert_eq!(refused(&one_dead, &Change::Remove { server: 2 }), Refusal::LosesMajority(rest));
    assert_eq!(refused(&one_dead, &Change::Demote { server: 2 }), Refusal::LosesMajority(rest));
    let removed = decide(&one_dead, &Change::Remove { server: 3 });
    assert_eq!(removed, Ok(Plan::Remove { id: id(3), votes: true }), "the dead one is dispensable");
    let five = cluster([voter(1), voter(2), voter(3), dead(voter(4)), dead(voter(5))]);
    assert_eq!(
        refused(&five, &Change::Remove { server: 2 }),
        Refusal::LosesMajority(Quorum { voters: 4, alive: 2, needed: 3 })
    );
}

#[test]
fn a_replica_counts_in_no_majority() {
    let cluster = cluster([voter(1), voter(2), dead(voter(3)), replica(4), replica(5)]);
    assert!(matches!(refused(&cluster, &Change::Remove { server: 2 }), Refusal::LosesMajority(_)));
    assert_eq!(decide(&cluster, &Change::Remove { server: 4 }), Ok(Plan::Remove { id: id(4), votes: false }));
}

#[test]
fn the_last_voter_stays() {
    let alone = cluster([voter(1)]);
    assert_eq!(refused(&alone, &Change::Remove { server: 1 }), Refusal::LastVoter(1));
    assert_eq!(refused(&cluster([voter(1), replica(2)]), &Change::Demote { server: 1 }), Refusal::LastVoter(1));
    assert!(decide(&cluster([voter(1), voter(2)]), &Change::Remove { server: 2 }).is_ok(), "back to one");
}

#[test]
fn a_leader_hands_over_before_it_goes() {
    let far = Known { lag: Some(90), ..voter(2) };
    let led = cluster([voter(1), far.clone(), voter(3)]);
    for change in [Change::Remove { server: 1 }, Change::Demote { server: 1 }] {
        assert_eq!(decide(&led, &change), Ok(Plan::HandOverFirst { to: id(3) }), "{change:?}");
    }
    let lagging = cluster([voter(1), Known { lag: Some(MAX_LAG + 1), ..far }]);
    assert_eq!(refused(&lagging, &Change::Remove { server: 1 }), Refusal::NoSuccessor(1));
}

#[test]
fn a_replica_that_is_near_may_vote() {
    let with = |known: Known| cluster([voter(1), known]);
    assert_eq!(decide(&with(replica(2)), &Change::Promote { server: 2 }), Ok(Plan::Promote { id: id(2) }));
    let lagging = Known { lag: Some(MAX_LAG + 1), ..replica(2) };
    assert_eq!(refused(&with(lagging), &Change::Promote { server: 2 }), Refusal::Lags(2, MAX_LAG + 1));
    assert_eq!(refused(&with(dead(replica(2))), &Change::Promote { server: 2 }), Refusal::Silent(2));
    assert_eq!(refused(&three(), &Change::Promote { server: 2 }), Refusal::VotesAlready(2));
    assert_eq!(refused(&with(replica(2)), &Change::Demote { server: 2 }), Refusal::IsReplica(2));
}

#[test]
fn a_dead_server_is_replaced_by_itself_or_by_another() {
    let one_dead = cluster([voter(1), voter(2), dead(voter(3))]);
    let member = |server| Member { joined: true, changed: true, replaces: Some(id(3)), ..places(server) };
    assert_eq!(decide(&one_dead, &replace(3, 3)), Ok(Plan::Add { server: 3, member: member(3) }));
    assert_eq!(decide(&one_dead, &replace(3, 4)), Ok(Plan::Add { server: 4, member: member(4) }));
    assert_eq!(refused(&one_dead, &replace(3, 2)), Refusal::IdInUse(2));
    assert_eq!(refused(&three(), &replace(3, 4)), Refusal::Answers(3));
    assert_eq!(refused(&three(), &replace(7, 4)), Refusal::NotAMember(7));
    let of_replica = cluster([voter(1), dead(replica(2))]);
    assert!(
        matches!(decide(&of_replica, &replace(2, 3)), Ok(Plan::Add { member, .. }) if member.replica),
        "a replica stays one"
    );
}

#[test]
fn leadership_goes_to_a_voter_that_is_near() {
    let cluster = cluster([voter(1), voter(2), Known { lag: Some(5_000), ..voter(3) }, dead(voter(4)), replica(5)]);
    assert_eq!(decide(&cluster, &Change::Transfer { to: None }), Ok(Plan::HandOver { to: id(2) }));
    for (to, refusal) in [
        (1, Refusal::Leads(1)),
        (3, Refusal::Lags(3, 5_000)),
        (4, Refusal::Silent(4)),
        (5, Refusal::NoVoter(5)),
        (9, Refusal::NotAMember(9)),
    ] {
        assert_eq!(refused(&cluster, &Change::Transfer { to: Some(to) }), refusal);
    }
}

#[test]
fn members_of_an_older_version_let_no_first_change_happen() {
    let old = |server| Known { knows_changes: false, ..voter(server) };
    let mixed = cluster([voter(1), voter(2), old(3)]);
    assert_eq!(refused(&mixed, &add(4)), Refusal::OlderVersion("3".into()));
    assert_eq!(refused(&mixed, &Change::Remove { server: 2 }), Refusal::OlderVersion("3".into()));
    assert!(decide(&mixed, &Change::Transfer { to: Some(2) }).is_ok(), "that every version knows");
    assert!(decide(&mixed, &Change::Remove { server: 3 }).is_ok(), "it goes");
    let dead_and_old = cluster([voter(1), voter(2), dead(old(3))]);
    assert!(decide(&dead_and_old, &replace(3, 4)).is_ok(), "a dead server cannot say anything");
    assert!(decide(&Situation { is_changed: true, ..mixed }, &add(4)).is_ok());
}

#[test]
fn reasons_fit_into_a_reason_phrase() {
    let quorum = Quorum { voters: 9, alive: 4, needed: 5 };
    let address = "a-rather-long-name-of-a-server.some-department.some-company.example:65535".to_owned();
    for refusal in [
        Refusal::OlderVersion("65531, 65532, 65533, 65534, 65535, 65530, 65529, 65528".into()),
        Refusal::LosesMajority(quorum),
        Refusal::Loopback(65_535, 65_534),
        Refusal::AddressInUse(address, 65_535),
        Refusal::CatchingUp(65_535),
    ] {
        assert!(refusal.to_string().len() <= 256, "{refusal}");
    }
}
