//! A client reads its own writes, on the same node and on others.

use headwater_cluster_tests::client::ATOM_JSON;
use headwater_cluster_tests::cluster::{Cluster, Options};
use headwater_cluster_tests::history::{Answer, SentEvent};
use headwater_cluster_tests::serial;
use headwater_cluster_tests::workload::{Rate, Workload};

use crate::PROGRESS_LIMIT;

/// Enough for a stale read to show itself under load: each round has three chances.
const ROUNDS: u64 = 60;

#[tokio::test]
async fn a_client_reads_its_own_writes_as_promised() -> anyhow::Result<()> {
    let _turn = serial::my_turn()?;
    let mut cluster = Cluster::started(3, Options::default()).await?;
    let workload = Workload::start(&cluster, Rate::default())?;
    workload.progress(50, PROGRESS_LIMIT).await?;
    let leader = cluster.leader().await?;
    let followers: Vec<u16> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let (through, other) = (cluster.base(followers[0]), cluster.base(followers[1]));
    let leader_base = cluster.base(leader);
    let client = cluster.client();

    for number in 0..ROUNDS {
        let id = uuid::Uuid::new_v4().to_string();
        let event = SentEvent { id: id.clone(), event_type: "own".to_owned(), stored_data: "{}".to_owned() };
        let answer = client.append(&through, "mine", -2, &[event]).await;
        let Answer::Acknowledged { first_number, position } = answer else { anyhow::bail!("{answer:?}") };
        assert_eq!(first_number, number);
        let path = format!("/streams/mine/{number}?embed=body");

        // The node that was written through has it at once.
        assert_event(client.get_feed(&format!("{through}{path}"), &[]).await?, &id);
        // Any other node has it when asked for the position.
        let position = position.to_string();
        assert_event(client.get_feed(&format!("{other}{path}"), &[("ES-MinPosition", &position)]).await?, &id);
        // A linearizable read needs no position; all spellings of the header count.
        let header = ["ES-RequireMaster", "ES-RequiresMaster", "ES-RequireLeader"][usize::try_from(number % 3)?];
        assert_event(client.get_feed(&format!("{leader_base}{path}"), &[(header, "true")]).await?, &id);
    }

    // A follower redirects requests for the leader, with the same path and query.
    let path = "/streams/mine/0?embed=body";
    let answer =
        client.get(&format!("{through}{path}"), &[("Accept", ATOM_JSON), ("ES-RequireMaster", "true")]).await?;
    assert_eq!(answer.status().as_u16(), 307);
    let location = answer.headers().get("location").and_then(|location| location.to_str().ok());
    assert_eq!(location, Some(format!("{leader_base}{path}").as_str()));

    // A position that does not exist yet is waited for, but not for ever.
    let answer =
        client.get(&format!("{other}{path}"), &[("Accept", ATOM_JSON), ("ES-MinPosition", "999999999999")]).await?;
    assert_eq!(answer.status().as_u16(), 503);
    assert!(answer.headers().contains_key("retry-after"));

    workload.stop().await?;
    cluster.passed()?;
    Ok(())
}

fn assert_event(entry: serde_json::Value, id: &str) {
    assert_eq!(entry.get("eventId").and_then(serde_json::Value::as_str), Some(id), "{entry}");
}
