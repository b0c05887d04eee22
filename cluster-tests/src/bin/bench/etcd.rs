//! Three etcd members on loopback, from the Debian package `etcd-server`, driven through the
//! leader's JSON gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::Method;
use serde_json::Value;

use headwater_cluster_tests::client::Client;
use headwater_cluster_tests::ports::ReservedPort;
use headwater_cluster_tests::process::ServerProcess;
use headwater_cluster_tests::wait;

const MEMBERS: usize = 3;

/// A running etcd cluster with empty stores.
#[derive(Debug)]
pub(crate) struct Etcd {
    members: Vec<Member>,
    _directory: tempfile::TempDir,
}

#[derive(Debug)]
struct Member {
    process: ServerProcess,
    client: ReservedPort,
    _peer: ReservedPort,
}

impl Etcd {
    /// Starts the members with etcd's defaults and waits until each knows the leader.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-etcd-").tempdir().context("no temporary directory")?;
        let mut ports = Vec::new();
        for _ in 0..MEMBERS {
            ports.push((ReservedPort::any()?, ReservedPort::any()?));
        }
        let list: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(index, (_, peer))| format!("m{index}=http://127.0.0.1:{}", peer.number()))
            .collect();
        let list = list.join(",");
        let mut members = Vec::new();
        for (index, (client, peer)) in ports.into_iter().enumerate() {
            let client_url = format!("http://127.0.0.1:{}", client.number());
            let peer_url = format!("http://127.0.0.1:{}", peer.number());
            let data = directory.path().join(format!("m{index}"));
            let data = data.display().to_string();
            let name = format!("m{index}");
            let arguments = [
                ("--name", name.as_str()),
                ("--data-dir", data.as_str()),
                ("--listen-client-urls", client_url.as_str()),
                ("--advertise-client-urls", client_url.as_str()),
                ("--listen-peer-urls", peer_url.as_str()),
                ("--initial-advertise-peer-urls", peer_url.as_str()),
                ("--initial-cluster", list.as_str()),
                ("--initial-cluster-state", "new"),
                ("--log-level", "error"),
            ];
            let arguments: Vec<String> =
                arguments.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect();
            let log = directory.path().join(format!("m{index}.log"));
            let process = ServerProcess::spawn(Path::new("etcd"), &arguments, &log)
                .context("etcd is needed for comparison: apt-get install etcd-server")?;
            members.push(Member { process, client, _peer: peer });
        }
        let etcd = Self { members, _directory: directory };
        wait::until("etcd has a leader", Duration::from_secs(30), || etcd.leader()).await?;
        Ok(etcd)
    }

    /// Client address of the leader.
    pub(crate) async fn leader(&self) -> anyhow::Result<SocketAddr> {
        let client = Client::new()?;
        for member in &self.members {
            let address = SocketAddr::from(([127, 0, 0, 1], member.client.number()));
            let path = format!("http://{address}/v3/maintenance/status");
            let answer =
                client.request(Method::POST, &path, &[], b"{}".to_vec()).await.context("etcd does not answer")?;
            let status: Value = answer.json().await.context("etcd's status is not JSON")?;
            let leader = status.get("leader").and_then(Value::as_str).context("no leader yet")?;
            if status.pointer("/header/member_id").and_then(Value::as_str) == Some(leader) {
                return Ok(address);
            }
        }
        anyhow::bail!("no member leads")
    }

    /// All processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.pid()).collect()
    }
}
