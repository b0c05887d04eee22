//! The options of `headwater health`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use reqwest::Url;

use super::client::parse_node_url;
use super::{ClientFlags, NodeFlags, Patience};

/// Options of `headwater health`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HealthFlags {
    /// The node to ask
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2113", value_parser = parse_node_url)]
    pub url: Url,
    /// What to ask it
    #[arg(long, value_enum, value_name = "QUESTION", default_value_t = Question::Ready)]
    pub is: Question,
    /// Certificates of the CA that the node's certificate must come from, PEM [default: those of
    /// this machine]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Seconds until a node that says nothing counts as unwell
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout_s: u64,
}

/// What a node can be asked about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Question {
    /// Whether the process runs and answers
    Live,
    /// Whether it knows a leader and has caught up
    Ready,
    /// Whether it leads
    Leader,
}

impl HealthFlags {
    /// Path of the request.
    pub fn path(&self) -> &'static str {
        match self.is {
            Question::Live => "/health/live",
            Question::Ready => "/health/ready",
            Question::Leader => "/health/leader",
        }
    }

    /// The node, asked once and by nobody in particular.
    pub fn node(&self) -> NodeFlags {
        let patience = Patience { connect_timeout_s: self.timeout_s, idle_timeout_s: self.timeout_s, retry_s: 0 };
        let client = ClientFlags { user: None, password_file: None, ca_file: self.ca_file.clone(), patience };
        NodeFlags { url: self.url.clone(), client }
    }
}
