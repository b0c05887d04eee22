//! Valid certificates, and every way in which certificates are invalid.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto, version};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A CA and a directory for its certificates.
struct Pki {
    authority: Authority,
    directory: tempfile::TempDir,
}

/// A CA that is thirty days old.
fn ca(days: u32) -> Authority {
    let now = SystemTime::now();
    Authority::new(None, now - 30 * DAY..now + days * DAY).unwrap()
}

impl Pki {
    fn new() -> Self {
        Self { authority: ca(100), directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// Files of a server whose certificate has these names and is valid from `from_days` from now,
    /// for `days`.
    fn files_as(&self, file: &str, names: &[&str], from_days: i64, days: u32) -> TlsFiles {
        let hosts: Vec<String> = names.iter().skip(1).map(|name| (*name).to_owned()).collect();
        let now = SystemTime::now();
        let start =
            if from_days < 0 { now - DAY * from_days.unsigned_abs() as u32 } else { now + DAY * from_days as u32 };
        let (certificate, key) = self.authority.issue(names[0], &hosts, start..start + DAY * days).unwrap();
        TlsFiles {
            cert_file: Some(self.write(&format!("{file}.crt"), &certificate)),
            key_file: Some(self.write(&format!("{file}.key"), &key)),
            ca_file: Some(self.write("ca.crt", self.authority.certificate_pem())),
            ..TlsFiles::default()
        }
    }

    fn files(&self, server: u16) -> TlsFiles {
        let name = ServerNames::default().of(server);
        self.files_as(&format!("server-{server}"), &[&name, "localhost"], -1, 90)
    }

    fn server(&self, id: u16) -> Certificates {
        Certificates::load(&self.files(id), id).unwrap()
    }
}

/// Loads at a moment in the past, for certificates that have expired since.
fn load_at(files: &TlsFiles, server_id: u16, at: SystemTime) -> Certificates {
    let names = ServerNames::new(files.cluster_name.clone());
    let loaded = load::load(files, &names, server_id, Timestamp::try_from(at).unwrap()).unwrap();
    let (clients, nodes) = (loaded.clients.map(ArcSwap::from), loaded.nodes.map(ArcSwap::from));
    Certificates {
        inner: Arc::new(Inner {
            files: files.clone(),
            names,
            server_id,
            clients,
            nodes,
            expiries: ArcSwap::default(),
            metrics: TlsMetrics::default(),
        }),
    }
}

/// The result of a connection between two nodes: the caller that the accepting end recognised, and
/// the caller's own result. A byte is echoed, because a refusal of the caller's certificate reaches
/// it only after its own handshake.
async fn meet(
    caller: &Certificates,
    callee: &Certificates,
    expected: u16,
) -> (Result<u16, String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = async {
        let (stream, _) = listener.accept().await.unwrap();
        let (mut stream, server) =
            callee.for_nodes().unwrap().accept(stream).await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        stream.write_all(&byte).await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        Ok(server)
    };
    let calling = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let connected = caller.for_nodes().unwrap().connect(expected, stream).await;
        let mut stream = connected.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        Ok(())
    };
    tokio::join!(accepting, calling)
}

#[tokio::test]
async fn nodes_of_one_cluster_know_each_other() {
    let pki = Pki::new();
    let (one, two) = (pki.server(1), pki.server(2));
    assert_eq!(meet(&one, &two, 2).await, (Ok(1), Ok(())));
    assert_eq!(meet(&two, &one, 1).await, (Ok(2), Ok(())));
}

#[tokio::test]
async fn a_node_at_the_address_of_another_is_refused() {
    let pki = Pki::new();
    let (accepted, called) = meet(&pki.server(1), &pki.server(2), 3).await;
    assert!(called.unwrap_err().contains("server-3.headwater.internal"));
    assert!(accepted.is_err());
}

#[tokio::test]
async fn certificates_of_another_ca_are_refused_in_both_directions() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let (accepted, called) = meet(&theirs.server(1), &ours.server(2), 2).await;
    assert!(called.unwrap_err().contains("was not issued by a CA in"));
    let accepted = accepted.unwrap_err();
    assert!(accepted.contains("refuses the certificate in") && accepted.contains("server-2.crt"), "{accepted}");

    // A caller that trusts our CA and shows a certificate of its own.
    let mut files = theirs.files(1);
    let trusting = theirs.server(1);
    files.ca_file = ours.files(1).ca_file;
    let intruder = trusting.with_client_trust_of(&ours.server(1));
    let (accepted, called) = meet(&intruder, &ours.server(2), 2).await;
    assert!(accepted.unwrap_err().contains("was not issued by a CA in"));
    assert!(called.is_err());
    // Its files would not even load.
    assert!(Certificates::load(&files, 1).err().unwrap().to_string().contains("was not issued by the CA in"));
}

impl Certificates {
    /// Calls that check the other end as `other` does, and show the certificate of `self`.
    fn with_client_trust_of(&self, other: &Self) -> Self {
        let own = self.node_configs().unwrap();
        let mut client = (*other.node_configs().unwrap().client).clone();
        client.client_auth_cert_resolver = own.client.client_auth_cert_resolver.clone();
        let configs = NodeConfigs { server: own.server.clone(), client: Arc::new(client) };
        let inner = &self.inner;
        Self {
            inner: Arc::new(Inner {
                files: inner.files.clone(),
                names: other.inner.names.clone(),
                server_id: inner.server_id,
                clients: None,
                nodes: Some(ArcSwap::from_pointee(configs)),
                expiries: ArcSwap::default(),
                metrics: TlsMetrics::default(),
            }),
        }
    }
}

#[tokio::test]
async fn expired_certificates_are_refused_in_both_directions() {
    let pki = Pki::new();
    let name = ServerNames::default().of(1);
    let expired = load_at(&pki.files_as("old", &[&name], -10, 9), 1, SystemTime::now() - 5 * DAY);
    let (accepted, called) = meet(&expired, &pki.server(2), 2).await;
    assert!(accepted.unwrap_err().contains("its certificate expired on"));
    assert!(called.is_err());
    let (accepted, called) = meet(&pki.server(2), &expired, 1).await;
    assert!(called.unwrap_err().contains("its certificate expired on"));
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_certificate_of_no_server_of_several_or_of_another_cluster_is_refused() {
    let pki = Pki::new();
    let two = pki.server(2);
    let named = |file: &str, names: &[&str], cluster: Option<&str>| {
        let mut files = pki.files_as(file, names, -1, 10);
        files.cluster_name = cluster.map(str::to_owned);
        Certificates::load(&files, 1).unwrap()
    };
    let one = "server-1.headwater.internal";
    for (certificates, reason) in [
        (named("two", &[one, "server-3.headwater.internal"], None), "more than one server"),
        (named("all", &[one, "*.headwater.internal"], None), "more than one server"),
        (named("other", &["server-1.orders.headwater.internal"], Some("orders")), "not a server of this cluster"),
    ] {
        let caller = certificates.with_client_trust_of(&two);
        let (accepted, called) = meet(&caller, &two, 2).await;
        assert!(accepted.as_ref().unwrap_err().contains(reason), "{accepted:?}");
        assert!(called.is_err() || accepted.is_err());
        let (_, called) = meet(&two, &certificates, 1).await;
        assert!(called.is_err(), "{reason}");
    }
}

/// A TLS client without a certificate that trusts the CA of `pki`.
fn anonymous(pki: &Pki, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pki.authority.certificate_pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn peers_without_certificate_or_tls_are_refused_at_once() {
    let pki = Pki::new();
    let two = pki.server(2).for_nodes().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async || {
        let started = std::time::Instant::now();
        let (stream, _) = listener.accept().await.unwrap();
        let refused = two.accept(stream).await.err().unwrap().to_string();
        assert!(started.elapsed() < HANDSHAKE_TIMEOUT, "refused late: {refused}");
        refused
    };

    let without_certificate = async {
        let name = ServerName::try_from("server-2.headwater.internal").unwrap();
        let connected =
            anonymous(&pki, &[&version::TLS13]).connect(name, TcpStream::connect(address).await.unwrap()).await;
        // The refusal arrives with the first read.
        let mut byte = [0];
        let read = connected.unwrap().read(&mut byte).await;
        assert!(read.unwrap_err().to_string().to_lowercase().contains("certificate"));
    };
    let (refused, ()) = tokio::join!(accept(), without_certificate);
    assert!(refused.contains("shows no certificate"), "{refused}");

    let plaintext = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut rest = Vec::new();
        // An alert and the end, or the end by a reset.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() < 32, "{rest:?}");
    };
    let (refused, ()) = tokio::join!(accept(), plaintext);
    assert!(refused.contains("does not speak TLS"), "{refused}");
}

#[tokio::test]
async fn a_stalled_handshake_ends_at_its_deadline() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let certificates = pki.server(1);
    let refused = certificates.for_clients().unwrap().accept(stream).await;
    assert!(matches!(refused, Err(HandshakeError::Timeout)));
}

#[tokio::test]
async fn after_a_reload_the_replaced_ca_counts_no_longer_and_the_new_one_does() {
    let (old, new) = (Pki::new(), Pki::new());
    let files = old.files(2);
    let two = Certificates::load(&files, 2).unwrap();
    let (old_one, new_one) = (old.server(1), new.server(1));
    assert_eq!(meet(&old_one, &two, 2).await, (Ok(1), Ok(())));

    let replacement = new.files(2);
    for (from, to) in [
        (&replacement.cert_file, &files.cert_file),
        (&replacement.key_file, &files.key_file),
        (&replacement.ca_file, &files.ca_file),
    ] {
        std::fs::copy(from.as_ref().unwrap(), to.as_ref().unwrap()).unwrap();
    }
    two.reload().unwrap();
    assert_eq!(meet(&new_one, &two, 2).await, (Ok(1), Ok(())));
    let caller = old_one.with_client_trust_of(&new_one);
    assert!(meet(&caller, &two, 2).await.0.unwrap_err().contains("was not issued by a CA in"));
    assert!(meet(&two, &old_one, 1).await.1.unwrap_err().contains("was not issued by a CA in"));
}

#[tokio::test]
async fn a_ca_is_replaced_in_three_rounds_and_nodes_meet_at_every_step() {
    let (old, new) = (Pki::new(), Pki::new());
    let certificates: Vec<Certificates> = [1, 2].map(|id| old.server(id)).into();
    let files: Vec<TlsFiles> = certificates.iter().map(|loaded| loaded.inner.files.clone()).collect();
    let both = format!("{}{}", old.authority.certificate_pem(), new.authority.certificate_pem());
    let ca = |text: String| move |file: &TlsFiles| std::fs::write(file.ca_file.as_ref().unwrap(), &text).unwrap();
    let pair = |file: &TlsFiles| {
        let id = if file.cert_file == files[0].cert_file { 1 } else { 2 };
        let made = new.files(id);
        std::fs::copy(made.cert_file.unwrap(), file.cert_file.as_ref().unwrap()).unwrap();
        std::fs::copy(made.key_file.unwrap(), file.key_file.as_ref().unwrap()).unwrap();
    };
    let rounds: [&dyn Fn(&TlsFiles); 3] = [&ca(both), &pair, &ca(new.authority.certificate_pem().to_owned())];
    for (round, change) in rounds.iter().enumerate() {
        for (file, loaded) in files.iter().zip(&certificates) {
            change(file);
            loaded.reload().unwrap();
            for (caller, callee) in [(1, 2), (2, 1)] {
                let met = meet(&certificates[caller - 1], &certificates[callee - 1], callee as u16).await;
                assert_eq!(met, (Ok(caller as u16), Ok(())), "round {round}");
            }
        }
    }
}

#[tokio::test]
async fn a_bad_file_at_a_reload_changes_nothing() {
    let pki = Pki::new();
    let files = pki.files(2);
    let two = Certificates::load(&files, 2).unwrap();
    // The first file is valid and new, but the second is not its key: neither is used.
    let renewed = pki.files_as("renewed", &["server-2.headwater.internal"], -1, 10);
    let before = two.client_config().unwrap();
    std::fs::copy(renewed.cert_file.unwrap(), files.cert_file.as_ref().unwrap()).unwrap();
    let error = two.reload().unwrap_err().to_string();
    assert!(error.contains("server-2.key") && error.contains("does not belong to the certificate"), "{error}");
    assert!(Arc::ptr_eq(&before, &two.client_config().unwrap()));
    assert_eq!(meet(&pki.server(1), &two, 2).await, (Ok(1), Ok(())));
}

#[test]
fn every_unusable_file_is_named_with_the_reason() {
    let pki = Pki::new();
    let one = ServerNames::default().of(1);
    type Spoil<'a> = &'a dyn Fn(&mut TlsFiles);
    let other_ca = Pki::new().files(1).ca_file.unwrap();
    let foreign = pki.write("foreign.crt", Pki::new().authority.certificate_pem());
    assert!(!other_ca.exists(), "its directory is gone");
    let cases: &[(Spoil, &str, &str)] = &[
        (&|files| files.cert_file = Some(pki.path("absent.crt")), "absent.crt", "cannot be read: No such file"),
        (&|files| files.key_file = Some(pki.path("absent.key")), "absent.key", "cannot be read: No such file"),
        (&|files| files.ca_file = Some(pki.path("absent.pem")), "absent.pem", "cannot be read: No such file"),
        (&|files| files.cert_file = Some(pki.path("")), "", "cannot be read: Is a directory"),
        (
            &|files| files.cert_file = Some(pki.write("text.crt", "hello")),
            "text.crt",
            "not valid PEM: there is no -----BEGIN",
        ),
        (
            &|files| files.key_file = Some(pki.write("text.key", "hello")),
            "text.key",
            "not valid PEM: there is no -----BEGIN",
        ),
        (&|files| files.cert_file = files.key_file.clone(), "server-1.key", "holds no certificate"),
        (&|files| files.key_file = files.cert_file.clone(), "server-1.crt", "holds no private key"),
        (&|files| files.ca_file = files.key_file.clone(), "server-1.key", "holds no certificate"),
        (
            &|files| {
                let text = std::fs::read_to_string(files.cert_file.as_ref().unwrap()).unwrap();
                files.cert_file = Some(pki.write("cut.crt", &text[..text.len() / 2]));
            },
            "cut.crt",
            "not valid PEM",
        ),
        (
            &|files| {
                let text = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
                files.cert_file = Some(pki.write("hello.crt", text));
            },
            "hello.crt",
            "malformed",
        ),
        (&|files| files.cert_file = Some(pki.write("big.crt", &" ".repeat(2 << 20))), "big.crt", "larger than"),
        (&|files| files.key_file = pki.files(2).key_file, "server-2.key", "does not belong to the certificate"),
        (&|files| *files = pki.files_as("old", &[&one], -10, 9), "old.crt", "expired on "),
        (&|files| *files = pki.files_as("early", &[&one], 2, 9), "early.crt", "valid from "),
        (&|files| *files = pki.files(2), "server-2.crt", "lacks the name server-1.headwater.internal"),
        (&|files| files.cluster_name = Some("orders".into()), "server-1.crt", "server-1.orders.headwater.internal"),
        (&|files| files.ca_file = Some(foreign.clone()), "server-1.crt", "was not issued by the CA in"),
    ];
    for (spoil, file, reason) in cases {
        let mut files = pki.files(1);
        spoil(&mut files);
        let error = Certificates::load(&files, 1).err().unwrap_or_else(|| panic!("accepted: {reason}")).to_string();
        assert!(error.contains(file) && error.contains(reason), "'{file}' or '{reason}' is not in: {error}");
    }
}

#[test]
fn an_expired_ca_counts_no_longer_and_is_an_error_when_there_is_no_other() {
    let (old, new) = (Pki { authority: ca(1), ..Pki::new() }, Pki::new());
    let mut files = new.files(1);
    let later = Timestamp::now() + EXPIRY_WARNING / 10;
    let both = format!("{}{}", old.authority.certificate_pem(), new.authority.certificate_pem());
    files.ca_file = Some(new.write("both.crt", &both));
    assert!(load::load(&files, &ServerNames::default(), 1, later).is_ok());
    files.ca_file = Some(new.write("old.crt", old.authority.certificate_pem()));
    let error = load::load(&files, &ServerNames::default(), 1, later).err().unwrap().to_string();
    assert!(error.contains("old.crt") && error.contains("expired on"), "{error}");
}

#[tokio::test]
async fn clients_may_see_a_different_certificate_than_nodes_and_use_tls_1_2_which_nodes_do_not() {
    let (public, own) = (Pki::new(), Pki::new());
    let node = own.files(1);
    let clients = public.files_as("site", &["headwater.example"], -1, 10);
    let files = TlsFiles {
        node_cert_file: node.cert_file,
        node_key_file: node.key_file,
        cert_file: clients.cert_file,
        key_file: clients.key_file,
        ..own.files(1)
    };
    let one = Certificates::load(&files, 1).unwrap();
    assert_eq!(meet(&one, &own.server(2), 2).await, (Ok(1), Ok(())));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connector = anonymous(&public, &[&version::TLS12]);
    let name = ServerName::try_from("headwater.example").unwrap();
    let connect = async || connector.connect(name.clone(), TcpStream::connect(address).await.unwrap()).await;
    let accept = async || one.for_clients().unwrap().accept(listener.accept().await.unwrap().0).await;
    let (connected, accepted) = tokio::join!(connect(), accept());
    assert!(connected.is_ok() && !accepted.unwrap().1, "no HTTP/2 unless asked for");

    let connector = anonymous(&own, &[&version::TLS12]);
    let name = ServerName::try_from("server-1.headwater.internal").unwrap();
    let connect = async || connector.connect(name.clone(), TcpStream::connect(address).await.unwrap()).await;
    let accept = async || one.for_nodes().unwrap().accept(listener.accept().await.unwrap().0).await;
    let (connected, accepted) = tokio::join!(connect(), accept());
    assert!(connected.is_err() && accepted.is_err());
}

#[tokio::test]
async fn the_refusal_of_its_own_certificate_reaches_the_caller_before_it_sends_anything() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let two = ours.server(2);
    let caller = theirs.server(1).with_client_trust_of(&two);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calling = async {
        let nodes = caller.for_nodes().unwrap();
        let mut stream = nodes.connect(2, TcpStream::connect(address).await.unwrap()).await.unwrap();
        nodes.confirm(&mut stream).await.unwrap_err().to_string()
    };
    let accepting = async { two.for_nodes().unwrap().accept(listener.accept().await.unwrap().0).await };
    let (refusal, refused) = tokio::join!(calling, accepting);
    assert!(refusal.contains("refuses the certificate in") && refusal.contains("server-1.crt"), "{refusal}");
    assert!(refused.is_err());
}

#[tokio::test]
async fn monitoring_sees_ends_of_validity_and_refused_handshakes() {
    let pki = Pki::new();
    let two = pki.server(2);
    meet(&pki.server(1), &two, 3).await.1.unwrap_err();
    let mut registry = prometheus_client::registry::Registry::with_prefix("headwater");
    two.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("headwater_tls_handshakes_refused_total{with=\"node\"} 1"), "{text}");
    let expiry = text
        .lines()
        .find(|line| line.starts_with("headwater_tls_certificate_expiry_seconds{") && line.contains("2.crt"));
    let at: i64 = expiry.expect(&text).rsplit(' ').next().unwrap().parse().unwrap();
    assert!((at - Timestamp::now().as_second() - 89 * 24 * 3_600).abs() < 3_600, "{text}");
}

#[test]
fn the_earliest_end_of_validity_of_each_file_is_known() {
    let pki = Pki::new();
    let files = pki.files_as("soon", &[&ServerNames::default().of(1)], -1, 20);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(files.key_file.as_ref().unwrap(), open).unwrap();
    let loaded = load::load(&files, &ServerNames::default(), 1, Timestamp::now()).unwrap();
    let days = |at: Timestamp| at.duration_since(Timestamp::now()).as_hours() / 24;
    assert_eq!(loaded.open_keys, [files.key_file.clone().unwrap()], "a key that every user may read is reported");
    let found: Vec<_> = loaded.expiries.iter().map(|expiry| (expiry.path.clone(), days(expiry.at))).collect();
    assert_eq!(found, [(files.cert_file.clone().unwrap(), 18), (files.ca_file.clone().unwrap(), 99)]);
}
