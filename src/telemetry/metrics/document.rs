//! `docs/metrics.md`, made of the names. Pure.

use std::fmt::{self, Write as _};

use super::names::{Family, Kind, SECTIONS, Shown, all};
use crate::{
    api::{condition, reason},
    meters::{Attempt, Call, Ended, Label, Looked, Outcome, StoreFault},
    model::Evidence,
};

const HEAD: &str = "\
<!-- Made of src/telemetry/metrics/names.rs: UPDATE=1 cargo test --test metrics -->

# Metrics

`/metrics` of the operator's admin port, or of `run --admin-address 127.0.0.1:9121`, in Prometheus' text format, or in
OpenMetrics where that is asked for. No label holds a key, a URL or a message. `namespace` and `name` are the listener's
(`honorLabels: true` keeps them so). A listener's series are shown by the replica that owns it and leave with it; its counters
begin again where it is taken over.

What to be woken by: [alerts.md](alerts.md), and the expressions in
[alerts.yaml](../charts/redis-expiry-operator/files/alerts.yaml).
";

/// The whole file.
pub fn document() -> String {
    let mut text = HEAD.to_owned();
    // Writing into memory does not fail.
    let _ = sections(&mut text).and_then(|()| labels(&mut text));
    text
}

fn sections(text: &mut String) -> fmt::Result {
    for (title, families) in SECTIONS {
        write!(text, "\n## {title}\n\n| metric | type | labels | unit | meaning |\n| --- | --- | --- | --- | --- |\n")?;
        for family in *families {
            row(text, family)?;
        }
    }
    Ok(())
}

fn row(text: &mut String, family: &Family) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    let only = match family.shown {
        Shown::Always => "",
        Shown::Operator => " (`controller` only)",
        Shown::Process => " (on Linux)",
    };
    let (name, labels, unit, help) = (family.shown_name(), labels.join(", "), family.unit(), family.help);
    writeln!(text, "| `{name}` | {kind} | {labels} | {unit} | {help}{only}. |")
}

fn labels(text: &mut String) -> fmt::Result {
    text.write_str("\n## Values of labels\n\n| label | of | values |\n| --- | --- | --- |\n")?;
    let of = |name: &str, values: Vec<&str>| {
        let words: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        (name.to_owned(), words.join(", "))
    };
    for (label, (family, values)) in [
        ("result", of("redis_expiry_looks_total", words::<Looked>())),
        ("evidence", of("redis_expiry_events_settled_total", words::<Evidence>())),
        ("kind", of("redis_expiry_resyncs_total", vec!["whole", "periodic"])),
        ("result", of("redis_expiry_resyncs_total", words::<Ended>())),
        ("call", of("redis_expiry_store_call_seconds", words::<Call>())),
        ("category", of("redis_expiry_store_errors_total", words::<StoreFault>())),
        ("category", of("redis_expiry_store_error", [words::<StoreFault>(), vec!["Failed"]].concat())),
        ("outcome", of("redis_expiry_attempts_total", words::<Attempt>())),
        ("role", of("redis_expiry_node_subscribed", vec!["master", "replica"])),
        ("condition", of("redis_expiry_listener_condition", condition::ALL.to_vec())),
        ("status", of("redis_expiry_listener_condition", vec!["True", "False", "Unknown"])),
        ("reason", of("redis_expiry_listener_condition", reason::ALL.to_vec())),
        ("ready", of("redis_expiry_listeners", vec!["true", "false"])),
        ("result", of("redis_expiry_reconciles_total", words::<Outcome>())),
    ] {
        debug_assert!(all().any(|known| known.shown_name() == family && known.labels.contains(&label)), "{family}");
        writeln!(text, "| `{label}` | `{family}` | {values} |")?;
    }
    text.write_str(
        "\n`4xx_event`: 400, 413, 415, 422, by which the receiver finds fault with the event; `4xx_auth`: 401, 403, 407; \
         `4xx_busy`: 408, 425,\n429. `no_answer_*`: nobody who may say so said anything; it is asked again, and nothing is \
         settled meanwhile.\n",
    )
}

fn words<L: Label>() -> Vec<&'static str> {
    L::ALL.iter().map(|label| label.as_str()).collect()
}
