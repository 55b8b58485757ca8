//! The machine by its kind: nothing that names it.

use std::{fs, thread};

use anyhow::Context as _;

use super::bed::Bed;

/// Such as "2 cores of an AMD EPYC, 24 GiB, Linux 6.8; Redis 7.0.15".
pub async fn describe(bed: &Bed) -> anyhow::Result<String> {
    let cores = thread::available_parallelism()?;
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unknown CPU".to_owned());
    let memory = field("/proc/meminfo", "MemTotal").context("/proc/meminfo has MemTotal")?;
    let kibibytes: u64 = memory.trim_end_matches("kB").trim().parse().context("MemTotal is a number")?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let redis = bed.masters.first().context("there is a master")?.node.info("server", "redis_version").await?;
    Ok(format!(
        "{cores} cores of {cpu}, {} GiB of memory, Linux {}; Redis {}",
        (kibibytes + (1 << 19)) >> 20,
        // What follows tells whose build it is.
        kernel.trim().split('-').next().unwrap_or_default(),
        redis.trim()
    ))
}

/// The first field of that name, in a file of `name : value` lines.
pub fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
