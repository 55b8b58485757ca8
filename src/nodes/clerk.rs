//! A node's second connection: scans, settings, and what tells one state of its data from another.

use std::{sync::Arc, time::Duration};

use redis::Value;
use tokio::{
    sync::{Mutex, Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Dial;
use crate::{
    dial::{Connection, Dialler, is_broken},
    model::{Fault, FaultCategory, Key, NodeId, NotificationFault, info_field},
    plan::{ChangeSource, KeyspaceEvents, RedisPlan},
    topology::{connect, explain},
};

/// The longest that one of its calls may take, connecting included.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the settings are read. Flags that are off and on again between two readings go unseen until the periodic scan.
/// The calls of CONFIG SET that INFO commandstats counts would tell (from 7.0 on), but not of which setting they were: the
/// operators that set the whole of it at every reconcile would have every node seen whole again each half minute.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Work a SCAN call does: 1.5 ms of the server's time (facts/redis.md 6).
const SCAN_COUNT: u32 = 1_000;

/// Tells one state of a node's data from another (DESIGN rule 8), with its owner and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeData {
    pub run_id: String,
    /// Calls of FLUSHALL, FLUSHDB and SWAPDB since it started.
    pub flushes: u64,
}

/// The connection, opened when it is first needed and again after an error.
pub struct Control {
    plan: RedisPlan,
    dialler: Dialler,
    dial: watch::Receiver<Dial>,
    connection: Mutex<Option<Connection>>,
}

impl Control {
    pub fn new(plan: RedisPlan, dialler: Dialler, dial: watch::Receiver<Dial>) -> Self {
        Self { plan, dialler, dial, connection: Mutex::new(None) }
    }

    /// A page of the keys that match: the next cursor ("0" at the end), and keys, some of them perhaps twice.
    pub async fn scan(&self, cursor: &str, pattern: &[u8]) -> Result<(String, Vec<Key>), Fault> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
        let (cursor, keys): (String, Vec<Vec<u8>>) = self.call(&command).await?;
        Ok((cursor, keys.into_iter().map(Key::from).collect()))
    }

    pub async fn data(&self) -> Result<NodeData, Fault> {
        let server: String = self.call(redis::cmd("INFO").arg("server")).await?;
        let calls: String = self.call(redis::cmd("INFO").arg("commandstats")).await?;
        let run_id = info_field(&server, "run_id")
            .ok_or_else(|| FaultCategory::Other.fault("INFO server has no run_id; grant +info"))?
            .to_owned();
        let flushes = ["flushall", "flushdb", "swapdb"].iter().map(|command| calls_of(&calls, command)).sum();
        Ok(NodeData { run_id, flushes })
    }

    async fn call<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, Fault> {
        let mut held = self.connection.lock().await.clone();
        let calling = async {
            let mut connection = match held.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let result = command.query_async::<Value>(&mut connection).await;
            *self.connection.lock().await = match &result {
                Err(error) if is_broken(error) => None,
                _ => Some(connection),
            };
            let value = result.map_err(|error| explain(&error))?;
            redis::from_redis_value::<T>(value).map_err(|error| FaultCategory::Other.fault(error.to_string()))
        };
        let Ok(result) = timeout(PATIENCE, calling).await else {
            *self.connection.lock().await = None;
            return Err(FaultCategory::Unreachable.fault(format!("no answer within {PATIENCE:?}")));
        };
        result
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let dial = self.dial.borrow().clone();
        let mut last = FaultCategory::Concealed.fault("its address is concealed");
        for address in dial {
            match connect(&self.plan, &self.dialler, &address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = explain(&error).at(&address),
            }
        }
        Err(last)
    }
}

/// `cmdstat_flushall:calls=2,...` of INFO commandstats.
fn calls_of(stats: &str, command: &str) -> u64 {
    stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command)?.strip_prefix(":calls="))
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap_or(0)
}

/// What a node's `notify-keyspace-events` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notifications {
    /// As last read; `None` if it cannot be read.
    pub flags: Option<String>,
    /// The flags that are needed are there. Unknown counts as yes: pushes may come.
    pub sufficient: bool,
    /// How often they were missing for a while: each is a gap.
    pub lapses: u64,
    /// What is wrong, and what to do.
    pub fault: Option<NotificationFault>,
}

/// Watches a node's settings.
pub struct Clerk;

impl Clerk {
    /// What it finds, and the task that must be run until `stop`. `again` asks for a check at once. Where changes are learnt of by
    /// client tracking alone there is nothing to find.
    pub fn watch(
        id: NodeId,
        plan: &RedisPlan,
        control: Arc<Control>,
        dial: watch::Receiver<Dial>,
        again: Arc<Notify>,
        stop: CancellationToken,
    ) -> (watch::Receiver<Notifications>, impl Future<Output = ()> + Send + use<>) {
        let (publish, found) = watch::channel(Notifications::default());
        let (wanted, tracked) = (plan.keyspace_events, plan.change_source == ChangeSource::ClientTracking);
        let task = async move {
            if tracked {
                stop.cancelled().await;
            }
            while !stop.is_cancelled() {
                let address = dial.borrow().first().map_or_else(|| id.to_string(), ToString::to_string);
                let checking = check(&control, wanted, &address);
                let Some(now) = stop.run_until_cancelled(checking).await else { break };
                publish.send_if_modified(|before| note(before, now));
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = again.notified() => {}
                    () = tokio::time::sleep(CHECK_EVERY) => {}
                }
            }
        };
        (found, task)
    }
}

/// What one check found.
enum Found {
    Flags {
        flags: String,
        repaired: bool,
        fault: Option<NotificationFault>,
    },
    /// CONFIG GET is denied: nobody can tell.
    Unknown(NotificationFault),
    /// The node does not answer; its other connection will tell.
    Nothing,
}

/// Folds a check into what is known; says whether that changed.
fn note(before: &mut Notifications, found: Found) -> bool {
    let mut now = before.clone();
    match found {
        Found::Nothing => {}
        Found::Unknown(fault) => {
            now = Notifications { flags: None, sufficient: true, fault: Some(fault), ..now };
        }
        Found::Flags { flags, repaired, fault } => {
            let sufficient = missing(&flags).is_empty();
            // Missing until now, and missing between two checks, is the same: what was pushed meanwhile was not.
            now.lapses += u64::from(sufficient && (repaired || (before.flags.is_some() && !before.sufficient)));
            now = Notifications { flags: Some(flags), sufficient, fault, ..now };
        }
    }
    let changed = now != *before;
    *before = now;
    changed
}

async fn check(control: &Control, wanted: KeyspaceEvents, address: &str) -> Found {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("notify-keyspace-events");
    let flags = match control.call::<Vec<String>>(&get).await {
        Ok(pair) => pair.get(1).cloned().unwrap_or_default(),
        // Some that are run for others do not know CONFIG.
        Err(error) if error.category == FaultCategory::Permission || error.message.contains("unknown command") => {
            let fix = match error.category {
                FaultCategory::Permission => "grant +config|get",
                _ => "see that your provider's parameter group has Kgxe$",
            };
            let message = format!("notify-keyspace-events of {address} cannot be read ({error}); {fix}");
            return Found::Unknown(NotificationFault::CannotInspect { message: message.into() });
        }
        Err(_) => return Found::Nothing,
    };
    let lacking = missing(&flags);
    if lacking.is_empty() {
        return Found::Flags { flags, repaired: false, fault: None };
    }
    let complete = complete_flags(&flags);
    let command = format!("CONFIG SET notify-keyspace-events {complete}");
    let fix = format!("run {command} on {address}");
    let disabled = |flags, message: String| {
        let fault = NotificationFault::Disabled { command: command.clone(), message: message.into() };
        Found::Flags { flags, repaired: false, fault: Some(fault) }
    };
    match wanted {
        KeyspaceEvents::Observe => {
            let message =
                format!("notify-keyspace-events is \"{flags}\": {fix}, or set spec.redis.keyspaceEvents: Enable");
            disabled(flags, message)
        }
        KeyspaceEvents::Enable => {
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("notify-keyspace-events").arg(&complete);
            match control.call::<Value>(&set).await {
                Ok(_) => Found::Flags { flags: complete, repaired: true, fault: None },
                Err(error) => {
                    let message = format!(
                        "notify-keyspace-events is \"{flags}\" and cannot be set ({error}): {fix}, or grant +config|set"
                    );
                    disabled(flags, message)
                }
            }
        }
    }
}

/// The flags that are needed and are not there (DESIGN rule 5).
pub fn missing(flags: &str) -> String {
    "Kgxe$".chars().filter(|flag| !(flags.contains(*flag) || (*flag != 'K' && flags.contains('A')))).collect()
}

/// These flags and those that are lacking. `$` comes last: anywhere else a shell takes it and what follows for a variable.
pub fn complete_flags(flags: &str) -> String {
    let all = format!("{flags}{}", missing(flags));
    let (dollar, rest): (String, String) = all.chars().partition(|flag| *flag == '$');
    rest + &dollar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_flags_are_named_and_those_there_are_kept() {
        assert_eq!(missing(""), "Kgxe$");
        assert_eq!(missing("AK"), "");
        assert_eq!(missing("AE"), "K");
        assert_eq!(missing("gxE$"), "Ke");
        for (flags, complete) in [("", "Kgxe$"), ("gxE$", "gxEKe$"), ("K$", "Kgxe$"), ("AE", "AEK")] {
            assert_eq!(complete_flags(flags), complete, "{flags}");
        }
    }

    #[test]
    fn flush_calls_are_read_from_commandstats() {
        let stats = "# Commandstats\r\ncmdstat_flushall:calls=3,usec=9\r\ncmdstat_flushdb:calls=1,usec=2\r\n";
        assert_eq!((calls_of(stats, "flushall"), calls_of(stats, "swapdb")), (3, 0));
    }

    #[test]
    fn flags_that_come_back_are_a_gap_and_flags_there_from_the_start_are_none() {
        let flags = |flags: &str, repaired| Found::Flags { flags: flags.into(), repaired, fault: None };
        let mut notifications = Notifications::default();
        assert!(note(&mut notifications, flags("AK", false)));
        assert_eq!((notifications.sufficient, notifications.lapses), (true, 0));
        assert!(!note(&mut notifications, flags("AK", false)));
        note(&mut notifications, flags("", false));
        assert!(!notifications.sufficient);
        note(&mut notifications, flags("AK", false));
        assert_eq!((notifications.sufficient, notifications.lapses), (true, 1));
        note(&mut notifications, flags("AK", true));
        assert_eq!(notifications.lapses, 2);
    }
}
