//! One page of metrics, in either of the formats that clients ask for.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::names::{Family, Kind};
use crate::meters::Reading;

/// What a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Text,
    /// 1.0.0.
    OpenMetrics,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// By the `Accept` header: OpenMetrics where it is wanted at least as much as text.
    pub fn accepted(header: &str) -> Self {
        let wanted = |kind: &str| {
            let ranges = header.split(',').filter(|range| range.split(';').next().unwrap_or_default().trim() == kind);
            ranges.map(quality).fold(0.0, f64::max)
        };
        let open = wanted("application/openmetrics-text");
        if open > 0.0 && open >= wanted("text/plain") { Self::OpenMetrics } else { Self::Text }
    }
}

fn quality(range: &str) -> f64 {
    let parameter = range.split(';').skip(1).filter_map(|parameter| parameter.trim().strip_prefix("q="));
    parameter.last().map_or(1.0, |quality| quality.trim().parse().unwrap_or(0.0))
}

/// A value, and those of its family's labels in their order.
pub struct Sample<V> {
    pub labels: Vec<String>,
    pub value: V,
}

/// Writes families, each whole and once.
pub struct Page<'a> {
    pub encoder: DescriptorEncoder<'a>,
    pub format: Format,
}

impl Page<'_> {
    pub fn counters(&mut self, family: &Family, samples: Vec<Sample<u64>>) -> fmt::Result {
        self.each(family, samples, |format, mut encoder, value| match format {
            Format::OpenMetrics => encoder.encode_counter::<NoLabelSet, u64, f64>(&value, None),
            // The suffix is part of the name there, which a gauge is written under as it is.
            Format::Text => encoder.encode_gauge(&value),
        })
    }

    pub fn seconds(&mut self, family: &Family, value: f64) -> fmt::Result {
        self.each(family, vec![Sample { labels: Vec::new(), value }], |format, mut encoder, value| match format {
            Format::OpenMetrics => encoder.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            Format::Text => encoder.encode_gauge(&value),
        })
    }

    pub fn gauges(&mut self, family: &Family, samples: Vec<Sample<f64>>) -> fmt::Result {
        self.each(family, samples, |_, mut encoder, value| encoder.encode_gauge(&value))
    }

    pub fn histograms(&mut self, family: &Family, samples: Vec<Sample<Reading>>) -> fmt::Result {
        self.each(family, samples, |_, mut encoder, Reading { buckets, sum, count }| {
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        })
    }

    fn each<V>(
        &mut self,
        family: &Family,
        samples: Vec<Sample<V>>,
        write: impl Fn(Format, MetricEncoder, V) -> fmt::Result,
    ) -> fmt::Result {
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let name = match self.format {
            Format::Text => family.shown_name(),
            Format::OpenMetrics => family.name.to_owned(),
        };
        let help = format!("{}.", family.help);
        let mut encoder = self.encoder.encode_descriptor(&name, &help, None, kind)?;
        for Sample { labels, value } in samples {
            debug_assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
            if labels.is_empty() {
                // By itself, for an empty set would be written as such. A family without labels has one sample.
                return write(self.format, encoder, value);
            }
            let labels: Vec<(&str, String)> = family.labels.iter().copied().zip(labels).collect();
            write(self.format, encoder.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_goes_to_whoever_wants_it_no_less_than_text() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (header, expected) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,*/*;q=0.8", Format::Text),
            ("text/plain", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; q=0", Format::Text),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.5", Format::Text),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::accepted(header), expected, "{header}");
        }
    }
}
