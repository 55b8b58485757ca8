//! `/metrics`: made from the snapshots at each scrape, so that what has left is gone, and nothing is counted twice.
//!
//! Labels are bounded: listeners, nodes, and words of this program. No key, no URL, no secret.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    listener::Snapshots,
    model::{BOUNDS_MS, Histogram, Millis},
};

mod names;

pub use names::{Kind, METRICS, Metric};

/// What a scrape shows.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    pub snapshots: Snapshots,
    /// By the wall clock.
    pub now: Millis,
    /// Of the process, in bytes, where the system tells.
    pub resident: Option<u64>,
    /// Files that it has open.
    pub files: Option<u64>,
}

/// The text of a scrape, in the OpenMetrics format, which Prometheus reads too.
pub fn render(scrape: Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry) {
        tracing::error!(%error, "The metrics could not be written.");
    }
    text
}

/// What Linux tells of this process: its resident bytes, and the files that it has open.
pub fn process() -> (Option<u64>, Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
    (resident.map(|kilobytes| kilobytes * 1024), files)
}

type Labels = Vec<(&'static str, String)>;

/// One value of a metric.
enum Value {
    Count(u64),
    Level(f64),
    Times(Histogram),
}

type Samples = Vec<(Labels, Value)>;

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let samples = (metric.samples)(self);
            if samples.is_empty() {
                continue;
            }
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            // The library puts `_total` behind a counter's name.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (labels, value) in samples {
                write(family.encode_family(&labels)?, &value)?;
            }
        }
        Ok(())
    }
}

fn write(mut encoder: MetricEncoder<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Level(level) => encoder.encode_gauge(level),
        Value::Times(histogram) => {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds as seconds")]
            let seconds = |milliseconds: u64| milliseconds as f64 / 1_000.0;
            let bounds = BOUNDS_MS.iter().map(|bound| seconds(bound.unsigned_abs()));
            let mut buckets: Vec<(f64, u64)> = bounds.zip(histogram.counts).collect();
            let beyond = histogram.count - histogram.counts.iter().sum::<u64>();
            buckets.push((f64::INFINITY, beyond));
            encoder.encode_histogram::<NoLabelSet>(seconds(histogram.sum_ms), histogram.count, &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests;
