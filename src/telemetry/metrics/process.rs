//! The process itself, as `/proc` tells; by the names that every exporter uses.

use std::{fmt, fs};

use super::{Page, float64, names, sample};

/// What the kernel counts time by for user space, on every architecture that we run on.
const TICKS_A_SECOND: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub open_files: u64,
    pub most_files: u64,
    /// Seconds since 1970.
    pub started: f64,
}

impl Process {
    /// Of this process; `None` where there is no such `/proc`.
    pub fn now() -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).ok();
        // The directory that is read is open meanwhile.
        let open_files = (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1);
        let limits = read("/proc/self/limits")?;
        Self::parse(&read("/proc/self/stat")?, &read("/proc/self/status")?, &limits, &read("/proc/stat")?, open_files)
    }

    /// From proc(5): `stat` and `status` of the process, its `limits`, and `stat` of the system.
    fn parse(stat: &str, status: &str, limits: &str, system: &str, open_files: u64) -> Option<Self> {
        // The name of the program may hold anything, a parenthesis too; the third field is the first after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok().map(float64);
        let line = |text: &str, name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_whitespace().next()?.parse::<u64>().ok()
        };
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_A_SECOND,
            resident_bytes: line(status, "VmRSS:")? * 1024,
            open_files,
            most_files: line(limits, "Max open files").unwrap_or(u64::MAX),
            started: float64(line(system, "btime")?) + field(22)? / TICKS_A_SECOND,
        })
    }

    pub(super) fn write(&self, page: &mut Page) -> fmt::Result {
        page.gauges(&names::TASKS, vec![sample(&[], tasks())])?;
        page.seconds(&names::CPU, self.cpu_seconds)?;
        for (family, value) in [
            (&names::MEMORY, float64(self.resident_bytes)),
            (&names::OPEN_FILES, float64(self.open_files)),
            (&names::MOST_FILES, float64(self.most_files)),
            (&names::STARTED, self.started),
        ] {
            page.gauges(family, vec![sample(&[], value)])?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "some hundreds")]
fn tasks() -> f64 {
    tokio::runtime::Handle::try_current().map_or(0.0, |runtime| runtime.metrics().num_alive_tasks() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read_by_their_fields() {
        let stat = "7 (a) b) S 1 1 1 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 4200 1 2 3";
        let status = "Name:\ta\nVmHWM:\t9 kB\nVmRSS:\t  2048 kB\n";
        let limits = "Limit Soft Limit Hard Limit Units\nMax open files            1024   4096   files\n";
        let process = Process::parse(stat, status, limits, "cpu 1 2\nbtime 1000\n", 9).unwrap();
        let expected =
            Process { cpu_seconds: 2.0, resident_bytes: 2_097_152, open_files: 9, most_files: 1_024, started: 1_042.0 };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("7 (a) S", status, limits, "btime 1", 9), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_files_and_began_in_the_past() {
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 1_000_000 && process.open_files > 2, "{process:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - process.started).abs() < 3_600.0 && process.started < now + 1.0, "{process:?}");
    }
}
