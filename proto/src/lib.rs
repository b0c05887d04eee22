//! Messages that Headwater nodes store ([`stored`]) and send to each other ([`raft`], [`cluster`]).

mod command;
pub mod reader;

/// Rows, log entries and files on disk.
#[allow(missing_docs)]
pub mod stored {
    tonic::include_proto!("headwater.stored");

    /// The numbers of the fields, one module per message, for use with
    /// [`Reader`](crate::reader::Reader).
    pub mod fields {
        include!(concat!(env!("OUT_DIR"), "/stored_fields.rs"));
    }
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
