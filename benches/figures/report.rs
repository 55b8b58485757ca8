//! The page. Pure.

use std::{borrow::Cow, fmt::Write as _};

use super::scale::Scale;

pub struct Figure {
    pub name: &'static str,
    pub what: String,
    pub yardstick: String,
    pub target: String,
    pub rounds: Vec<Round>,
}

#[derive(Clone)]
pub struct Round {
    pub ours: String,
    pub yardstick: String,
    /// Ours to the yardstick's.
    pub ratio: Option<f64>,
    /// The least is the best.
    pub order: f64,
    pub met: bool,
    /// What the ratio is made of.
    pub times: Option<Times>,
}

/// Two times, their unit, and what the one may be of the other.
#[derive(Clone, Copy)]
pub struct Times {
    ours: f64,
    yardstick: f64,
    unit: &'static str,
    most: f64,
}

impl Round {
    /// Two times and what the one may be of the other.
    pub fn ratio(ours: f64, yardstick: f64, unit: &'static str, most: f64) -> Self {
        let ratio = ours / yardstick;
        let digits = if unit == "s" { 2 } else { usize::from(ours < 100.0) };
        Self {
            ours: format!("{ours:.digits$} {unit}"),
            yardstick: format!("{yardstick:.digits$} {unit}"),
            ratio: Some(ratio),
            order: ratio,
            met: ratio <= most,
            times: Some(Times { ours, yardstick, unit, most }),
        }
    }
}

impl Figure {
    /// Of two times, our best beside the yardstick's best: a round in which the yardstick happened to be slow is no merit of
    /// ours.
    fn best(&self) -> Option<Cow<'_, Round>> {
        let times: Vec<Times> = self.rounds.iter().filter_map(|round| round.times).collect();
        let ours = times.iter().map(|times| times.ours).min_by(f64::total_cmp);
        let yardstick = times.iter().map(|times| times.yardstick).min_by(f64::total_cmp);
        if let (Some(Times { unit, most, .. }), Some(ours), Some(yardstick)) = (times.first(), ours, yardstick) {
            return Some(Cow::Owned(Round::ratio(ours, yardstick, unit, *most)));
        }
        self.rounds.iter().min_by(|a, b| a.order.total_cmp(&b.order)).map(Cow::Borrowed)
    }
}

fn ratio(round: &Round) -> String {
    round.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

pub fn page(figures: &[Figure], machine: &str, scale: &Scale) -> String {
    let mut page = format!(
        "# Figures\n\nMeasured by `make bench`, which writes this page. A real Redis Cluster (3 masters, 3 replicas), the \
         built binary with a `Local` store, and a real HTTP receiver share one machine: {machine}. Times depend on it; \
         each figure therefore stands beside a yardstick that was measured in the same run. Best of {} (of two times, \
         our best beside the yardstick's best), all of them shown.\n\n| figure | best | yardstick | ratio | target | |\n|---|---|---|---|---|---|\n",
        scale.rounds
    );
    // Writing to a String cannot fail.
    for figure in figures {
        let Some(best) = figure.best() else { continue };
        let met = if best.met { "met" } else { "missed" };
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} | {} | {met} |",
            figure.name,
            best.ours,
            best.yardstick,
            ratio(&best),
            figure.target
        );
    }
    page.push_str("\n![How lateness, memory and the start grow](growth.svg)\n");
    for figure in figures {
        let Figure { name, what, yardstick, rounds, .. } = figure;
        let _ = write!(
            page,
            "\n## {name}\n\n{what}\n\nYardstick: {yardstick}.\n\n| round | ours | yardstick | ratio |\n|---|---|---|---|\n"
        );
        for (number, round) in rounds.iter().enumerate() {
            let _ = writeln!(page, "| {} | {} | {} | {} |", number + 1, round.ours, round.yardstick, ratio(round));
        }
    }
    page
}
