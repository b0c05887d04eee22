//! `headwater certs`: what it writes, and what it leaves unchanged.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::files::{self, Purpose};
use super::{Certificates, run_certs};
use crate::config::{self, Invocation, TlsFiles};

const MEMBERS: &str = "--members=1=10.0.0.1:1/node1:2,2=[::1]:3/node2:4";

/// Runs `headwater certs` with these options.
fn certs(options: &[&str]) -> Result<String, String> {
    let arguments = ["headwater", "certs"].iter().chain(options).map(|argument| (*argument).into());
    match config::resolve(arguments, []).unwrap() {
        Invocation::Certs(command) => run_certs(&command).map_err(|error| error.to_string()),
        other => panic!("{other:?}"),
    }
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

fn files_of(directory: &Path, server: u16) -> TlsFiles {
    TlsFiles {
        cert_file: Some(directory.join(format!("server-{server}.crt"))),
        key_file: Some(directory.join(format!("server-{server}.key"))),
        ca_file: Some(directory.join("ca.crt")),
        ..TlsFiles::default()
    }
}

#[test]
fn nodes_take_the_files_of_create_and_only_the_owner_reads_keys() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().join("made/here");
    let dir = format!("--dir={}", directory.display());
    let said = certs(&["create", MEMBERS, &dir, "--host=lb.example", "--host=10.9.9.9", "--days=40"]).unwrap();
    for name in ["ca.crt", "ca.key", "server-1.crt", "server-1.key", "server-2.crt", "server-2.key"] {
        let mode = std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077 == 0, name.ends_with(".key"), "{name} has {mode:o}");
        assert!(said.contains(name), "{said}");
    }
    assert!(said.contains("--tls-cert-file") && said.contains("curl --cacert"), "{said}");
    for server in [1, 2] {
        assert!(Certificates::load(&files_of(&directory, server), server).is_ok());
    }
    let leaf = files::read_certificates(&directory.join("server-2.crt"), Purpose::NodeCertificate).unwrap().remove(0);
    assert_eq!(leaf.names, ["server-2.headwater.internal", "node2", "::1", "lb.example", "10.9.9.9"]);
    assert_eq!(leaf.not_after.duration_since(Timestamp::now()).as_hours() / 24, 39);
}

#[test]
fn create_keeps_existing_files_and_adds_missing_ones() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", directory.path().display());
    certs(&["create", MEMBERS, &dir]).unwrap();
    let before = contents(directory.path());
    let said = certs(&["create", &format!("{MEMBERS},7=node7:1/node7:2"), &dir]).unwrap();
    let after = contents(directory.path());
    assert_eq!(after.len(), before.len() + 2, "{said}");
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
    assert!(Certificates::load(&files_of(directory.path(), 7), 7).is_ok());

    std::fs::remove_file(directory.path().join("server-7.key")).unwrap();
    let refused = certs(&["create", "--members=7=a:1/a:2", &dir]).unwrap_err();
    assert!(refused.contains("server-7.crt exists but") && refused.contains("server-7.key does not"), "{refused}");
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    let refused = certs(&["create", "--members=8=a:1/a:2", &dir]).unwrap_err();
    assert!(refused.contains("ca.key does not"), "{refused}");
}

#[test]
fn renew_keeps_the_names_and_the_former_files() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", directory.path().display());
    certs(&["create", MEMBERS, &dir, "--cluster-name=orders", "--days=3"]).unwrap();
    let before = contents(directory.path());
    let said = certs(&["renew", "--server-id=2", &dir, "--host=new.example", "--days=50"]).unwrap();
    let after = contents(directory.path());
    assert_eq!(after.len(), before.len() + 2, "{said}");
    for name in ["server-2.crt", "server-2.key"] {
        assert_ne!(after[name], before[name]);
        let kept = after.iter().find(|(kept, _)| kept.starts_with(&format!("{name}.replaced-"))).unwrap();
        assert_eq!(*kept.1, before[name]);
    }
    assert_eq!(after["server-1.crt"], before["server-1.crt"]);
    let leaf =
        files::read_certificates(&directory.path().join("server-2.crt"), Purpose::NodeCertificate).unwrap().remove(0);
    assert_eq!(leaf.names, ["server-2.orders.headwater.internal", "node2", "::1", "new.example"]);
    let files = TlsFiles { cluster_name: Some("orders".to_owned()), ..files_of(directory.path(), 2) };
    assert!(Certificates::load(&files, 2).is_ok());
    let mode = std::fs::metadata(directory.path().join("server-2.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
}

#[test]
fn renew_refuses_certificates_it_cannot_renew() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = |directory: &tempfile::TempDir| format!("--dir={}", directory.path().display());
    certs(&["create", MEMBERS, &dir(&ours)]).unwrap();
    certs(&["create", MEMBERS, &dir(&theirs)]).unwrap();
    let refused = certs(&["renew", "--server-id=9", &dir(&ours)]).unwrap_err();
    assert!(refused.contains("server-9.crt to renew"), "{refused}");

    let path = |name: &str| ours.path().join(name);
    std::fs::copy(path("server-1.crt"), path("server-2.crt")).unwrap();
    let refused = certs(&["renew", "--server-id=2", &dir(&ours)]).unwrap_err();
    assert!(refused.contains("not the certificate of server 2: it is of server-1"), "{refused}");

    // The key of another CA: a new certificate is checked before it replaces the old one.
    std::fs::copy(theirs.path().join("ca.key"), path("ca.key")).unwrap();
    let before = contents(ours.path());
    let refused = certs(&["renew", "--server-id=1", &dir(&ours)]).unwrap_err();
    assert!(refused.contains("was not issued by the CA in"), "{refused}");
    assert_eq!(contents(ours.path()), before, "nothing is left behind");
}

#[test]
fn renewing_twice_in_a_second_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", directory.path().display());
    certs(&["create", MEMBERS, &dir]).unwrap();
    // However the seconds fall: of three in a row at least two are of the same one, or all are
    // kept.
    let mut written = 0;
    for _ in 0..3 {
        let before = contents(directory.path());
        match certs(&["renew", "--server-id=2", &dir]) {
            Ok(_) => written += 1,
            Err(refused) => {
                assert!(refused.contains("is there already: renew again in a second"), "{refused}");
                assert_eq!(contents(directory.path()), before, "nothing is changed and nothing left behind");
            }
        }
        // Every pair that ever was is there, and the one in use fits.
        assert_eq!(contents(directory.path()).len(), 6 + 2 * written);
        assert!(Certificates::load(&files_of(directory.path(), 2), 2).is_ok());
    }
    // A name that is taken, whatever is behind it.
    let current = directory.path().join("server-1.crt");
    let (new, kept) = (directory.path().join("new"), directory.path().join("kept"));
    std::fs::write(&new, "new").unwrap();
    std::fs::write(&kept, "kept").unwrap();
    let before = std::fs::read(&current).unwrap();
    super::create::replace_and_keep(&new, &current, &kept).unwrap_err();
    assert_eq!((std::fs::read(&kept).unwrap(), std::fs::read(&current).unwrap()), (b"kept".to_vec(), before));
}

#[test]
fn no_server_gets_the_name_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let dir = format!("--dir={}", directory.path().display());
    for host in [
        "server-2.headwater.internal",
        "Server-2.Headwater.INTERNAL",
        "server-2.headwater.internal.",
        "*.headwater.internal",
        "headwater.internal",
        "server-1.orders.headwater.internal",
    ] {
        let refused = certs(&["create", MEMBERS, &dir, &format!("--host={host}")]).unwrap_err();
        assert!(refused.contains(&format!("{host} is the name of a server")), "{refused}");
        assert!(contents(directory.path()).is_empty(), "nothing is written");
    }
    let swapped = "--members=1=10.0.0.1:1/node1:2,2=server-1.headwater.internal:3/node2:4";
    let refused = certs(&["create", swapped, &dir]).unwrap_err();
    assert!(refused.contains("server-1.headwater.internal is the name of a server"), "{refused}");
    assert!(contents(directory.path()).is_empty(), "nothing is written");
    certs(&["create", MEMBERS, &dir]).unwrap();
    let before = contents(directory.path());
    let refused = certs(&["renew", "--server-id=1", &dir, "--host=server-2.headwater.internal"]).unwrap_err();
    assert!(refused.contains("is the name of a server"), "{refused}");
    assert_eq!(contents(directory.path()), before);
    // Its own is no other.
    certs(&["renew", "--server-id=1", &dir, "--host=server-1.headwater.internal"]).unwrap();
}
