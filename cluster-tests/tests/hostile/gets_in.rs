//! Strangers who want to read, write or become what they may not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use headwater_cluster_tests::client::{ADMIN, ATOM_JSON, basic};
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::serial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::door::{Door, Protocol};

/// A list that names no right to delete.
const LIST: &str = r#"{"$acl":{"$r":["boss"],"$w":["boss"],"$mr":["boss"],"$mw":["boss"]}}"#;

/// What nobody else may read.
const SECRET: &str = "the-secret";

/// Asks as a caller, anonymously without one, and returns the whole answer.
async fn ask(
    door: &Door,
    caller: Option<(&str, &str)>,
    method: &str,
    path: &str,
    content: Option<(&str, &str)>,
) -> anyhow::Result<(u16, String)> {
    let mut head = door.request_line(method, path);
    if let Some(caller) = caller {
        head.push_str(&format!("Authorization: {}\r\n", basic(caller)));
    }
    let body = match content {
        Some((content_type, body)) => {
            let (event_type, id) = (if path.ends_with("/metadata") { "$metadata" } else { "t" }, uuid::Uuid::new_v4());
            head.push_str(&format!(
                "Content-Type: {content_type}\r\nES-EventType: {event_type}\r\nES-EventId: {id}\r\n"
            ));
            body
        }
        None => {
            head.push_str(&format!("Accept: {ATOM_JSON}, application/json\r\n"));
            ""
        }
    };
    let answer = door.exchange(&head, body.as_bytes()).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    Ok((status, answer))
}

async fn write(door: &Door, caller: Option<(&str, &str)>, path: &str, body: &str) -> anyhow::Result<u16> {
    Ok(ask(door, caller, "POST", path, Some(("application/json", body))).await?.0)
}

fn user(login: &str, password: &str) -> String {
    format!(r#"{{"loginName":"{login}","fullName":"{login}","groups":[],"password":"{password}"}}"#)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_is_no_way_around_its_list() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    let secret = format!("{{\"text\":\"{SECRET}\"}}");
    anyhow::ensure!(write(&door, Some(ADMIN), "/streams/vault", &secret).await? == 201);
    anyhow::ensure!(write(&door, Some(ADMIN), "/streams/vault/metadata", LIST).await? == 201);
    let deleted = ask(&door, None, "DELETE", "/streams/vault", None).await?.0;
    anyhow::ensure!(deleted == 401, "a stranger deletes a stream: {deleted}");
    let deleted = ask(&door, Some(ADMIN), "DELETE", "/streams/vault", None).await?.0;
    anyhow::ensure!(deleted == 204, "an administrator deletes: {deleted}");
    for (path, body) in [("/streams/vault/metadata", "{\"$tb\":0}"), ("/streams/vault", "{}")] {
        let status = write(&door, None, path, body).await?;
        anyhow::ensure!(status == 401, "a stranger writes to {path}: {status}");
    }
    let restored = r#"{"$tb":0,"$acl":{"$r":["boss"],"$w":["boss"]}}"#;
    anyhow::ensure!(write(&door, Some(ADMIN), "/streams/vault/metadata", restored).await? == 201);
    let (status, answer) = ask(&door, None, "GET", "/streams/vault/0", None).await?;
    anyhow::ensure!(status == 401 && !answer.contains(SECRET), "a stranger reads: {status}");
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_who_create_a_user_at_once_one_does() -> anyhow::Result<()> {
    const AT_ONCE: usize = 6;
    const ROUNDS: usize = 5;
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    for round in 0..ROUNDS {
        let login = format!("user-{round}");
        let creations = (0..AT_ONCE).map(|creator| {
            let (door, body) = (&door, user(&login, &format!("password-{creator}")));
            async move { write(door, Some(ADMIN), "/users/", &body).await }
        });
        let statuses = futures::future::try_join_all(creations).await?;
        let created = statuses.iter().filter(|status| **status == 201).count();
        let refused = statuses.iter().filter(|status| **status == 409).count();
        anyhow::ensure!((created, refused) == (1, AT_ONCE - 1), "round {round}: {statuses:?}");
    }
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_link_closes_no_page_of_the_log() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    let reader = ("reader", "reader-password");
    anyhow::ensure!(write(&door, Some(ADMIN), "/users/", &user(reader.0, reader.1)).await? == 201);
    let open = r#"{"$acl":{"$r":["reader","$admins"]}}"#;
    anyhow::ensure!(write(&door, Some(ADMIN), "/streams/$all/metadata", open).await? == 201);
    let id = uuid::Uuid::new_v4();
    let head = format!(
        "{}Content-Type: application/octet-stream\r\nES-EventType: $>\r\nES-EventId: {id}\r\n",
        door.request_line("POST", "/streams/anybodys")
    );
    let linked = door.exchange(&head, b"0@$settings").await?;
    anyhow::ensure!(linked.starts_with("HTTP/1.1 201 "), "{linked}");
    let (status, page) = ask(&door, Some(reader), "GET", "/streams/$all", None).await?;
    anyhow::ensure!(status == 200, "who may read the log is told {status}");
    anyhow::ensure!(page.contains("0@anybodys") || page.contains("anybodys"), "the link itself is not shown");
    cluster.passed()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_under_way_ends_with_the_right_to_read_it() -> anyhow::Result<()> {
    const EVENTS: usize = 10;
    const EVENT_BYTES: usize = 4 << 20;
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    let data = vec![b'x'; EVENT_BYTES - 1024];
    for _ in 0..EVENTS {
        let (line, id) = (door.request_line("POST", "/streams/large"), uuid::Uuid::new_v4());
        let head = format!("{line}Content-Type: application/octet-stream\r\nES-EventType: t\r\nES-EventId: {id}\r\n");
        door.exchange(&head, &data).await?;
    }
    let mut connection = door.connect(Protocol::Http1).await?;
    let line = door.request_line("GET", "/streams/large?embed=tryharder");
    connection.write_all(format!("{line}Accept: {ATOM_JSON}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    connection.read_exact(&mut vec![0; 64 << 10]).await?;
    anyhow::ensure!(write(&door, Some(ADMIN), "/streams/large/metadata", LIST).await? == 201);
    let mut rest = Vec::new();
    let _ = connection.read_to_end(&mut rest).await;
    let all = EVENTS * data.len();
    anyhow::ensure!(rest.len() < all / 2, "{} bytes of {all} came after the list was closed", rest.len());
    cluster.passed()?;
    Ok(())
}

/// Every path below `directory` that somebody but its owner may use.
fn open_to_others(directory: &Path, found: &mut Vec<String>) -> anyhow::Result<()> {
    let metadata = std::fs::symlink_metadata(directory)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        found.push(format!("{} {:o}", directory.display(), metadata.permissions().mode() & 0o777));
    }
    if metadata.is_dir() {
        for entry in std::fs::read_dir(directory)? {
            open_to_others(&entry?.path(), found)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_users_of_the_machine_read_nothing_of_the_data() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(1, Options::default()).await?;
    let door = Door::of(&cluster, 1)?;
    anyhow::ensure!(write(&door, None, "/streams/a", "{}").await? == 201);
    let mut found = Vec::new();
    open_to_others(cluster.data_dir(1), &mut found)?;
    anyhow::ensure!(found.is_empty(), "{found:?}");
    cluster.passed()?;
    Ok(())
}
