//! `/metrics`: the snapshots and what the stages counted, as Prometheus reads them.
//!
//! # Guarantees
//! - Every name is in [`names`], every label is bounded: a listener, a node, or a word that is known beforehand. Never a
//!   key, a URL or a message.
//! - A listener that leaves takes its series with it: nothing is kept here between two readings.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};

use crate::{listener::Snapshots, meters::Operator, model::Millis};

mod document;
mod listeners;
pub mod names;
mod nodes;
mod page;
mod process;

pub use document::document;
pub use page::Format;
use page::{Page, Sample};
pub use process::Process;

/// All that a page is made of.
#[derive(Debug)]
pub struct Input {
    pub snapshots: Snapshots,
    /// In the `controller` alone.
    pub operator: Option<Arc<Operator>>,
    pub process: Option<Process>,
    pub now: Millis,
}

/// The page, without what `input` lacks.
pub fn render(input: Input, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Rendered { input, format }));
    let mut page = String::new();
    let written = match format {
        Format::OpenMetrics => text::encode(&mut page, &registry),
        Format::Text => text::encode_registry(&mut page, &registry),
    };
    // Writing into memory does not fail.
    let _ = written;
    page
}

#[derive(Debug)]
struct Rendered {
    input: Input,
    format: Format,
}

impl Collector for Rendered {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Input { snapshots, operator, process, now } = &self.input;
        let mut page = Page { encoder, format: self.format };
        listeners::write(&mut page, snapshots, *now)?;
        nodes::write(&mut page, snapshots)?;
        let of = |ready| snapshots.values().filter(|snapshot| snapshot.ready == ready).count();
        page.gauges(&names::BUILD, vec![sample(&[env!("CARGO_PKG_VERSION")], 1.0)])?;
        page.gauges(&names::LISTENERS, vec![sample(&["true"], float(of(true))), sample(&["false"], float(of(false)))])?;
        page.gauges(&names::OWNED, vec![sample(&[], float(snapshots.len()))])?;
        if let Some(operator) = operator {
            let words = |read: (&str, u64)| sample(&[read.0], read.1);
            page.gauges(&names::WATCHED, vec![sample(&[], float64(operator.watched.get()))])?;
            page.gauges(&names::REPLICAS, vec![sample(&[], float64(operator.replicas.get()))])?;
            let conditions = operator.conditions.read();
            let said = conditions.iter().flat_map(|(listener, said)| {
                said.iter()
                    .map(|said| listeners::with(listener, &[said.condition.as_str(), &said.status, &said.reason], 1.0))
            });
            page.gauges(&names::CONDITION, said.collect())?;
            page.counters(&names::RECONCILES, operator.reconciles.read().map(words).collect())?;
        }
        process.as_ref().map_or(Ok(()), |process| process.write(&mut page))
    }
}

fn sample<V>(labels: &[&str], value: V) -> Sample<V> {
    Sample { labels: labels.iter().map(ToString::to_string).collect(), value }
}

fn float(count: usize) -> f64 {
    float64(count as u64)
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes, below 2^53")]
fn float64(count: u64) -> f64 {
    count as f64
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[cfg(test)]
mod tests;
