//! The server side of cluster.proto: each call is checked, translated and passed to its part of the
//! room.

use std::pin::Pin;

use futures::StreamExt;
use headwater_proto::cluster as wire;
use headwater_proto::cluster::cluster_server;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::Cluster;
use super::writes::receive;
use crate::event::ClusterVersion;
use crate::transport::caller::{check_proven, proven};
use crate::transport::{Member, NodeId};

/// Answers other nodes on behalf of this one.
pub(crate) struct ClusterService {
    cluster: Cluster,
    /// Ends the streams of peers; otherwise they would keep the listener open for as long as the
    /// peer lives.
    stop: CancellationToken,
}

impl ClusterService {
    /// A service for the node behind `cluster`; its streams end with `stop`.
    pub(crate) fn new(cluster: Cluster, stop: CancellationToken) -> Self {
        Self { cluster, stop }
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for ClusterService {
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        Ok(Response::new(self.cluster.parts.status.on_wire()))
    }

    async fn join(&self, request: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        let membership = &self.cluster.parts.membership;
        let founder = proven(&request).filter(|_| !request.get_ref().to_running_cluster);
        if let Some(founder) = founder {
            membership.check_listed(founder)?;
        }
        let request = request.into_inner();
        let version = ClusterVersion::reported(request.cluster_version);
        self.cluster.parts.versions.check_cluster(version).map_err(Status::failed_precondition)?;
        let cluster_id = Uuid::from_slice(&request.cluster_id)
            .map_err(|_| Status::invalid_argument("the cluster id is not 16 bytes long"))?;
        if request.to_running_cluster {
            membership.accept_joining(cluster_id)?;
        } else {
            membership.accept_founding(cluster_id, &request.configured_members, &request.restored_backup)?;
        }
        // Before the first entry arrives that an older program could not apply.
        self.cluster.parts.versions.promise_to_join(version).await?;
        Ok(Response::new(wire::JoinResponse { node_id: membership.node_id().0 }))
    }

    async fn rejoin(&self, request: Request<wire::RejoinRequest>) -> Result<Response<wire::RejoinResponse>, Status> {
        let newest = ClusterVersion::reported(request.get_ref().newest_cluster_version);
        let member = request.get_ref().member.clone().ok_or_else(|| Status::invalid_argument("no member given"))?;
        let node_id = NodeId(member.node_id);
        // No node may take the place of another server's disk.
        check_proven(&request, node_id.server())?;
        let addresses = Member::at(member.raft_address, member.http_address);
        let cluster_id = self.cluster.parts.replacement.replace(node_id, addresses, newest).await?;
        Ok(Response::new(wire::RejoinResponse { cluster_id: cluster_id.as_bytes().to_vec().into() }))
    }

    type ForwardStream = Pin<Box<dyn futures::Stream<Item = Result<wire::ForwardResponse, Status>> + Send>>;

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        self.cluster.parts.connector.check_caller(&request)?;
        let answers = receive::serve(self.cluster.parts.writes.clone(), request.into_inner(), self.stop.clone());
        Ok(Response::new(Box::pin(answers.map(Ok))))
    }

    async fn change_members(
        &self,
        request: Request<wire::ChangeMembersRequest>,
    ) -> Result<Response<wire::ChangeMembersResponse>, Status> {
        self.cluster.parts.connector.check_caller(&request)?;
        Ok(Response::new(self.cluster.parts.requests.serve(request.into_inner()).await))
    }

    async fn read_index(
        &self,
        request: Request<wire::ReadIndexRequest>,
    ) -> Result<Response<wire::ReadIndexResponse>, Status> {
        self.cluster.parts.connector.check_caller(&request)?;
        Ok(Response::new(wire::ReadIndexResponse { log_index: self.cluster.parts.barrier.own_read_index().await }))
    }

    async fn call_group(&self, request: Request<wire::GroupRequest>) -> Result<Response<wire::GroupResponse>, Status> {
        self.cluster.parts.connector.check_caller(&request)?;
        Ok(Response::new(self.cluster.answer_group_call(request.into_inner()).await))
    }

    type ConsumeStream = Pin<Box<dyn futures::Stream<Item = Result<wire::GroupResponse, Status>> + Send>>;

    async fn consume(&self, request: Request<wire::ConsumeRequest>) -> Result<Response<Self::ConsumeStream>, Status> {
        self.cluster.parts.connector.check_caller(&request)?;
        let answers = self.cluster.answer_consumer(request.into_inner()).await;
        let answers = answers.map(Ok).take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(answers)))
    }
}
