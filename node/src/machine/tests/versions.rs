//! The cluster version in force, as part of the state.

use headwater_proto::stored::{Command, RaiseVersion, command::Kind};
use prost::Message;

use super::super::state::Damaged;
use super::super::{apply, check_version};
use super::node::Node;
use crate::event::{ClusterVersion, Ticks, WriteOutcome};
use crate::machine::memory::Memory;

fn raise(version: u32) -> Command {
    Command::of_maintenance(Kind::RaiseVersion(RaiseVersion { version }))
}

fn applied(state: &mut Memory, version: u32) -> Result<WriteOutcome, Damaged> {
    apply(state, Ticks(1), &raise(version).encode_to_vec().into())
}

#[test]
fn a_version_is_raised_and_never_lowered() {
    let mut state = Memory::default();
    for (asked, in_force) in [(0, 1), (1, 1), (2, 2), (2, 2), (1, 2)] {
        let raised = WriteOutcome::VersionRaised { version: ClusterVersion(in_force) };
        assert_eq!(applied(&mut state, asked).unwrap(), raised);
    }
}

#[test]
fn a_version_that_this_program_does_not_know_is_an_error() {
    let error = applied(&mut Memory::default(), ClusterVersion::NEWEST.0 + 1).unwrap_err();
    assert!(error.to_string().contains("this program knows none beyond"), "{error}");
}

#[test]
fn a_command_of_a_later_version_is_refused_until_that_is_in_force() {
    let (first, second) = (ClusterVersion::FIRST, ClusterVersion(2));
    assert_eq!(check_version(first, first), Ok(()));
    assert_eq!(check_version(second, first), Ok(()));
    let Err(WriteOutcome::Rejected { reason }) = check_version(first, second) else { panic!("it was let through") };
    assert_eq!(reason, "the command needs cluster version 2, and version 1 is in force");
}

#[test]
fn the_version_is_part_of_the_state_on_disk_and_of_its_copies() {
    let mut node = Node::new();
    assert_eq!(node.store().cluster_version(), ClusterVersion::FIRST);
    let newest = ClusterVersion::NEWEST;
    node.log.push(raise(newest.0));
    assert_eq!(node.catch_up(), [WriteOutcome::VersionRaised { version: newest }]);
    assert_eq!(node.store().cluster_version(), newest);

    // Not flushed yet: the log raises it again.
    node.crash();
    assert_eq!((node.applied, node.store().cluster_version()), (0, ClusterVersion::FIRST));
    node.catch_up();
    let copy = node.root.path().join("copy");
    node.writer().checkpoint(&copy).unwrap();
    node.restart();
    assert_eq!(node.store().cluster_version(), newest);

    let mut other = Node::new();
    other.writer().install(&copy).unwrap();
    assert_eq!(other.store().cluster_version(), newest);
}
