//! The page for people at `/`: which listeners run here, and how they fare. Pure.

use std::fmt::{self, Display, Write as _};

use jiff::Timestamp;

use crate::{
    listener::{Hold, NodeSnapshot, Role, Snapshot, Snapshots},
    model::{ListenerId, Millis},
    telemetry::probes::Verdict,
};

const STYLE: &str = include_str!("page.css");

/// HTML without anything from elsewhere.
pub fn page(snapshots: &Snapshots, ready: &Verdict, now: Millis) -> String {
    let mut html = String::new();
    // Writing into memory does not fail.
    let _ = write(&mut html, snapshots, ready, now);
    html
}

fn write(html: &mut String, snapshots: &Snapshots, ready: &Verdict, now: Millis) -> fmt::Result {
    let version = env!("CARGO_PKG_VERSION");
    let good = snapshots.values().filter(|snapshot| snapshot.ready).count();
    write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>redis-expiry-operator</title>\
         <style>{STYLE}</style>\
         <header><h1>redis-expiry-operator</h1><p>version {version} · as of {} · <a href=\"/metrics\">metrics</a> · \
         <a href=\"/readyz\">readyz</a> · <a href=\"/livez\">livez</a></p></header><main>",
        time(now)
    )?;
    if !ready.good {
        write!(html, "<pre class=\"bad\">The process is not ready.\n{}</pre>", Text(&ready.lines))?;
    }
    if snapshots.is_empty() {
        return html.write_str("<p>No listener runs here.</p></main></html>");
    }
    write!(
        html,
        "<p>{good} of {} ready</p><div class=\"wide\"><table><thead><tr><th>Listener<th>State<th>Masters\
         <th class=\"n\">Tracked<th class=\"n\">Outbox<th class=\"n\">Oldest<th class=\"n\">Dead letters\
         <th class=\"n\">Last delivered</thead><tbody>",
        snapshots.len()
    )?;
    // Those that need somebody come first.
    let order = |wanted| snapshots.iter().filter(move |(_, snapshot)| snapshot.ready == wanted);
    for (listener, snapshot) in order(false).chain(order(true)) {
        row(html, listener, snapshot, now)?;
    }
    html.write_str("</tbody></table></div></main></html>")
}

fn row(html: &mut String, listener: &ListenerId, snapshot: &Snapshot, now: Millis) -> fmt::Result {
    let Snapshot { counts, delivery, .. } = snapshot;
    let (class, state) = match (&snapshot.hold, snapshot.ready) {
        (Some(_), _) => ("bad", "held"),
        (None, true) => ("good", "ready"),
        (None, false) => ("warn", "not ready"),
    };
    let ago = |at: Option<Millis>| at.map_or_else(|| "–".to_owned(), |at| ago(now.since(at)));
    write!(
        html,
        "<tr><td>{}<td><b class=\"{class}\">{state}</b><td>{}/{}<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}\
         <td class=\"n{}\">{}<td class=\"n\">{}",
        Text(listener.as_str()),
        snapshot.subscribed_masters,
        snapshot.masters,
        counts.tracked,
        counts.pending,
        ago(counts.oldest_pending),
        if counts.dead_letters > 0 { " warn" } else { "" },
        counts.dead_letters,
        ago(delivery.last_delivered.or(counts.last_delivered)),
    )?;
    html.write_str("<tr class=\"more\"><td colspan=\"8\">")?;
    for (what, why) in problems(snapshot) {
        write!(html, "<p><b>{what}</b> {}</p>", Text(&why))?;
    }
    if !snapshot.nodes.is_empty() {
        write!(html, "<details><summary>{} nodes</summary><table>", snapshot.nodes.len())?;
        for node in &snapshot.nodes {
            node_row(html, node)?;
        }
        html.write_str("</table></details>")?;
    }
    Ok(())
}

fn problems(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let delivery = &snapshot.delivery;
    let hold = snapshot.hold.as_ref().map(|hold| match hold {
        Hold::DeploymentChanged { message, .. } | Hold::Store { message, .. } => message.clone(),
    });
    let failing = delivery.last_error.as_ref().filter(|_| delivery.consecutive_failures > 0);
    let failing = failing.map(|error| format!("{error} ({} failures in a row)", delivery.consecutive_failures));
    [
        ("Holds:", hold),
        ("Topology:", snapshot.topology_error.as_ref().map(ToString::to_string)),
        ("Store:", snapshot.store_error.clone()),
        ("Not sent:", delivery.paused.clone()),
        ("Webhook:", failing),
    ]
    .into_iter()
    .filter_map(|(what, why)| Some((what, why?)))
    .collect()
}

fn node_row(html: &mut String, node: &NodeSnapshot) -> fmt::Result {
    let role = match node.role {
        Role::Master => "master",
        Role::Replica => "replica",
    };
    let (class, state) = match (node.subscribed, node.notifications) {
        (true, true) => ("good", "subscribed"),
        (true, false) => ("warn", "notifications are off"),
        (false, _) => ("bad", "not subscribed"),
    };
    let error = node.last_error.as_ref().filter(|_| class != "good").map(ToString::to_string).unwrap_or_default();
    write!(
        html,
        "<tr><td>{}<td>{role}<td class=\"n\">{} slots<td><b class=\"{class}\">{state}</b><td>{}<td class=\"id\">{}",
        Text(&node.address.to_string()),
        node.slots,
        Text(&error),
        Text(node.id.as_str())
    )
}

fn time(at: Millis) -> String {
    Timestamp::from_millisecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// "3 s", "5 min", "2 h", "4 d".
fn ago(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text as it is, whatever is in it.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{delivery, store::Counts};

    const NOW: Millis = Millis(1_795_328_020_000);

    #[test]
    fn those_that_need_somebody_come_first_with_what_is_wrong_and_nothing_is_markup() {
        let delivery = delivery::Snapshot {
            consecutive_failures: 3,
            last_error: Some("answered 503".to_owned()),
            last_delivered: Some(NOW.plus(-300_000)),
            ..delivery::Snapshot::default()
        };
        let counts = Counts { pending: 3, oldest_pending: Some(NOW.plus(-90_500)), ..Counts::default() };
        let good = Snapshot { ready: true, delivery, counts, ..Snapshot::default() };
        let held = Hold::Store { category: "Locked", message: "<script>alert('x')</script>".to_owned() };
        let held = Snapshot { hold: Some(held), ..Snapshot::default() };
        let snapshots = [("a", good), ("b", held)]
            .map(|(name, snapshot)| (ListenerId::new("shop", name), Arc::new(snapshot)))
            .into();
        let html = page(&snapshots, &Verdict { good: false, lines: "[-] a & b\n".to_owned() }, NOW);
        assert!(html.find("shop/b").unwrap() < html.find("shop/a").unwrap());
        for text in [
            "1 of 2 ready",
            "as of 2026-11-22 06:13:40 UTC",
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
            "<b>Webhook:</b> answered 503 (3 failures in a row)",
            ">90 s<",
            ">5 min<",
            "[-] a &amp; b",
        ] {
            assert!(html.contains(text), "{text} is not in {html}");
        }
        assert!(!html.contains("<script") && !html.contains("src="), "{html}");
    }
}
