//! Runs a script where a slot is, and follows it there.
//!
//! The `redis` crate's `ClusterConnection` was considered. It learns of a slot's new owner for all its callers together and
//! holds every request meanwhile, so that one hung node delays the healthy ones; and it repeats what it takes for lost by
//! rules of its own. A partition is one slot and has one call under way: to follow that is less than to bound the other.
//!
//! # Guarantees
//! - A call ends by the given time. One that ended with an error may have been done all the same, even afterwards.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    budget::Budget,
    facts::Facts,
    line::{Heard, Line},
    refusal::{Refusal, classify},
    routes::Routes,
    script::Script,
    servers::{self, Servers},
    settings::{Mode, Reach, Settings},
};
use crate::{
    dial::Connection,
    model::{Address, Slot},
    store::StoreError,
};

/// Between two attempts: doubled from the first to the second.
const WAIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));
/// Redirections are followed at once so often in a row.
const HOPS: u32 = 4;

/// What is to be run.
pub struct Call<'a> {
    pub slot: Slot,
    pub script: &'a Script,
    pub keys: &'a [String],
    pub args: &'a [Vec<u8>],
}

/// What all stores of a process share: a link for each Redis and credentials, however many listeners it serves, and a bound on what
/// their journals keep.
#[derive(Default)]
pub struct Links {
    links: Mutex<HashMap<Reach, Weak<Link>>>,
    pub(super) budget: Arc<Budget>,
}

impl Links {
    pub(super) fn of(&self, settings: &Settings) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.strong_count() > 0);
        let reach = settings.reach();
        if let Some(link) = links.get(&reach).and_then(Weak::upgrade) {
            return link;
        }
        let link = Arc::new(Link::new(settings.clone()));
        if settings.mode != Mode::Cluster {
            tokio::spawn(servers::watch(Arc::downgrade(&link)));
        }
        links.insert(reach, Arc::downgrade(&link));
        link
    }
}

/// The connections to the nodes of one Redis, shared by all partitions of all its stores. They end with the last of those.
pub struct Link {
    pub(super) settings: Settings,
    pub(super) routes: Routes,
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    /// Held by who asks the nodes who owns what. Why none has said it when they were asked last.
    asking: tokio::sync::Mutex<()>,
    unsaid: Mutex<Option<Refusal>>,
    /// Outside of a cluster.
    pub(super) servers: Servers,
    /// Stores that are being opened: hundreds at once would wait for each other until each is called late.
    pub opening: Semaphore,
}

/// So many stores of one Redis are opened at once: each has a script under way in every partition, and on a slow machine more of
/// them only time each other out.
const OPENED_AT_ONCE: usize = 4;

/// What is shared of a node.
#[derive(Default)]
struct Node {
    line: Line,
    /// What it said of itself, and when; or that it may not be asked.
    facts: tokio::sync::Mutex<Option<(Instant, Result<Facts, StoreError>)>>,
}

impl Link {
    pub fn new(settings: Settings) -> Self {
        let routes = Routes::new(settings.addresses.clone(), settings.address_map.clone());
        let opening = Semaphore::new(OPENED_AT_ONCE);
        let (nodes, asking, servers) = (Mutex::default(), tokio::sync::Mutex::default(), Servers::new(&settings));
        Self { settings, routes, nodes, asking, unsaid: Mutex::default(), servers, opening }
    }

    /// Runs it on the slot's master, wherever that comes to be, until `until`.
    pub async fn run(&self, call: &Call<'_>, until: Instant) -> Result<Vec<Value>, StoreError> {
        let mut refused = Refusal::Away("it was not reached in time".to_owned());
        let mut whole = call.script.whole;
        let mut hops = 0;
        let mut asking: Option<Address> = None;
        let mut wait = WAIT.0;
        while Instant::now() < until {
            let asked = asking.take();
            let address = match &asked {
                Some(address) => address.clone(),
                None => match self.owner(call.slot, until).await {
                    Ok(address) => address,
                    Err(why @ Refusal::Lasting(_)) => return Err(why.into_error()),
                    // What was found before says more than that the time was up.
                    Err(_) if hops > 0 && Instant::now() >= until => break,
                    Err(why) => {
                        refused = why;
                        pause(&mut wait, until).await;
                        continue;
                    }
                },
            };
            let command = if whole { eval(call) } else { evalsha(call) };
            refused = match self.attempt(&address, &command, asked.is_some(), until).await {
                Ok(Value::Array(values)) => return Ok(values),
                Ok(other) => return Err(StoreError::Refused(format!("{address}: a script answered {other:?}"))),
                Err(Refusal::Away(_)) if hops > 0 && Instant::now() >= until => break,
                Err(why) => why,
            };
            match &refused {
                Refusal::Lasting(_) => break,
                Refusal::NoScript if !whole => {
                    whole = true;
                    asking = asked;
                    continue;
                }
                Refusal::Moved(to) => self.routes.moved(call.slot, to, &address),
                Refusal::Ask(to) => asking = self.routes.read(to, &address),
                Refusal::Away(_) | Refusal::Egress(_) => self.routes.doubt(call.slot, &address),
                Refusal::NoScript | Refusal::Busy(_) => {}
            }
            hops += 1;
            if !matches!(refused, Refusal::Moved(_) | Refusal::Ask(_)) || hops > HOPS {
                pause(&mut wait, until).await;
            }
        }
        Err(refused.into_error())
    }

    /// What the slot's master says of itself, no older than `age`, and its address. Asked once for all who want to know.
    pub async fn facts(&self, slot: Slot, age: Duration, until: Instant) -> Result<(Address, Facts), StoreError> {
        let mut wait = WAIT.0;
        let mut refused = Refusal::Away("it does not say how it is set up".to_owned());
        let mut asked = false;
        loop {
            match timeout_at(until, self.facts_once(slot, age, until)).await {
                Ok(Ok(found)) => return Ok(found),
                // What was found before says more.
                Ok(Err(Refusal::Away(_))) if asked && Instant::now() >= until => {}
                Ok(Err(why)) => refused = why,
                Err(_) => {}
            }
            asked = true;
            if matches!(refused, Refusal::Lasting(_)) || Instant::now() >= until {
                return Err(refused.into_error());
            }
            pause(&mut wait, until).await;
        }
    }

    async fn facts_once(&self, slot: Slot, age: Duration, until: Instant) -> Result<(Address, Facts), Refusal> {
        let address = self.owner(slot, until).await?;
        let node = self.node(&address);
        let mut known = node.facts.lock().await;
        let facts = match &*known {
            Some((at, facts)) if at.elapsed() < age => facts.clone(),
            _ => {
                let facts = match self.ask_facts(&address, until).await {
                    Ok(facts) => Ok(facts),
                    Err(Refusal::Lasting(error)) => Err(error),
                    Err(refused) => {
                        if matches!(refused, Refusal::Away(_) | Refusal::Egress(_)) {
                            self.routes.doubt(slot, &address);
                        }
                        return Err(refused);
                    }
                };
                *known = Some((Instant::now(), facts.clone()));
                facts
            }
        };
        Ok((address, facts.map_err(Refusal::Lasting)?))
    }

    async fn ask_facts(&self, node: &Address, until: Instant) -> Result<Facts, Refusal> {
        let info = self.info(node, &["memory", "persistence", "replication"], until).await?;
        let facts = Facts::read(&info, None);
        if facts.durable() {
            return Ok(facts);
        }
        let saves = match self.attempt(node, cmd("CONFIG").arg("GET").arg("save"), false, until).await {
            Ok(answer) => redis::from_redis_value::<Vec<String>>(answer).ok(),
            // It need not be allowed.
            Err(Refusal::Lasting(_)) => None,
            Err(refused) => return Err(refused),
        };
        Ok(Facts::read(&info, saves.as_deref()))
    }

    /// These sections of what a node says of itself.
    pub(super) async fn info(&self, node: &Address, sections: &[&str], until: Instant) -> Result<String, Refusal> {
        let mut info = String::new();
        // One by one: before 7.0, INFO takes one section.
        for section in sections {
            let answer = self.attempt(node, cmd("INFO").arg(section), false, until).await?;
            let text: String = redis::from_redis_value(answer).map_err(|error| Refusal::Busy(error.to_string()))?;
            info.push_str(&text);
            info.push('\n');
        }
        Ok(info)
    }

    async fn owner(&self, slot: Slot, until: Instant) -> Result<Address, Refusal> {
        if let Some(owner) = self.routes.owner(slot) {
            return Ok(owner);
        }
        let asking = async {
            let _asking = self.asking.lock().await;
            if let Some(owner) = self.routes.recent(slot) {
                return Ok(owner);
            }
            let answer = self.ask_for(slot, until).await;
            *self.unsaid() = answer.as_ref().err().cloned();
            answer
        };
        let late = |_| {
            // What others have found who had more time says more.
            let unsaid = self.unsaid().clone();
            Err(unsaid.unwrap_or_else(|| Refusal::Away("no node says who owns what".to_owned())))
        };
        timeout_at(until, asking).await.unwrap_or_else(late)
    }

    fn unsaid(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks some nodes who owns what, one partition for all.
    async fn ask_for(&self, slot: Slot, until: Instant) -> Result<Address, Refusal> {
        if self.settings.mode != Mode::Cluster {
            return self.servers.ask(self, until).await;
        }
        let mut refused = Refusal::Away("it has no nodes".to_owned());
        for node in self.routes.candidates(slot) {
            // Another may say it sooner than one that has much to do. Long enough to tell whether it answers anybody.
            let until = until.min(Instant::now() + self.settings.attempt * 5 / 4);
            match self.attempt(&node, cmd("CLUSTER").arg("SLOTS"), false, until).await {
                Ok(answer) => return self.routes.learn(&answer, &node, slot),
                Err(why @ Refusal::Lasting(_)) => return Err(why),
                Err(why) => refused = why,
            }
        }
        Err(refused)
    }

    async fn attempt(&self, node: &Address, command: &Cmd, asking: bool, until: Instant) -> Result<Value, Refusal> {
        let silent = || Refusal::Away(format!("{node} does not answer"));
        let shared = self.node(node);
        let opening = timeout_at(until, shared.line.open(node, &self.settings, &self.routes)).await;
        let open = opening.unwrap_or_else(|_| Err(silent()))?;
        let sent = Instant::now();
        let mut connection = open.connection.clone();
        match self.answer(pin!(send(&mut connection, command, asking)), &open.heard, until).await {
            Ok(Ok(Value::ServerError(error))) => Err(classify(&RedisError::from(error), &node.to_string())),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let refusal = classify(&error, &node.to_string());
                if matches!(refusal, Refusal::Away(_)) {
                    shared.line.end(&open).await;
                }
                Err(refusal)
            }
            // What was sent may still be done.
            Err(Unanswered::Silent) => {
                shared.line.end(&open).await;
                Err(silent())
            }
            Err(Unanswered::Busy) if open.heard.last() > sent => {
                Err(Refusal::Busy(format!("{node} answers others, but has not come to what it was asked in time")))
            }
            Err(Unanswered::Busy) => Err(Refusal::Busy(format!("{node} has not answered in the time that was left"))),
        }
    }

    /// Waits until `until`, or until nobody has been answered for the time of an attempt.
    async fn answer<T>(
        &self,
        mut sent: Pin<&mut impl Future<Output = T>>,
        heard: &Heard,
        until: Instant,
    ) -> Result<T, Unanswered> {
        let mut limit = Instant::now() + self.settings.attempt;
        loop {
            if let Ok(answer) = timeout_at(until.min(limit), &mut sent).await {
                heard.answered();
                return Ok(answer);
            }
            limit = limit.max(heard.last() + self.settings.attempt);
            match Instant::now() {
                now if now >= limit => return Err(Unanswered::Silent),
                now if now >= until => return Err(Unanswered::Busy),
                _ => {}
            }
        }
    }

    fn node(&self, address: &Address) -> Arc<Node> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(nodes.entry(address.clone()).or_default())
    }
}

/// Why there was no answer.
enum Unanswered {
    /// Nobody got one.
    Silent,
    /// Others did, or it was not waited for long enough to tell.
    Busy,
}

async fn send(connection: &mut Connection, command: &Cmd, asking: bool) -> RedisResult<Value> {
    if !asking {
        return connection.send_packed_command(command).await;
    }
    let mut both = Pipeline::new();
    both.cmd("ASKING").add_command(command.clone());
    let mut answers = connection.send_packed_commands(&both, 0, 2).await?;
    let answer = answers.pop().unwrap_or(Value::Nil);
    // A right that is missing for it must not look like a slot that goes to and fro.
    Ok(answers.pop().filter(|asked| matches!(asked, Value::ServerError(_))).unwrap_or(answer))
}

async fn pause(wait: &mut Duration, until: Instant) {
    let jitter = rand::random_range(0.5..1.0);
    sleep_until(until.min(Instant::now() + wait.mul_f64(jitter))).await;
    *wait = WAIT.1.min(*wait * 2);
}

fn evalsha(call: &Call<'_>) -> Cmd {
    filled(cmd("EVALSHA"), call.script.hash.as_bytes(), call)
}

fn eval(call: &Call<'_>) -> Cmd {
    filled(cmd("EVAL"), call.script.source.as_bytes(), call)
}

fn filled(mut command: Cmd, script: &[u8], call: &Call<'_>) -> Cmd {
    command.arg(script).arg(call.keys.len()).arg(call.keys);
    for arg in call.args {
        command.arg(arg.as_slice());
    }
    command
}
