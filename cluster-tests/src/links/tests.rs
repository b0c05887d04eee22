use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::wait;

const LIMIT: Duration = Duration::from_secs(10);

/// Long enough to see that nothing comes.
const QUIET: Duration = Duration::from_millis(200);

const THERE: Link = Link { from: 1, to: 2 };

/// Node 1 is this process; node 2 sends everything back and remembers what it was sent.
struct Pair {
    links: Links,
    door: u16,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Pair {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let links = Links::new(7).unwrap();
        links.add(1, 1).unwrap();
        links.open(1, std::process::id()).unwrap();
        let door = links.add(2, listener.local_addr().unwrap().port()).unwrap();
        // No process has this id.
        links.open(2, u32::MAX).unwrap();
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let all = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let place = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                tokio::spawn(echo(stream, place, Arc::clone(&all)));
            }
        });
        Self { links, door, heard }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.door)).await.unwrap()
    }

    async fn heard(&self, place: usize, expected: &[u8]) {
        wait::until("node 2 hears it", LIMIT, || async {
            let heard = self.heard.lock().unwrap();
            anyhow::ensure!(heard.get(place).is_some_and(|heard| heard == expected), "{heard:?}");
            Ok(())
        })
        .await
        .unwrap();
    }
}

async fn echo(mut stream: TcpStream, place: usize, heard: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut piece = [0; 1024];
    while let Ok(bytes) = stream.read(&mut piece).await {
        if bytes == 0 {
            return;
        }
        heard.lock().unwrap()[place].extend_from_slice(&piece[..bytes]);
        if stream.write_all(&piece[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn answer(stream: &mut TcpStream) -> std::io::Result<u8> {
    timeout(LIMIT, stream.read_u8()).await.expect("an answer in time")
}

async fn is_quiet(stream: &mut TcpStream) -> bool {
    timeout(QUIET, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn bytes_go_both_ways_and_are_counted_by_link() {
    let pair = Pair::new().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"abc").await.unwrap();
    for expected in *b"abc" {
        assert_eq!(answer(&mut stream).await.unwrap(), expected);
    }
    assert_eq!(pair.links.seen(THERE).bytes, 3);
    assert_eq!(pair.links.seen(THERE).connections, 1);
    assert_eq!(pair.links.seen(THERE.back()).connections, 0);
    drop(stream);
}

#[tokio::test]
async fn a_link_that_is_cut_one_way_delivers_late_and_the_other_way_goes_on() {
    let pair = Pair::new().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    answer(&mut stream).await.unwrap();

    pair.links.cut(&[THERE.back()]);
    stream.write_all(b"b").await.unwrap();
    pair.heard(0, b"ab").await;
    assert!(is_quiet(&mut stream).await, "the answer came through");
    pair.links.cut(&[THERE]);
    stream.write_all(b"c").await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::sleep(QUIET).await;
    pair.heard(0, b"ab").await;

    pair.links.heal();
    pair.heard(0, b"abc").await;
    assert_eq!(answer(&mut stream).await.unwrap(), b'b');
    assert_eq!(answer(&mut stream).await.unwrap(), b'c');
    assert!(pair.links.seen(THERE).held > 0 && pair.links.seen(THERE.back()).held > 0);
}

#[tokio::test]
async fn what_a_dead_sender_has_sent_arrives_late() {
    let pair = Pair::new().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    answer(&mut stream).await.unwrap();
    pair.links.cut(&[THERE]);
    stream.write_all(b"b").await.unwrap();
    wait::until("the piece waits", LIMIT, || async {
        anyhow::ensure!(pair.links.seen(THERE).held == 1, "{:?}", pair.links.seen(THERE));
        Ok(())
    })
    .await
    .unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    pair.links.heal();
    pair.heard(0, b"ab").await;
}

#[tokio::test]
async fn a_connection_opened_over_a_cut_link_leads_nowhere_and_is_reset_when_it_heals() {
    let pair = Pair::new().await;
    pair.links.cut(&partition::split(&[1], &[2]));
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    assert!(is_quiet(&mut stream).await);
    assert!(pair.heard.lock().unwrap().is_empty(), "node 2 has a connection");
    pair.links.heal();
    assert!(answer(&mut stream).await.is_err());
}

#[tokio::test]
async fn a_half_open_connection_takes_everything_and_answers_nothing() {
    let pair = Pair::new().await;
    let mut old = pair.connect().await;
    old.write_all(b"a").await.unwrap();
    answer(&mut old).await.unwrap();
    pair.links.change(THERE, |rule| rule.half_open = true);
    let mut new = pair.connect().await;
    for stream in [&mut old, &mut new] {
        stream.write_all(b"b").await.unwrap();
        assert!(is_quiet(stream).await);
    }
    wait::until("both are swallowed", LIMIT, || async {
        let seen = pair.links.seen(THERE).swallowed_bytes;
        anyhow::ensure!(seen >= 1, "{seen}");
        Ok(())
    })
    .await
    .unwrap();
    pair.heard(0, b"a").await;
    pair.links.heal();
    assert!(answer(&mut old).await.is_err() && answer(&mut new).await.is_err());
}

#[tokio::test]
async fn a_reset_breaks_connections_and_new_ones_come_through() {
    let pair = Pair::new().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    answer(&mut stream).await.unwrap();
    pair.links.reset(1, 2);
    let error = answer(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(pair.links.seen(THERE).resets, 1);
    let mut stream = pair.connect().await;
    stream.write_all(b"b").await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap(), b'b');
}

#[tokio::test]
async fn a_delayed_link_is_late_by_no_less() {
    let pair = Pair::new().await;
    let least = Duration::from_millis(100);
    pair.links.change(THERE, |rule| rule.delay = Delay { least, jitter: Duration::from_millis(20) });
    let mut stream = pair.connect().await;
    let started = Instant::now();
    stream.write_all(b"a").await.unwrap();
    answer(&mut stream).await.unwrap();
    assert!(started.elapsed() >= least, "{:?}", started.elapsed());
    assert_eq!(pair.links.seen(THERE).delayed, 1);
}

#[tokio::test]
async fn what_does_not_fit_stays_with_its_sender() {
    let pair = Pair::new().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    answer(&mut stream).await.unwrap();
    pair.links.cut(&[THERE]);
    // Far more than the proxy and the sockets of both sides take.
    let much = vec![b'x'; 64 << 20];
    assert!(timeout(Duration::from_secs(2), stream.write_all(&much)).await.is_err(), "the proxy took all of it");
}

#[tokio::test]
async fn the_bytes_of_an_ended_connection_are_sent_once_more() {
    let pair = Pair::new().await;
    assert_eq!(pair.links.replay(THERE).await.unwrap(), None);
    let mut stream = pair.connect().await;
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answers = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut answers)).await.unwrap().unwrap();
    wait::until("the connection has ended", LIMIT, || async {
        match pair.links.table.beginning_of_last(THERE) {
            Some(_) => Ok(()),
            None => anyhow::bail!("not yet"),
        }
    })
    .await
    .unwrap();
    assert_eq!(pair.links.replay(THERE).await.unwrap(), Some(3));
    pair.heard(1, b"abc").await;
    assert_eq!(pair.links.seen(THERE).replayed_bytes, 3);
}

#[tokio::test]
async fn the_door_of_an_ended_process_is_closed() {
    let pair = Pair::new().await;
    pair.links.close(2);
    let refused = TcpStream::connect(("127.0.0.1", pair.door)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    pair.links.open(2, u32::MAX).unwrap();
    let mut stream = pair.connect().await;
    stream.write_all(b"a").await.unwrap();
    assert_eq!(answer(&mut stream).await.unwrap(), b'a');
}
