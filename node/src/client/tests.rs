//! Requests to a small server that behaves as a test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    node: NodeFlags,
}

/// A client of this address. It repeats for a minute, if nothing else is said.
fn client(address: SocketAddr, more: &[&str]) -> Result<Client, ClientError> {
    let url = format!("--url=http://{address}");
    let mut line = vec!["headwater", &url, "--idle-timeout-s=5"];
    line.extend(more);
    Client::new(&Line::parse_from(line).node)
}

/// Serves one connection for each answer, in order, and returns the requests. An empty answer
/// breaks the connection.
fn serve(answers: Vec<&'static str>) -> (SocketAddr, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4_096];
            while !request.windows(4).any(|window| window == b"\r\n\r\n") {
                let count = connection.read(&mut piece).unwrap();
                assert!(count > 0, "the client has gone");
                request.extend_from_slice(&piece[..count]);
            }
            requests.push(String::from_utf8(request).unwrap());
            connection.write_all(answer.as_bytes()).unwrap();
        }
        requests
    });
    (address, server)
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";
const BUSY: &str = "HTTP/1.1 503 Not ready\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn a_read_is_repeated_until_it_is_answered() {
    let (address, server) = serve(vec!["", BUSY, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", OK]);
    let client = client(address, &[]).unwrap();
    let answer =
        run::<_, anyhow::Error>(async { Ok(client.send(&Call::get("/info").accept("application/json")).await?) });
    assert_eq!(answer.unwrap(), "done");
    let requests = server.join().unwrap();
    assert!(
        requests
            .iter()
            .all(|request| request.starts_with("GET /info ") && request.contains("accept: application/json"))
    );
}

#[test]
fn a_write_is_repeated_only_while_it_was_certainly_not_made() {
    let (address, server) = serve(vec![BUSY, ""]);
    let client = client(address, &[]).unwrap();
    let call = Call::post("/admin/x", Repeat::IfNotDone);
    let error = run::<_, anyhow::Error>(async { Ok(client.send(&call).await?) }).unwrap_err().to_string();
    assert!(error.contains("did not answer POST /admin/x to the end"), "{error}");
    assert_eq!(server.join().unwrap().len(), 2);
}

#[test]
fn a_refusal_carries_the_words_of_the_node_and_what_to_do() {
    let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let (address, server) = serve(vec![refusal, "HTTP/1.1 400 Bad filter\r\nContent-Length: 0\r\n\r\n"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let client = client(address, &["--user=ann", &format!("--password-file={}", file.display())]).unwrap();
    assert!(!format!("{client:?}").contains("secret"));
    let said = run::<_, anyhow::Error>(async {
        let first = client.send(&Call::get("/x")).await.unwrap_err();
        Ok([first.to_string(), client.send(&Call::get("/y")).await.unwrap_err().to_string()])
    });
    let [unauthorized, other] = said.unwrap();
    assert!(unauthorized.contains("401") && unauthorized.contains("--user"), "{unauthorized}");
    assert!(other.ends_with("with 400 Bad filter"), "{other}");
    // ann:secret
    assert!(server.join().unwrap()[0].contains("authorization: Basic YW5uOnNlY3JldA=="));
}

#[test]
fn an_address_where_nobody_listens_and_a_file_that_is_no_ca_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let nobody = client(address, &["--retry-s=0"]).unwrap();
    let error = run::<_, anyhow::Error>(async { Ok(nobody.send(&Call::get("/")).await?) }).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot connect to http://{address}: Connection refused")), "{error}");
    let error = client(address, &["--ca-file=/dev/null"]).unwrap_err().to_string();
    assert!(error.starts_with("--ca-file /dev/null cannot be used: it holds no certificate"), "{error}");
    let error = client(address, &["--user=ann", "--password-file=/nowhere"]).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere cannot be read"), "{error}");
}
