//! What every handler gets, and the steps that reads and writes share.

use std::net::SocketAddr;

use http::HeaderMap;

use crate::access::{Caller, Policy};
use crate::budget::Reservation;
use crate::cluster::{BarrierError, LeaderHint};
use crate::event::Position;
use crate::http::AppState;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::negotiate::{Chosen, MediaType};
use crate::http::exchange::router::Params;
use crate::http::format::links::Base;
use crate::http::limits::PART_MEMORY_BYTES;
use crate::streams::Client;

/// The connection that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Address of the client, or of the balancer before it.
    pub peer: SocketAddr,
    /// Whether it is TLS.
    pub is_tls: bool,
}

impl Connection {
    /// Scheme of links when no header says otherwise.
    pub fn scheme(self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

/// A request past routing and negotiation.
pub struct Request<'a> {
    /// The node.
    pub state: &'a AppState,
    /// What the request came over.
    pub connection: Connection,
    /// Who sent it.
    pub caller: Caller,
    /// Headers.
    pub headers: &'a HeaderMap,
    /// Path and query as sent.
    pub uri: &'a http::Uri,
    /// Parts of the path.
    pub params: &'a Params<'a>,
    /// Media type of the body; bytes where the route looks at none.
    pub body_type: MediaType,
    /// Media type of the answer.
    pub chosen: Chosen,
}

impl Request<'_> {
    /// Base of links.
    pub fn base(&self) -> Base {
        let advertised = self.state.config.advertise_http.as_deref();
        Base::of_request(self.headers, self.connection.scheme(), advertised, &self.state.local_address)
    }

    /// Whether the answer is to be server-sent events.
    pub fn is_live(&self) -> bool {
        self.chosen.media_type == MediaType::EventStream
    }

    /// A query parameter, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        extract::query(self.uri.query(), name)
    }

    /// What a read of streams decides with: the sender as it is now. Taken anew for every look at the store, since much may have changed
    /// while the request waited.
    pub async fn policy(&self) -> Result<Policy, ApiError> {
        Ok(self.state.streams.policy(&self.caller).await?)
    }

    /// The sender as it is now; refuses one who would not be let in any more.
    pub async fn present(&self) -> Result<Caller, ApiError> {
        self.state.access.present(&self.caller).await?.ok_or(ApiError::Unauthorized)
    }

    /// Refuses a read that the sender may not make. A node that was just started may have forgotten the newest lists, and waits until it
    /// knows them again.
    pub async fn authorize_read(&self, stream: &str) -> Result<(), ApiError> {
        Ok(self.state.streams.authorize_read(&self.caller, stream).await?)
    }

    /// Where the request comes from, for operations that write.
    pub fn client(&self) -> Client<'_> {
        Client { caller: &self.caller, address: self.client_address() }
    }

    /// The answer that sends the client to the leader.
    pub fn to_leader(&self, hint: &LeaderHint) -> ApiError {
        let address = self.state.cluster.clients_address(hint);
        let base = Base::of_node(self.headers, self.connection.scheme(), &address);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        ApiError::RedirectToLeader(format!("{}{path}", base.as_str()))
    }

    /// Waits until this node may answer the read as asked (docs/http-api.md).
    pub async fn read_barrier(&self, barrier: ReadBarrier) -> Result<(), ApiError> {
        let cluster = &self.state.cluster;
        if !cluster.may_serve_reads() {
            return Err(ApiError::NotReady);
        }
        if barrier.require_leader {
            // Rare, and ten times as large as all the rest of a read.
            Box::pin(cluster.linearize()).await.map_err(|error| self.barrier_error(error))?;
        }
        if let Some(position) = barrier.min_position {
            cluster.wait_for_position(position).await.map_err(|error| self.barrier_error(error))?;
        }
        Ok(())
    }

    /// Memory for an answer, or its first part, beyond [`crate::http::limits::SMALL_PAGE_BYTES`].
    pub async fn answer_memory(&self) -> Result<Reservation, ApiError> {
        Ok(self.state.budgets.answers.reserve(PART_MEMORY_BYTES).await?)
    }

    /// Waits until this node sees every change of users that was answered anywhere before, as if the leader itself was asked. Where no
    /// leader is known, the node answers from its own copy (contract/services 5.2 and 5.4), but never from before its last start.
    pub async fn users_barrier(&self) -> Result<(), ApiError> {
        // Users are read on every node alike: nobody is sent to the leader for them (contract/services 5.3).
        let barrier = ReadBarrier { require_leader: false, ..ReadBarrier::parse(self.headers)? };
        self.read_barrier(barrier).await?;
        match self.state.cluster.catch_up().await {
            Ok(()) | Err(BarrierError::NoLeader | BarrierError::NotLeader(_)) => Ok(()),
            Err(BarrierError::Behind) => Err(ApiError::NotReady),
        }
    }

    fn barrier_error(&self, error: BarrierError) -> ApiError {
        match error {
            BarrierError::NotLeader(hint) => self.to_leader(&hint),
            BarrierError::NoLeader | BarrierError::Behind => ApiError::NotReady,
        }
    }
}

/// What a read demands of the node that answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBarrier {
    /// ES-RequireMaster and its aliases.
    pub require_leader: bool,
    /// ES-MinPosition.
    pub min_position: Option<Position>,
}

impl ReadBarrier {
    /// From the headers.
    pub fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        Ok(Self { require_leader: extract::require_leader(headers)?, min_position: extract::min_position(headers)? })
    }
}
