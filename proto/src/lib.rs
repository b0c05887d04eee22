//! Messages that Headwater nodes store ([`stored`]) and send to each other ([`raft`], [`cluster`]).

/// Rows, log entries and files on disk.
#[allow(missing_docs)]
pub mod stored {
    tonic::include_proto!("headwater.stored");
}

/// Consensus between nodes.
#[allow(missing_docs)]
pub mod raft {
    tonic::include_proto!("headwater.raft");
}

/// Forwarding, founding and status between nodes.
#[allow(missing_docs)]
pub mod cluster {
    tonic::include_proto!("headwater.cluster");
}
