//! What the process takes, as its own metrics tell it every five seconds.

use std::{fmt::Write as _, time::Duration};

use redis_expiry_operator::model::Millis;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::support::now;

const EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Millis,
    /// Bytes.
    memory: f64,
    files: f64,
    tasks: f64,
    tracked: f64,
    outbox: f64,
}

pub struct Figures {
    stop: CancellationToken,
    taking: JoinHandle<Vec<Sample>>,
}

pub struct Taken(Vec<Sample>);

impl Figures {
    /// Of the process that serves its metrics at `admin`.
    pub fn start(admin: String) -> Self {
        let stop = CancellationToken::new();
        let ending = stop.clone();
        let taking = tokio::spawn(async move {
            let mut samples = Vec::new();
            let mut tick = tokio::time::interval(EVERY);
            while ending.run_until_cancelled(tick.tick()).await.is_some() {
                samples.push(sample(&admin).await);
            }
            samples
        });
        Self { stop, taking }
    }

    pub async fn finish(self) -> Taken {
        self.stop.cancel();
        Taken(self.taking.await.unwrap())
    }
}

async fn sample(admin: &str) -> Sample {
    let mut connection = TcpStream::connect(admin).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n").await.unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).await.unwrap();
    let value = |name: &str| {
        let lines = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        let values: Vec<f64> = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect();
        assert!(!values.is_empty(), "no {name} in\n{page}");
        values.iter().sum()
    };
    Sample {
        at: now(),
        memory: value("process_resident_memory_bytes"),
        files: value("process_open_fds"),
        tasks: value("redis_expiry_tasks"),
        tracked: value("redis_expiry_tracked_keys"),
        outbox: value("redis_expiry_outbox_events"),
    }
}

impl Taken {
    /// As comma-separated values.
    pub fn table(&self) -> String {
        let mut table = String::from("seconds,memory_mib,files,tasks,tracked,outbox\n");
        let began = self.0.first().map_or(Millis(0), |sample| sample.at);
        for Sample { at, memory, files, tasks, tracked, outbox } in &self.0 {
            let (seconds, memory) = (at.since(began) / 1_000, memory / f64::from(1 << 20));
            writeln!(table, "{seconds},{memory:.1},{files},{tasks},{tracked},{outbox}").unwrap();
        }
        table
    }

    /// The medians of the second quarter of the time, and those of the last: the first quarter is warming up.
    fn then_and_now(&self, of: impl Fn(&Sample) -> f64) -> (f64, f64) {
        let quarter = self.0.len() / 4;
        let median = |samples: &[Sample]| {
            let mut values: Vec<f64> = samples.iter().map(&of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        (median(&self.0[quarter..2 * quarter]), median(&self.0[self.0.len() - quarter..]))
    }

    pub fn summary(&self) -> String {
        let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
        let (before, after) = self.then_and_now(|sample| sample.memory);
        let (files, tasks) = (self.then_and_now(|sample| sample.files), self.then_and_now(|sample| sample.tasks));
        format!(
            "medians of the second quarter and of the last: {:.1} and {:.1} MiB resident, {} and {} files, {} and {} tasks",
            mebibytes(before),
            mebibytes(after),
            files.0,
            files.1,
            tasks.0,
            tasks.1
        )
    }

    /// Nothing has grown by more than a tenth and a little.
    pub fn are_flat(&self) {
        assert!(self.0.len() >= 20, "too short to tell: {} samples", self.0.len());
        let mut grown = Vec::new();
        let mut flat = |what: &str, (before, after): (f64, f64), little: f64| {
            if after > before * 1.1 + little {
                grown.push(format!("{what}: from {before} to {after}"));
            }
        };
        flat("memory", self.then_and_now(|sample| sample.memory), 4e6);
        flat("files", self.then_and_now(|sample| sample.files), 3.0);
        flat("tasks", self.then_and_now(|sample| sample.tasks), 5.0);
        assert!(grown.is_empty(), "{}\n{}", grown.join("\n"), self.table());
    }
}
