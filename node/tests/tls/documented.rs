//! Runs the `sh` blocks of docs/security.md in their order as one shell script. The page indents
//! commands that are not to be run.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use super::support::secrets;

/// All ```sh blocks of a page.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = !inside && line == "```sh";
            if inside {
                blocks.push(String::new());
            }
        } else if let Some(block) = blocks.last_mut().filter(|_| inside) {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

/// Every `127.0.0.1:PORT` replaced by a free port of its own.
fn on_free_ports(script: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut found: BTreeMap<String, TcpListener> = BTreeMap::new();
    let mut parts = script.split(HOST);
    let mut moved = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let port: String = part.chars().take_while(char::is_ascii_digit).collect();
        let free = found.entry(port.clone()).or_insert_with(|| TcpListener::bind("127.0.0.1:0").unwrap());
        moved.push_str(&format!("{HOST}{}{}", free.local_addr().unwrap().port(), &part[port.len()..]));
    }
    moved
}

#[test]
fn the_commands_of_the_security_page_do_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    let blocks = blocks(&page);
    let directory = tempfile::tempdir().unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_headwater"));
    let mut script = String::from(
        r#"
set -euo pipefail
trap 'cat node-*.log; for file in node-*.pid; do kill -9 $(cat $file) 2>/dev/null || true; done; wait' EXIT
loaded() { for id in 1 2 3; do until [ $(grep -c 'certificates again.*server-' node-$id.log) -ge $1 ]; do sleep 0.1; done; done; }
"#,
    );
    // The page leaves it to the reader to see in the logs that a round has ended.
    let mut reloads = 0;
    for block in &blocks {
        script.push_str(block);
        if block.contains("kill -HUP") {
            reloads += 1;
            script.push_str(&format!("loaded {reloads}\n"));
        }
        if block.contains("cat ca-old.crt") {
            // The first round: nodes and clients trust both CAs.
            script.push_str(
                "for ca in ca-old.crt certs/ca.crt; do curl -sf --cacert $ca https://127.0.0.1:2111/ping; done\n",
            );
        }
    }
    assert_eq!(reloads, 4, "one renewal and three rounds");
    script.push_str(
        r#"
curl -s --cacert ca-old.crt https://127.0.0.1:2111/ping && exit 1
curl -sf --cacert certs-new/ca.crt https://127.0.0.1:2113/streams/orders/0 -H 'Accept: application/json'
until curl -sf --cacert certs-new/ca.crt https://127.0.0.1:2113/health/ready; do sleep 0.1; done
echo the end
"#,
    );
    let script = on_free_ports(&script);
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("timeout")
        .args(["-s", "INT", "120", "bash", "-c", &script])
        .env("PATH", path)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let (said, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("the end"), "{said}\n{log}");
    let keys = secrets::of_keys_below(directory.path());
    assert!(keys.len() >= 8, "not even a line of the key of each CA and server: {}", keys.len());
    assert_eq!(secrets::found(said.lines().chain(log.lines()), &keys), None);
    assert!(said.contains("listening"), "the logs are not among what was said");
    for expected in ["HTTP/2 201", "\"summary\": \"placed\"", "\"total\": 12"] {
        assert!(said.contains(expected), "'{expected}' is not in\n{said}");
    }
}
