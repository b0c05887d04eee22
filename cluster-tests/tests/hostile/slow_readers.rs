//! Readers that are slow but steady get all of an answer; those that read nothing are cut off.

use std::io::Write as _;
use std::time::{Duration, Instant};

use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::serial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Form;
use crate::door::{Door, Protocol};

/// Six times as long when it is read: control characters.
const EVENT_BYTES: usize = (4 << 20) - 1024;

/// Least length of the answer.
const ANSWER_BYTES: usize = 6 * EVENT_BYTES;

/// Between two reads.
const PAUSE: Duration = Duration::from_millis(250);

/// A reader that takes nothing is gone by then: 30 s, and how often the node looks.
const STALL_LIMIT: Duration = Duration::from_secs(45);

/// What one read takes: in the long form as little as was cut off once, in the short form so much
/// that the answer takes a minute, twice the time after which a reader without progress is cut off.
fn read_bytes(form: Form) -> usize {
    match form {
        Form::Short => 100 << 10,
        Form::Long => 10 << 10,
    }
}

async fn with_large_event() -> anyhow::Result<(Cluster, Door)> {
    let cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    let (line, id) = (door.request_line("POST", "/streams/large"), uuid::Uuid::new_v4());
    let head = format!("{line}Content-Type: application/octet-stream\r\nES-EventType: t\r\nES-EventId: {id}\r\n");
    let answer = door.exchange(&head, &vec![1; EVENT_BYTES]).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 201 "), "{}", answer.lines().next().unwrap_or_default());
    Ok((cluster, door))
}

fn request(door: &Door) -> String {
    let line = door.request_line("GET", "/streams/large/0?embed=tryharder");
    format!("{line}Accept: application/vnd.eventstore.atom+json\r\nConnection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_but_steady_reader_gets_all_of_a_large_answer() -> anyhow::Result<()> {
    if Form::of_this_run() == Form::Short && std::env::var_os("HOSTILE_ONLY").is_none() {
        // It takes minutes. Not by `eprintln!`, whose lines are not shown when a test passes.
        writeln!(std::io::stderr(), "LEFT OUT of the short form: slow but steady readers")?;
        return Ok(());
    }
    let _turn = serial::my_turn()?;
    let (mut cluster, door) = with_large_event().await?;
    let mut connection = tokio::net::TcpStream::connect(door.address).await?;
    connection.write_all(request(&door).as_bytes()).await?;
    let mut piece = vec![0; read_bytes(Form::of_this_run())];
    let mut received = 0;
    loop {
        let read = tokio::time::timeout(STALL_LIMIT, connection.read(&mut piece)).await??;
        if read == 0 {
            break;
        }
        received += read;
        tokio::time::sleep(PAUSE).await; // the pace of the reader
    }
    anyhow::ensure!(received >= ANSWER_BYTES, "{received} bytes came");
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_reads_nothing_is_cut_off() -> anyhow::Result<()> {
    if Form::of_this_run() == Form::Short {
        return Ok(());
    }
    let _turn = serial::my_turn()?;
    let (mut cluster, door) = with_large_event().await?;
    let mut connection = door.connect(Protocol::Http1).await?;
    connection.write_all(request(&door).as_bytes()).await?;
    let pid = cluster.pid(1)?;
    let started = Instant::now();
    // Seen from outside: a socket of the node is gone. Its databases open and close files
    // meanwhile.
    let is_socket = |link: &std::path::PathBuf| link.to_string_lossy().starts_with("socket:");
    let sockets = || {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        let links = open.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        anyhow::Ok(links.filter(is_socket).count())
    };
    tokio::time::sleep(Duration::from_secs(2)).await; // the answer is under way
    let before = sockets()?;
    while sockets()? >= before {
        anyhow::ensure!(started.elapsed() < STALL_LIMIT, "it was not cut off");
        tokio::time::sleep(PAUSE).await; // polling interval
    }
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest).await;
    anyhow::ensure!(rest.len() < ANSWER_BYTES, "all of it came");
    cluster.passed()?;
    Ok(())
}
