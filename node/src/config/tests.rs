//! Precedence of the sources, and refusal of unknown or contradictory options.

use super::*;

const THREE: &str = "--members=1=127.0.0.1:1/127.0.0.1:11,2=127.0.0.1:2/127.0.0.1:12,3=127.0.0.1:3/127.0.0.1:13";

/// Resolves flags, environment and the text of a file (named by `--config`) to an invocation or the
/// message.
fn resolve_all(flags: &[&str], environment: &[(&str, &str)], file: Option<&str>) -> Result<Invocation, String> {
    let directory = tempfile::tempdir().unwrap();
    let mut arguments: Vec<std::ffi::OsString> = vec!["headwater".into()];
    arguments.extend(flags.iter().map(Into::into));
    if let Some(text) = file {
        let path = directory.path().join("headwater.yaml");
        std::fs::write(&path, text).unwrap();
        arguments.extend(["--config".into(), path.into()]);
    }
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    resolve(arguments, environment).map_err(|error| error.to_string())
}

fn run(flags: &[&str], environment: &[(&str, &str)], file: Option<&str>) -> Result<Config, String> {
    match resolve_all(flags, environment, file)? {
        Invocation::Run(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_options_it_is_a_durable_single_node_on_loopback() {
    let config = run(&[], &[], None).unwrap();
    assert_eq!(config.members.len(), 1);
    assert_eq!(config.this_member(), config.members.first());
    assert_eq!((config.server_id, config.data_dir.to_str()), (1, Some("./data")));
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:2113");
    assert_eq!(config.raft_listen.to_string(), "127.0.0.1:1113");
    assert_eq!(config.snapshot_log_bytes, 256 << 20);
    assert_eq!(config, Config::single_node("./data").unwrap());
}

#[test]
fn flag_wins_over_environment_over_file_over_default() {
    let flag: &[&str] = &["--read-wait-ms=4"];
    let environment: &[(&str, &str)] = &[("HEADWATER_READ_WAIT_MS", "5")];
    let file = Some("read_wait_ms: 6\n");
    let cases = [
        (flag, environment, file, 4),
        (flag, &[][..], file, 4),
        (&[][..], environment, file, 5),
        (&[][..], environment, None, 5),
        (&[][..], &[][..], file, 6),
        (&[][..], &[][..], None, 3_000),
    ];
    for (flags, environment, file, expected) in cases {
        let config = run(flags, environment, file).unwrap();
        assert_eq!(config.read_wait.as_millis(), expected, "{flags:?} {environment:?} {file:?}");
    }
}

#[test]
fn every_option_can_be_set_in_every_source() {
    let values = [
        ("data_dir", "/tmp/x"),
        ("server_id", "2"),
        ("members", "1=a:1/a:2,2=127.0.0.1:1/127.0.0.1:2"),
        ("node_priority", "-3"),
        ("max_cluster_version", "1"),
        ("rejoin", "true"),
        ("join", "true"),
        ("http_listen", "0.0.0.0:7"),
        ("raft_listen", "0.0.0.0:8"),
        ("advertise_http", "example.org:80"),
        ("leader_redirect", "proxy"),
        ("disable_http_caching", "true"),
        ("tls_cert_file", "/c/1.crt"),
        ("tls_key_file", "/c/1.key"),
        ("tls_ca_file", "/c/ca.crt"),
        ("node_tls_cert_file", "/c/n.crt"),
        ("node_tls_key_file", "/c/n.key"),
        ("tls_cluster_name", "orders"),
        ("head_requests", "true"),
        ("write_timeout_ms", "7001"),
        ("leader_wait_ms", "3001"),
        ("read_wait_ms", "3002"),
        ("heartbeat_ms", "101"),
        ("election_min_ms", "401"),
        ("election_max_ms", "801"),
        ("ready_lag_events", "11"),
        ("start_wait_ms", "0"),
        ("drain_ms", "0"),
        ("snapshot_log_bytes", "12MiB"),
        ("snapshot_interval_s", "13"),
        ("scavenge_interval_s", "14"),
        ("scavenge_window", "22:00-05:30"),
        ("scavenge_bytes_per_second", "17MiB"),
        ("keep_log_bytes", "0"),
        ("snapshot_bytes_per_second", "15MiB"),
        ("block_cache_bytes", "16MiB"),
        ("default_admin_password", "first"),
        ("default_ops_password", "second"),
        ("allow_anonymous_stream_access", "false"),
        ("allow_anonymous_endpoint_access", "false"),
        ("trusted_auth_from", "10.0.0.1"),
        ("trusted_proxies", "10.0.0.0/8,fd00::/8"),
        ("trusted_origins", "https://a.example,http://b:8080"),
        ("challenge", "Basic"),
        ("log_filter", "debug"),
        ("log_json", "true"),
        ("slow_request_ms", "1001"),
        ("otlp_endpoint", "http://collector:4318"),
        ("trace_sample_ratio", "0.25"),
    ];
    let named: Vec<&str> = values.iter().map(|(key, _)| *key).chain(["config"]).collect();
    assert!(keys().iter().all(|key| named.contains(&key.as_str())), "an option is missing in this test");

    let flags: Vec<String> = values.iter().map(|(key, value)| format!("{}={value}", flag_name(key))).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let names: Vec<String> = values.iter().map(|(key, _)| env_name(key)).collect();
    let environment: Vec<(&str, &str)> = names.iter().zip(values).map(|(name, (_, value))| (&**name, value)).collect();
    let file: String = values.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();

    let by_flags = run(&flags, &[], None).unwrap();
    assert_eq!(by_flags, run(&[], &environment, None).unwrap());
    assert_eq!(by_flags, run(&[], &[], Some(&file)).unwrap());
    let default = run(&[], &[], None).unwrap();
    let shown = |config: &Config| format!("{config:#?}\n{:#?}", config.live);
    let (set, unset) = (shown(&by_flags), shown(&default));
    let is_option = |line: &&str| line.starts_with("    ") && !line.starts_with("     ") && line.ends_with(',');
    let same: Vec<&str> =
        set.lines().filter(is_option).filter(|line| line.contains(": ") && unset.contains(*line)).collect();
    assert!(same.is_empty(), "still at the default: {same:?}");
}

#[test]
fn members_in_yaml_are_a_list() {
    let file = "server_id: 2\nmembers:\n  - {id: 2, raft: '127.0.0.1:2', http: '127.0.0.1:12'}\n  - id: 1\n    raft: 127.0.0.1:1\n    http: 127.0.0.1:11\n";
    let config = run(&[], &[], Some(file)).unwrap();
    let ids: Vec<u16> = config.members.iter().map(|member| member.id).collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(config.http_listen.to_string(), "127.0.0.1:12");
    assert_eq!(config.raft_listen.to_string(), "127.0.0.1:2");
}

#[test]
fn the_file_may_be_named_by_the_environment_and_may_be_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h.yaml");
    for (text, expected) in [("server_id: 9", 9), ("", 1), ("# nothing\n\n", 1)] {
        std::fs::write(&path, text).unwrap();
        let environment: (std::ffi::OsString, std::ffi::OsString) = ("HEADWATER_CONFIG".into(), path.clone().into());
        let Invocation::Run(config) = resolve(["headwater".into()], [environment]).unwrap() else { panic!() };
        assert_eq!(config.server_id, expected, "{text}");
    }
}

#[test]
fn printed_configuration_is_read_back_as_the_same() {
    let cases: [&[&str]; 4] = [
        &[],
        &["--tls-cert-file=c \"", "--tls-key-file=k", "--tls-ca-file=a", "--tls-cluster-name=1"],
        &[THREE, "--server-id=3", "--rejoin"],
        &[
            "--data-dir=/a \"b\": #c",
            "--log-json",
            "--advertise-http=x:1",
            "--trusted-proxies=10.0.0.0/8,::1",
            "--trusted-origins=https://a.example,http://b:8080",
            "--challenge=Basic",
        ],
    ];
    for flags in cases {
        let with_subcommand: Vec<&str> = std::iter::once("config").chain(flags.iter().copied()).collect();
        let Invocation::Print(text) = resolve_all(&with_subcommand, &[], None).unwrap() else { panic!() };
        assert_eq!(run(&[], &[], Some(&text)).unwrap(), run(flags, &[], None).unwrap(), "{text}");
    }
}

#[test]
fn passwords_are_shown_nowhere() {
    let flags = ["--default-admin-password=s3cret-one", "--default-ops-password=s3cret-two"];
    let config = run(&flags, &[], None).unwrap();
    assert_eq!(config.default_admin_password.as_ref().unwrap().expose(), "s3cret-one");
    let with_subcommand = ["config", flags[0], flags[1]];
    let Invocation::Print(text) = resolve_all(&with_subcommand, &[], None).unwrap() else { panic!() };
    for shown in [text.clone(), format!("{config:?}")] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    // The text shows that they are set, and the stars do not become passwords when it is read
    // again.
    for line in ["# default_admin_password: *** # flag", "# default_ops_password: *** # flag"] {
        assert!(text.lines().any(|printed| printed == line), "{line} is not in\n{text}");
    }
    assert_eq!(run(&[], &[], Some(&text)).unwrap().default_admin_password, None);
}

#[test]
fn printed_configuration_names_the_origin_of_each_value() {
    let Invocation::Print(text) = resolve_all(
        &["config", "--read-wait-ms=1"],
        &[("HEADWATER_WRITE_TIMEOUT_MS", "4000"), ("HEADWATER_DEFAULT_ADMIN_PASSWORD", "x")],
        Some("heartbeat_ms: 50"),
    )
    .unwrap() else {
        panic!()
    };
    for line in [
        "read_wait_ms: 1 # flag",
        "write_timeout_ms: 4000 # environment",
        "heartbeat_ms: 50 # file",
        "rejoin: false # default",
        "# default_admin_password: *** # environment",
        "# default_ops_password: *** # default",
    ] {
        assert!(text.lines().any(|printed| printed == line), "{line} is not in\n{text}");
    }
}

#[test]
fn unknown_and_contradictory_options_are_refused_with_advice() {
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Option<&'a str>, &'a [&'a str]);
    let cases: &[Case] = &[
        (&["--sever-id=1"], &[], None, &["--sever-id", "--server-id"]),
        (&["--heartbeat-ms=x"], &[], None, &["--heartbeat-ms", "milliseconds"]),
        (&["--heartbeat-ms=0"], &[], None, &["--heartbeat-ms", "from 1 to"]),
        (&["--block-cache-bytes=1Mb"], &[], None, &["--block-cache-bytes", "64KiB"]),
        (&["--scavenge-window=22-5"], &[], None, &["--scavenge-window", "22:00-05:30"]),
        (&["--server-id=0"], &[], None, &["--server-id"]),
        (&["--members=1=a:1"], &[], None, &["ID=RAFTHOST:PORT/HTTPHOST:PORT"]),
        (&["--members=0=a:1/a:2"], &[], None, &["1 to 65535"]),
        (&["--members=1=a:1/a"], &[], None, &["HOST:PORT"]),
        (&["stop"], &[], None, &["stop"]),
        (&[], &[("HEADWATER_SERVERID", "1")], None, &["HEADWATER_SERVERID", "did you mean HEADWATER_SERVER_ID?"]),
        (&[], &[("HEADWATER_XYZ_UNHEARD_OF", "1")], None, &["HEADWATER_XYZ_UNHEARD_OF", "unset it"]),
        (&[], &[("HEADWATER_REJOIN", "maybe")], None, &["HEADWATER_REJOIN", "maybe"]),
        (&[], &[], Some("server-id: 1"), &["'server-id'", "did you mean server_id?"]),
        (&[], &[], Some("config: x"), &["unknown key 'config'"]),
        (&[], &[], Some("heartbeat_ms: [1]"), &["'heartbeat_ms'", "expected one value"]),
        (&[], &[], Some("heartbeat_ms:"), &["'heartbeat_ms'", "no value"]),
        (&[], &[], Some("heartbeat_ms: fast"), &["'heartbeat_ms'", "milliseconds", "headwater.yaml"]),
        (&[], &[], Some("members: [{id: 1, raft: 'a:1', htp: 'a:2'}]"), &["unknown key 'htp'"]),
        (&[], &[], Some("a: [b"), &["headwater.yaml", "cannot be used"]),
        (&["--config=/does/not/exist"], &[], None, &["/does/not/exist"]),
        (&[THREE, "--server-id=4"], &[], None, &["--server-id 4", "lists 1, 2, 3"]),
        (&["--members=1=a:1/a:2,1=b:1/b:2"], &[], None, &["the id 1 more than once"]),
        (
            &["--members=1=127.0.0.1:1/127.0.0.1:2,2=127.0.0.1:3/127.0.0.1:2"],
            &[],
            None,
            &["127.0.0.1:2 twice", "server 1", "server 2"],
        ),
        (&["--members=1=127.0.0.1:1/127.0.0.1:1"], &[], None, &["127.0.0.1:1 twice"]),
        (&["--http-listen=127.0.0.1:0"], &[], None, &["--http-listen", "port 0"]),
        (&["--http-listen=127.0.0.1:1113"], &[], None, &["127.0.0.1:1113 twice"]),
        (&["--rejoin"], &[], None, &["--rejoin", "remove --rejoin"]),
        (&["--election-min-ms=800"], &[], None, &["--election-max-ms 800 must be greater", "1600"]),
        (&["--heartbeat-ms=134"], &[], None, &["--heartbeat-ms 134 is too long", "at most 133"]),
        (&["--leader-wait-ms=5001"], &[], None, &["--leader-wait-ms 5001", "--write-timeout-ms 5000"]),
        (&["--snapshot-log-bytes=0"], &[], None, &["--snapshot-log-bytes 0 is too small"]),
        (&["--keep-log-bytes=5GiB"], &[], None, &["--keep-log-bytes 5368709120 is too large", "4294967296"]),
        (&["--snapshot-bytes-per-second=1"], &[], None, &["--snapshot-bytes-per-second", "at least 65536"]),
        (&["--block-cache-bytes=1"], &[], None, &["--block-cache-bytes", "at least 1048576"]),
        (&["--advertise-http=nowhere"], &[], None, &["--advertise-http", "HOST:PORT"]),
        (&["--tls-cert-file=c"], &[], None, &["--tls-cert-file", "without --tls-key-file"]),
        (&["--tls-key-file=k"], &[], None, &["--tls-key-file", "without --tls-cert-file"]),
        (&[], &[("HEADWATER_NODE_TLS_CERT_FILE", "c")], None, &["without --node-tls-key-file"]),
        (&["--node-tls-key-file=k"], &[], None, &["without --node-tls-cert-file"]),
        (&["--node-tls-key-file=k", "--node-tls-cert-file=c"], &[], None, &["without --tls-ca-file"]),
        (&[], &[], Some("tls_ca_file: a"), &["no certificate to show", "--tls-cert-file", "--node-tls-cert-file"]),
        (&["--tls-cluster-name=x"], &[], None, &["without --tls-ca-file"]),
        (&["--tls-cluster-name=X.y"], &[], None, &["--tls-cluster-name", "lower-case"]),
        (&["certs"], &[], None, &["create", "renew"]),
        (&["certs", "create"], &[], None, &["--members"]),
        (&["certs", "create", "--members=1=a:1/a:2", "--host=a:1"], &[], None, &["without a port"]),
        (&["certs", "create", "--members=1=a:1/a:2", "--days=0"], &[], None, &["--days"]),
        (&["certs", "renew"], &[], None, &["--server-id"]),
        (&["--trusted-proxies=10.0.0.1,proxy"], &[], None, &["--trusted-proxies", "'proxy'", "10.0.0.0/8"]),
        (&["--trusted-origins=a.example"], &[], None, &["--trusted-origins", "'a.example'", "https://HOST"]),
        (&["--challenge=Digest"], &[], None, &["--challenge", "BasicCustom or Basic"]),
        (&["--default-admin-password="], &[], None, &["--default-admin-password"]),
        (&["--log-filter=a=loud"], &[], None, &["--log-filter 'a=loud'"]),
        (&["--otlp-endpoint=collector:4318"], &[], None, &["--otlp-endpoint", "http://HOST:4318"]),
        (&["--otlp-endpoint=http://user:pass@collector"], &[], None, &["--otlp-endpoint", "https://HOST"]),
        (&["--trace-sample-ratio=1.1"], &[], None, &["--trace-sample-ratio", "from 0 to 1"]),
        (&["--trace-sample-ratio=NaN"], &[], None, &["--trace-sample-ratio", "0.01"]),
        (
            &["--members=1=name.invalid:1/name.invalid:2"],
            &[],
            None,
            &["name.invalid:2", "cannot be resolved", "--http-listen"],
        ),
    ];
    for (flags, environment, file, fragments) in cases {
        let message = run(flags, environment, *file).expect_err(&format!("{flags:?} {environment:?} {file:?}"));
        for fragment in *fragments {
            assert!(
                message.contains(fragment),
                "{flags:?} {environment:?} {file:?}: '{fragment}' is not in: {message}"
            );
        }
    }
}

#[test]
fn ten_members_are_too_many() {
    let list: Vec<String> = (1..=10).map(|id| format!("{id}=127.0.0.1:{id}/127.0.0.2:{id}")).collect();
    assert!(run(&[&format!("--members={}", list[..9].join(","))], &[], None).is_ok());
    let message = run(&[&format!("--members={}", list.join(","))], &[], None).unwrap_err();
    assert!(message.contains("at most 9"), "{message}");
}

#[test]
fn the_certificate_for_clients_serves_nodes_too_unless_they_have_their_own() {
    let for_nodes = |flags: &[&str]| {
        let tls = run(flags, &[], None).unwrap().tls;
        let nodes = tls.for_nodes().map(|files| files.pair.certificate.display().to_string());
        (tls.for_clients().is_some(), nodes)
    };
    let (clients, nodes, ca) = (
        ["--tls-cert-file=c", "--tls-key-file=k"],
        ["--node-tls-cert-file=n", "--node-tls-key-file=k"],
        ["--tls-ca-file=a"],
    );
    assert_eq!(for_nodes(&[]), (false, None));
    assert_eq!(for_nodes(&clients), (true, None));
    assert_eq!(for_nodes(&[&clients[..], &ca].concat()), (true, Some("c".to_owned())));
    assert_eq!(for_nodes(&[&nodes[..], &ca].concat()), (false, Some("n".to_owned())));
    assert_eq!(for_nodes(&[&clients[..], &nodes, &ca].concat()), (true, Some("n".to_owned())));
}

#[test]
fn unencrypted_traffic_is_reported_with_the_option_that_ends_it() {
    let exposures = |flags: &[&str]| run(flags, &[], None).unwrap().exposures();
    let public: [&str; 2] = ["--http-listen=0.0.0.0:7", "--raft-listen=[::]:8"];
    let clients = ["--tls-cert-file=c", "--tls-key-file=k"];
    assert!(exposures(&[]).is_empty());
    assert!(exposures(&[THREE]).is_empty());
    assert!(exposures(&["--http-listen=127.9.9.9:7", "--raft-listen=[::1]:8"]).is_empty());
    let both = exposures(&public);
    assert!(both[0].contains("--tls-cert-file") && both[0].contains("0.0.0.0:7"), "{both:?}");
    assert!(both[1].contains("--tls-ca-file") && both[1].contains("[::]:8"), "{both:?}");
    assert_eq!(exposures(&[&public[..], &clients].concat()), both[1..]);
    assert!(exposures(&[&public[..], &clients, &["--tls-ca-file=a"]].concat()).is_empty());
}

#[test]
fn every_option_is_listed_with_its_effective_value_and_passwords_are_masked() {
    let flags = [THREE, "--server-id=2", "--default-admin-password=s3cret-one", "--write-timeout-ms=4000"];
    let listed = serde_json::to_value(print::options(&run(&flags, &[], None).unwrap())).unwrap();
    let listed = listed.as_array().unwrap();
    let value = |name: &str| {
        let option = listed.iter().find(|option| option["name"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(!option["description"].as_str().unwrap().is_empty() && !option["group"].as_str().unwrap().is_empty());
        option["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value("ClusterSize"), "3");
    assert_eq!(value("ServerId"), "2");
    assert_eq!(value("Members").split(',').next(), Some("1=127.0.0.1:1/127.0.0.1:11"));
    assert_eq!(value("WriteTimeoutMs"), "4000");
    assert_eq!(value("DataDir"), "./data");
    assert_eq!((value("DefaultAdminPassword").as_str(), value("DefaultOpsPassword").as_str()), ("********", ""));
    // All options except the file that may contain them, and the size of the cluster, which is not
    // an option.
    assert_eq!(listed.len(), flags::keys().len());
    assert!(!serde_json::to_string(listed).unwrap().contains("s3cret"));
}

#[test]
fn a_window_of_time_may_go_over_midnight() {
    let contains = |window: &str, hours: u64, minutes: u64| {
        let config = run(&[&format!("--scavenge-window={window}")], &[], None).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH
            + std::time::Duration::from_secs(86_400 * 20_000 + hours * 3_600 + minutes * 60);
        config.live.now().scavenge_window.unwrap().contains(time)
    };
    assert!(contains("22:00-05:30", 22, 0) && contains("22:00-05:30", 0, 0) && contains("22:00-05:30", 5, 29));
    assert!(!contains("22:00-05:30", 21, 59) && !contains("22:00-05:30", 5, 30));
    assert!(contains("01:15-02:00", 1, 15) && !contains("01:15-02:00", 2, 0) && !contains("01:15-02:00", 0, 0));
}

#[test]
fn passwords_of_subcommands_in_the_environment_do_not_keep_a_node_from_starting() {
    let names = ["HEADWATER_PASSWORD", "HEADWATER_TO_PASSWORD", "HEADWATER_AGAINST_PASSWORD"];
    assert_eq!(run(&[], &names.map(|name| (name, "x")), None).unwrap(), run(&[], &[], None).unwrap());
}
