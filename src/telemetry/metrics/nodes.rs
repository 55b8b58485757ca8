//! The families of a listener's nodes.

use std::fmt;

use super::{Page, Sample, flag, listeners::with, names};
use crate::{
    deployment::Source,
    listener::{NodeSnapshot, Role, Snapshots},
    model::ListenerId,
};

pub fn write(page: &mut Page, snapshots: &Snapshots) -> fmt::Result {
    page.gauges(
        &names::NODE_SUBSCRIBED,
        each(snapshots, |listener, node| {
            let role = match node.role {
                Role::Master => "master",
                Role::Replica => "replica",
            };
            Some(with(listener, &[node.id.as_str(), &node.address.to_string(), role], flag(node.subscribed)))
        }),
    )?;
    page.gauges(
        &names::NODE_NOTIFICATIONS,
        each(snapshots, |listener, node| Some(of(listener, node, flag(node.notifications)))),
    )?;
    page.gauges(
        &names::NODE_TRACKING,
        each(snapshots, |listener, node| Some(of(listener, node, flag(node.change_source == Source::Tracking)))),
    )?;
    page.gauges(
        &names::NODE_CLOCK_OFFSET,
        each(snapshots, |listener, node| Some(of(listener, node, seconds(node.clock_offset_ms?)))),
    )
}

fn each(snapshots: &Snapshots, sample: impl Fn(&ListenerId, &NodeSnapshot) -> Option<Sample<f64>>) -> Vec<Sample<f64>> {
    let nodes = snapshots.iter().flat_map(|(id, snapshot)| snapshot.nodes.iter().map(move |node| (id, node)));
    nodes.filter_map(|(id, node)| sample(id, node)).collect()
}

fn of(listener: &ListenerId, node: &NodeSnapshot, value: f64) -> Sample<f64> {
    with(listener, &[node.id.as_str(), &node.address.to_string()], value)
}

#[expect(clippy::cast_precision_loss, reason = "the error of a clock")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}
