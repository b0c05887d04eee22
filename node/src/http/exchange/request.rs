//! What every handler gets, and the steps that reads and writes share.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::access::{Administrator, Caller, Operator, RemoteCaller};
use crate::budget::Account;
use crate::cluster::view::LeaderHint;
use crate::http::AppState;
use crate::http::budgets::Budgets;
use crate::http::exchange::authentication::client_address;
use crate::http::exchange::error::ApiError;
use crate::http::exchange::extract;
use crate::http::exchange::media_type::MediaType;
use crate::http::exchange::negotiate::Chosen;
use crate::http::exchange::params::Params;
use crate::http::format::links::Base;
use crate::listen::network;

/// The connection that a request came over.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Address of the client, or of the balancer before it.
    pub(crate) peer: SocketAddr,
    /// What counts as its address where all connections of one share something.
    pub(crate) network: IpAddr,
    /// Whether it is TLS.
    pub(crate) is_tls: bool,
    /// The client has closed its sending side: it asks for nothing more. Over HTTP/2 never.
    pub(crate) closed: CancellationToken,
    /// What the heads of its requests make the node hold.
    pub(crate) heads: Arc<Account>,
    /// The same of their bodies, as far as these are small.
    pub(crate) bodies: Arc<Account>,
    /// What it makes the node hold of answers, until they are sent.
    pub(crate) answers: Arc<Account>,
}

impl Connection {
    /// A connection that has just begun.
    pub(crate) fn new(peer: SocketAddr, is_tls: bool, budgets: &Budgets) -> Self {
        let network = network(peer.ip());
        let account = |pool| Account::new(pool, network);
        let (heads, bodies) = (account(&budgets.requests), account(&budgets.requests));
        let answers = account(&budgets.answers);
        Self { peer, network, is_tls, closed: CancellationToken::new(), heads, bodies, answers }
    }

    /// Whether it holds much of what others wait for.
    pub(crate) fn is_in_the_way(&self) -> bool {
        [&self.heads, &self.bodies, &self.answers].into_iter().any(|account| account.is_in_the_way())
    }

    /// Scheme of links when no header says otherwise.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }
}

/// A request past routing and negotiation.
pub(crate) struct Request<'a> {
    /// The node.
    pub(crate) state: &'a AppState,
    /// What the request came over.
    pub(crate) connection: &'a Connection,
    /// The caller that sent it.
    pub(crate) caller: Caller,
    /// Headers.
    pub(crate) headers: &'a HeaderMap,
    /// Path and query as sent.
    pub(crate) uri: &'a http::Uri,
    /// Parts of the path.
    pub(crate) params: &'a Params<'a>,
    /// Media type of the body; bytes where the route looks at none.
    pub(crate) body_type: MediaType,
    /// Media type of the answer.
    pub(crate) chosen: Chosen,
}

impl Request<'_> {
    /// Base of links.
    pub(crate) fn base(&self) -> Base {
        let advertised = self.state.config.advertise_http.as_deref();
        Base::of_request(self.headers, self.connection.scheme(), advertised, &self.state.local_address)
    }

    /// Whether the answer is to be server-sent events.
    pub(crate) fn is_live(&self) -> bool {
        self.chosen.media_type == MediaType::EventStream
    }

    /// A query parameter, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        extract::query(self.uri.query(), name)
    }

    /// Where the request comes from, for operations that write.
    pub(crate) fn client(&self) -> RemoteCaller<'_> {
        let trusted = &self.state.config.trusted_proxies;
        let address = client_address(self.headers, self.connection.peer.ip(), trusted);
        RemoteCaller { caller: &self.caller, address }
    }

    /// The proof that the caller may run the node.
    pub(crate) async fn operator(&self) -> Result<Operator, ApiError> {
        Ok(self.state.rooms.access.operator(&self.caller).await?)
    }

    /// The proof that the caller may pass by access lists.
    pub(crate) async fn administrator(&self) -> Result<Administrator, ApiError> {
        Ok(self.state.rooms.access.administrator(&self.caller).await?)
    }

    /// The answer that sends the client to the leader.
    pub(crate) fn to_leader(&self, hint: &LeaderHint) -> ApiError {
        let address = self.state.rooms.cluster.clients_address(hint);
        let base = Base::of_node(self.headers, self.connection.scheme(), &address);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        ApiError::RedirectToLeader(format!("{}{path}", base.as_str()))
    }
}
