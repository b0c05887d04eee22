//! The files in deploy/ speak of what exists: metrics, options, chapters of the runbook. Scripts
//! run them with the programs that read them (`make compose-test`, `make deployment`).

// Clippy knows `#[test]` functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn found<'t>(pattern: &str, text: &'t str) -> Vec<&'t str> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found.get(1).unwrap().as_str()).collect()
}

/// Names and kinds of docs/metrics.md, which another test compares with a node.
fn metrics() -> BTreeMap<String, String> {
    let page = text("docs/metrics.md");
    let rows = Regex::new(r"(?m)^\| `(headwater_[a-z_]+)` \| ([a-z]+) \|").unwrap();
    let metrics: BTreeMap<_, _> = rows.captures_iter(&page).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    assert!(metrics.len() > 20, "{metrics:?}");
    metrics
}

/// Names in a text that are no series of any metric.
fn unknown_series(text: &str, metrics: &BTreeMap<String, String>) -> Vec<String> {
    let is_known = |series: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter().find_map(|part| series.strip_suffix(part));
        let kind = metrics.get(series).map(String::as_str);
        let of_histogram = parts.and_then(|name| metrics.get(name)).map(String::as_str);
        kind.is_some_and(|kind| kind != "histogram") || of_histogram == Some("histogram")
    };
    let names: BTreeSet<&str> = found(r"\b(headwater_[a-z0-9_]+)", text).into_iter().collect();
    names.into_iter().filter(|name| !is_known(name)).map(str::to_owned).collect()
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let metrics = metrics();
    for file in ["deploy/prometheus/alerts.yml", "deploy/prometheus/alerts.test.yml"] {
        assert_eq!(unknown_series(&text(file), &metrics), Vec::<String>::new(), "{file}");
    }
    let wrong =
        "headwater_log_sync_seconds headwater_log_syncs headwater_log_bytes_total_count headwater_log_sync_seconds_sum";
    let unknown = ["headwater_log_bytes_total_count", "headwater_log_sync_seconds", "headwater_log_syncs"];
    assert_eq!(unknown_series(wrong, &metrics), unknown);
}

/// Anchors of the headings of a page, as renderers make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let anchor = |heading: &str| {
        let kept = heading
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
            .collect::<String>();
        kept.replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn every_alert_has_a_chapter_in_the_runbook() {
    let (alerts, runbook) = (text("deploy/prometheus/alerts.yml"), text("docs/runbook.md"));
    let rules: Vec<&str> = alerts.split("- alert: ").skip(1).collect();
    assert!(rules.len() > 10, "only {} alerts", rules.len());
    let anchors = anchors(&runbook);
    for rule in rules {
        let name = rule.lines().next().unwrap();
        for part in ["summary: ", "description: ", "severity: "] {
            assert_eq!(rule.matches(part).count(), 1, "{name}: {part}");
        }
        let chapter = found(r"runbook_url: docs/runbook\.md#(\S+)", rule);
        assert!(chapter.len() == 1 && anchors.contains(chapter[0]), "{name}: no chapter {chapter:?}");
        let row = runbook.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{name}`")));
        assert!(row.is_some_and(|row| row.contains(&format!("(#{})", chapter[0]))), "docs/runbook.md: {name}: {row:?}");
    }
    for name in found(r"`(Headwater[A-Za-z]+)`", &runbook) {
        assert!(alerts.contains(&format!("- alert: {name}\n")), "there is no alert {name}");
    }
}

#[test]
fn panels_of_the_dashboard_ask_for_metrics_that_exist() {
    let file = "deploy/grafana/dashboards/headwater.json";
    assert_eq!(unknown_series(&text(file), &metrics()), Vec::<String>::new(), "{file}");
    let dashboard: Value = serde_json::from_str(&text(file)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 15, "only {} panels", panels.len());
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{} has the id of another panel", panel["title"]);
        if panel["type"] == "row" {
            continue;
        }
        let queries = panel["targets"].as_array().unwrap();
        assert!(
            !queries.is_empty() && panel["description"].as_str().is_some_and(|said| said.ends_with('.')),
            "{panel}"
        );
        for query in queries {
            let expression = query["expr"].as_str().unwrap();
            assert!(expression.contains(r#"job="$job""#), "{}: another cluster counts in {expression}", panel["title"]);
        }
    }
    // The name by which the dashboard finds its source of data.
    let source = text("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(source.contains("uid: prometheus\n") && text(file).contains(r#""uid": "prometheus""#));
}

/// What builds and names images, and is none of the node's options.
const OF_COMPOSE: [&str; 7] = [
    "HEADWATER_COMMIT",
    "HEADWATER_IMAGE",
    "HEADWATER_BUILD_IMAGE",
    "HEADWATER_BASE_IMAGE",
    "HEADWATER_BALANCER_IMAGE",
    "HEADWATER_PROMETHEUS_IMAGE",
    "HEADWATER_GRAFANA_IMAGE",
];

#[test]
fn containers_get_options_that_exist() {
    let known: BTreeSet<String> =
        headwater::config::keys().iter().map(|key| headwater::config::env_name(key)).collect();
    let mut seen = 0;
    for file in [
        "deploy/Dockerfile",
        "deploy/docker-compose.yml",
        "deploy/docker-compose.tls.yml",
        "deploy/docker-compose.monitoring.yml",
        "deploy/helm/headwater/templates/statefulset.yaml",
    ] {
        for name in found(r"\b(HEADWATER_[A-Z_]*[A-Z])\b", &text(file)) {
            assert!(known.contains(name) || OF_COMPOSE.contains(&name), "{file}: {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} names");
}

#[test]
fn compose_and_the_image_name_the_same_base_images() {
    let image = text("deploy/Dockerfile");
    for file in ["deploy/docker-compose.yml", "deploy/docker-compose.tls.yml"] {
        for name in ["HEADWATER_BUILD_IMAGE", "HEADWATER_BASE_IMAGE"] {
            let default = found(&format!(r"ARG {name}=(\S+)"), &image)[0];
            let line = format!("{name}: ${{{name}:-{default}}}\n");
            assert!(text(file).contains(&line), "{file} lacks {line}");
        }
    }
}

#[test]
fn the_chart_runs_the_user_of_the_image_and_names_its_version() {
    let user = text("deploy/Dockerfile");
    let user = found(r"(?m)^USER ([0-9]+)$", &user)[0];
    let pods = text("deploy/helm/headwater/templates/statefulset.yaml");
    assert_eq!(found(r"runAsUser: ([0-9]+)", &pods), [user]);
    let chart = text("deploy/helm/headwater/Chart.yaml");
    assert_eq!(found("appVersion: \"([^\"]+)\"", &chart), [env!("CARGO_PKG_VERSION")]);
}

/// No test starts a collector: Debian has none. This much can be seen without one.
#[test]
fn the_collector_takes_what_nodes_send_and_every_part_of_its_way_exists() {
    let source = config::File::from_str(&text("deploy/otel-collector.yaml"), config::FileFormat::Yaml);
    let read = config::Config::builder().add_source(source).build().unwrap();
    let collector: Value = read.try_deserialize().unwrap();
    let listens = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].as_str().unwrap();
    assert!(text("docs/operations.md").contains(&format!("--otlp-endpoint http://{listens}")), "{listens}");
    let way = collector["service"]["pipelines"]["traces"].as_object().unwrap();
    for kind in ["receivers", "processors", "exporters"] {
        let made: BTreeSet<&str> = collector[kind].as_object().unwrap().keys().map(String::as_str).collect();
        let used: BTreeSet<&str> = way[kind].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(made, used, "{kind}");
    }
}
