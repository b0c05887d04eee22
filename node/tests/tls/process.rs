//! What an operator sees: the binary, its files, its signals and its log.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::client::{Connection, Version, connect};
use super::cluster::Places;
use super::secrets;

const BINARY: &str = env!("CARGO_BIN_EXE_headwater");

/// How long a node may take to say something, on a machine that builds something else meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running node; killed when dropped.
struct Process {
    child: Child,
    log: mpsc::Receiver<String>,
    /// All of it, for a look at the end.
    kept: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(arguments: &[String]) -> Self {
        let mut child = Command::new(BINARY).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = mpsc::channel();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let reader = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                eprintln!("node: {line}");
                keep.lock().unwrap().push(line.clone());
                let _ = lines.send(line);
            }
        });
        Self { child, log, kept }
    }

    /// The log so far holds no line of the keys below this directory.
    fn told_no_key(&self, certs: &Path) {
        let keys = secrets::of_keys_below(certs);
        assert!(keys.len() >= 2, "there are no keys");
        assert_eq!(secrets::found(self.kept.lock().unwrap().iter().map(String::as_str), &keys), None);
    }

    fn hang_up(&self) {
        let status = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// The next log line with these words.
    fn wait_for(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("no log line with {words:?}"));
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new(BINARY).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn node_arguments(places: &Places, certs: &Path, data: &Path) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("{flag}={}", certs.join(name).display());
    vec![
        format!("--members={}", places.members()),
        format!("--data-dir={}", data.display()),
        file("--tls-cert-file", "server-1.crt"),
        file("--tls-key-file", "server-1.key"),
        file("--tls-ca-file", "ca.crt"),
    ]
}

async fn connected(address: &str, ca_pem: &str) -> Connection {
    let started = Instant::now();
    loop {
        match connect(address, ca_pem, Version::Http1).await {
            Ok(connection) => return connection,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // polling interval
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_are_taken_on_sighup_and_bad_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let places = Places::new(1);
    let dir = format!("--dir={}", certs.display());
    let said = run(&["certs", "create", &format!("--members={}", places.members()), &dir, "--days=20"]);
    assert!(said.contains("--tls-ca-file"), "{said}");
    let ca_pem = std::fs::read_to_string(certs.join("ca.crt")).unwrap();
    let mut arguments = node_arguments(&places, &certs, &directory.path().join("data"));
    arguments.push("--log-filter=debug,headwater=trace,openraft=error".to_owned());
    let node = Process::start(&arguments);
    node.wait_for(&["WARN", "server-1.crt", "expires soon"]);
    node.wait_for(&["recovered"]);

    let mut kept = connected(&places.http[0], &ca_pem).await;
    let before = kept.certificate.clone();
    assert_eq!(kept.append("s").await.unwrap().status, 201);

    run(&["certs", "renew", "--server-id=1", &dir]);
    node.hang_up();
    node.wait_for(&["loaded the certificates again", "server-1.crt"]);
    assert_ne!(connected(&places.http[0], &ca_pem).await.certificate, before);
    assert_eq!(kept.append("s").await.expect("the connection was dropped").status, 201);

    let renewed = connected(&places.http[0], &ca_pem).await.certificate;
    std::fs::write(certs.join("server-1.crt"), "nonsense").unwrap();
    node.hang_up();
    let line = node.wait_for(&["ERROR", "are kept"]);
    assert!(line.contains("server-1.crt") && line.contains("not valid PEM"), "{line}");
    assert_eq!(connected(&places.http[0], &ca_pem).await.certificate, renewed);
    assert_eq!(kept.append("s").await.expect("the connection was dropped").status, 201);
    node.told_no_key(&certs);
}

#[test]
fn a_node_does_not_start_with_files_it_cannot_use_and_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    let places = Places::new(1);
    run(&["certs", "create", &format!("--members={}", places.members()), &format!("--dir={}", certs.display())]);
    std::fs::remove_file(certs.join("server-1.key")).unwrap();
    let arguments = node_arguments(&places, &certs, &directory.path().join("data"));
    let output = Command::new(BINARY).args(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("server-1.key cannot be used as private key: it cannot be read: No such file"), "{said}");
    assert_eq!(said.matches("cannot be used as private key").count(), 1, "told once: {said}");
    // Who wants to see no errors in the log still learns why there is no node.
    let output = Command::new(BINARY).args(&arguments).arg("--log-filter=off").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("headwater: ") && said.lines().count() == 1, "{said}");
    assert!(said.contains("cannot be used as private key"), "{said}");
    assert!(!directory.path().join("data").exists(), "nothing was touched");
}

#[test]
fn sighup_without_tls_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let places = Places::new(1);
    let data = format!("--data-dir={}", directory.path().display());
    let mut node = Process::start(&[format!("--members={}", places.members()), data]);
    node.wait_for(&["recovered"]);
    node.hang_up();
    node.wait_for(&["SIGHUP"]);
    assert!(node.child.try_wait().unwrap().is_none(), "the node ended");
}
