//! Composition root: open stores, start raft, start listeners, ordered shutdown.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cluster::identity::Identity;
use crate::cluster::{Cluster, Parts};
use crate::config::Config;
use crate::metrics::Metrics;

/// How long an ordered shutdown waits for another leader.
const HAND_OVER_DEADLINE: Duration = Duration::from_secs(2);
