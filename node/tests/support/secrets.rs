//! What no line of a node's log may hold.

use std::path::Path;

/// The signs of a secret, whatever its value: the hash of a password, a key in PEM.
const SIGNS: &[&str] = &["$argon2", "PRIVATE KEY-----"];

/// A shorter line of a key would be found in any text.
const SHORTEST: usize = 16;

/// The first line with one of the `secrets`, or with the sign of any secret.
pub(crate) fn found<'a>(log: impl IntoIterator<Item = &'a str>, secrets: &[String]) -> Option<&'a str> {
    let holds = |line: &&str| {
        SIGNS.iter().any(|sign| line.contains(sign)) || secrets.iter().any(|secret| line.contains(secret.as_str()))
    };
    log.into_iter().find(holds)
}

/// Lines of the private keys below a directory.
pub(crate) fn of_keys_below(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines.append(&mut of_keys_below(&path));
        } else if path.file_name().is_some_and(|name| name.to_string_lossy().contains(".key")) {
            let pem = std::fs::read_to_string(&path).unwrap();
            let of_key = pem.lines().filter(|line| !line.starts_with('-') && line.len() >= SHORTEST);
            lines.extend(of_key.map(str::to_owned));
        }
    }
    lines
}
