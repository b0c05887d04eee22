//! The nodes' logs contain no secret: no password, plain or encoded, no hash of a password, no
//! private key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Violation;

/// The name of the rule.
pub const RULE: &str = "secrets";

/// The signs of a secret, whatever its value: the hash of a password, a key in PEM.
const SIGNS: &[&str] = &["$argon2", "PRIVATE KEY-----"];

/// A password and its equivalents.
pub fn of_login(login: &str, password: &str) -> [String; 2] {
    [password.to_owned(), STANDARD.encode(format!("{login}:{password}"))]
}

/// The lines between begin and end of a key in PEM. A short last line would be found in any text.
pub fn of_key(pem: &str) -> Vec<String> {
    const SHORTEST: usize = 16;
    let body = pem.lines().filter(|line| !line.starts_with("-----") && line.len() >= SHORTEST);
    body.map(str::to_owned).collect()
}

/// Judges all lines of all logs, given as (file name, text).
pub fn check(logs: &[(String, String)], secrets: &[String]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, text) in logs {
        for line in text.lines() {
            let mut known = SIGNS.iter().copied().chain(secrets.iter().map(String::as_str));
            if let Some(secret) = known.find(|secret| line.contains(secret)) {
                violations.push(Violation::new(RULE, format!("{name} has '{secret}': {line}")));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_secret_is_found() {
        let key =
            "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEH\nAA==\n-----END PRIVATE KEY-----\n";
        let secrets = [of_login("ann", "correct-horse").to_vec(), of_key(key)].concat();
        assert_eq!(secrets.len(), 3);
        let count = |line: &str| {
            let logs = [("node-1.log".to_owned(), format!("INFO started\n{line}\nINFO stopped"))];
            check(&logs, &secrets).len()
        };
        assert_eq!(count("INFO login of ann from 127.0.0.1, Basic authentication"), 0);
        for leak in [
            "DEBUG login ann correct-horse",
            "TRACE authorization: Basic YW5uOmNvcnJlY3QtaG9yc2U=",
            r#"DEBUG {"hash":"$argon2id$v=19$m=19456"}"#,
            "DEBUG -----BEGIN EC PRIVATE KEY-----",
            "DEBUG key MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEH",
        ] {
            assert_eq!(count(leak), 1, "{leak}");
        }
    }
}
