//! One connection from one node to another, carried by the rules of both ways.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::pace::Pace;
use super::rule::{self, Link, Rules};
use super::table::Table;

/// The most that is read at once.
const PIECE_BYTES: usize = 16 << 10;

/// Pieces on the way in one direction: 1 MiB. What does not fit stays with its sender.
const PIECES_ON_THE_WAY: usize = 64;

/// What is kept of a connection to be sent once more.
const BEGINNING_BYTES: usize = 256 << 10;

/// A connection that a node has opened to the door of another.
pub(super) struct Connection {
    /// From the node that has opened it.
    link: Link,
    client: TcpStream,
    /// Where the other node listens.
    target: SocketAddr,
    table: Arc<Table>,
}

/// How a connection ends.
enum End {
    /// Both sides have closed it.
    Closed,
    /// It broke, or is to be reset.
    Reset,
    /// Its opener is to believe that it lives.
    HalfOpen,
}

/// A piece of what was sent.
struct Piece {
    bytes: Bytes,
    due: Instant,
    is_late: bool,
}

impl Connection {
    pub(super) fn new(link: Link, client: TcpStream, target: SocketAddr, table: Arc<Table>) -> Self {
        Self { link, client, target, table }
    }

    pub(super) async fn run(self) {
        self.table.count(self.link, |seen| seen.connections += 1);
        let resets = resets_of(self.link, self.table.rule(self.link).resets);
        if self.is_cut() {
            self.table.wait_for(|rules| !is_cut(rules, self.link) || resets(rules)).await;
            return self.reset_client();
        }
        if self.table.rule(self.link).half_open {
            return self.swallow(resets).await;
        }
        let Ok(mut server) = TcpStream::connect(self.target).await else { return self.reset_client() };
        let (link, table) = (self.link, Arc::clone(&self.table));
        let mut connection = self;
        let end = tokio::select! {
            end = connection.carry(&mut server) => end,
            () = table.wait_for(&resets) => End::Reset,
            () = table.wait_for(|rules| rule::of(rules, link).half_open) => End::HalfOpen,
        };
        match end {
            End::Closed => {}
            End::Reset => {
                let _ = server.set_zero_linger();
                connection.reset_client();
            }
            End::HalfOpen => {
                let _ = server.set_zero_linger();
                drop(server);
                connection.swallow(resets).await;
            }
        }
    }

    fn is_cut(&self) -> bool {
        self.table.rule(self.link).cut || self.table.rule(self.link.back()).cut
    }

    /// Fails only where the other end has gone.
    fn reset_client(&self) {
        self.table.count(self.link, |seen| seen.resets += 1);
        let _ = self.client.set_zero_linger();
    }

    /// Carries both ways to their ends.
    async fn carry(&mut self, server: &mut TcpStream) -> End {
        let nodelay = self.client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        if nodelay.is_err() {
            return End::Reset;
        }
        let (client_reads, client_writes) = self.client.split();
        let (server_reads, server_writes) = server.split();
        let [there_seed, back_seed] = self.table.next_seeds();
        let mut beginning = BytesMut::new();
        let there = Way { link: self.link, table: &self.table, pace: Pace::new(there_seed) };
        let back = Way { link: self.link.back(), table: &self.table, pace: Pace::new(back_seed) };
        let (there, back) = tokio::join!(
            there.carry(client_reads, server_writes, Some(&mut beginning)),
            back.carry(server_reads, client_writes, None),
        );
        self.table.keep_beginning(self.link, beginning.freeze());
        if there.is_ok() && back.is_ok() { End::Closed } else { End::Reset }
    }

    /// Takes what the client sends and answers nothing, until it is to be reset or no longer
    /// half open.
    async fn swallow(mut self, resets: impl Fn(&Rules) -> bool) {
        let (link, table) = (self.link, Arc::clone(&self.table));
        let mut piece = vec![0; PIECE_BYTES];
        let over = table.wait_for(|rules| resets(rules) || !rule::of(rules, link).half_open);
        let take = async {
            while let Ok(bytes) = self.client.read(&mut piece).await
                && bytes > 0
            {
                table.count(link, |seen| seen.swallowed_bytes += bytes as u64);
            }
        };
        tokio::select! {
            () = over => {}
            () = take => {}
        }
        self.reset_client();
    }
}

fn is_cut(rules: &Rules, link: Link) -> bool {
    rule::of(rules, link).cut || rule::of(rules, link.back()).cut
}

/// Whether a link has been reset since it was `before` times.
fn resets_of(link: Link, before: u64) -> impl Fn(&Rules) -> bool {
    move |rules| rule::of(rules, link).resets != before
}

/// One direction of a connection.
struct Way<'a> {
    link: Link,
    table: &'a Table,
    pace: Pace,
}

impl Way<'_> {
    /// Carries bytes and their end. What was read before the sender broke off still arrives.
    async fn carry(
        mut self,
        mut from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
        mut beginning: Option<&mut BytesMut>,
    ) -> io::Result<()> {
        let (sender, pieces) = mpsc::channel(PIECES_ON_THE_WAY);
        let (link, table) = (self.link, self.table);
        let take = async move {
            loop {
                let mut bytes = BytesMut::with_capacity(PIECE_BYTES);
                if from.read_buf(&mut bytes).await? == 0 {
                    return Ok(());
                }
                if let Some(beginning) = &mut beginning {
                    let room = BEGINNING_BYTES.saturating_sub(beginning.len()).min(bytes.len());
                    beginning.extend_from_slice(&bytes[..room]);
                }
                let now = Instant::now();
                let due = self.pace.due(now, bytes.len(), &table.rule(link));
                let piece = Piece { bytes: bytes.freeze(), due, is_late: due > now };
                if sender.send(piece).await.is_err() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        };
        let (taken, given) = tokio::join!(take, give(link, table, to, pieces));
        taken.and(given)
    }
}

async fn give(
    link: Link,
    table: &Table,
    mut to: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
) -> io::Result<()> {
    while let Some(piece) = pieces.recv().await {
        tokio::time::sleep_until(piece.due).await;
        if table.rule(link).cut {
            table.count(link, |seen| seen.held += 1);
            table.wait_for(|rules| !rule::of(rules, link).cut).await;
        }
        to.write_all(&piece.bytes).await?;
        table.count(link, |seen| {
            seen.bytes += piece.bytes.len() as u64;
            seen.delayed += u64::from(piece.is_late);
        });
    }
    table.wait_for(|rules| !rule::of(rules, link).cut).await;
    to.shutdown().await
}
