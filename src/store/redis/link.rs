//! Runs a script where a slot is, and follows it there.
//!
//! The `redis` crate's `ClusterConnection` was considered. It learns of a slot's new owner for all its callers together and
//! holds every request meanwhile, so that one hung node delays the healthy ones; and it repeats what it takes for lost by
//! rules of its own. A partition is one slot and has one call under way: to follow that is less than to bound the other.
//!
//! # Guarantees
//! - A call ends by the given time. One that ended with an error may have been done all the same, even afterwards.

use std::{collections::HashMap, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo as _, Pipeline, RedisConnectionInfo,
    RedisError, RedisResult, Value, aio::MultiplexedConnection, cmd,
};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    refusal::{Refusal, classify},
    routes::Routes,
    script::Script,
    settings::{Mode, Settings},
};
use crate::{
    model::{Address, Slot},
    store::StoreError,
};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_millis(750);
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

/// The connections to the nodes of one Redis, shared by all partitions.
pub struct Link {
    settings: Settings,
    routes: Routes,
    connections: Mutex<HashMap<Address, MultiplexedConnection>>,
    asking: Mutex<()>,
}

impl Link {
    pub fn new(settings: Settings) -> Self {
        let routes = Routes::new(settings.addresses.clone(), settings.address_map.clone());
        Self { settings, routes, connections: Mutex::default(), asking: Mutex::default() }
    }

    /// Runs it on the slot's master, wherever that comes to be, until `until`.
    pub async fn run(&self, call: &Call<'_>, until: Instant) -> Result<Vec<Value>, StoreError> {
        let mut refused = Refusal::Away("it was not reached in time".to_owned());
        let mut whole = false;
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

    /// `INFO memory` of the slot's master, and its address.
    pub async fn memory_info(&self, slot: Slot, until: Instant) -> Result<(Address, String), StoreError> {
        let mut wait = WAIT.0;
        loop {
            let refused = match self.memory_info_once(slot, until).await {
                Ok(found) => return Ok(found),
                Err(refused) => refused,
            };
            if matches!(refused, Refusal::Lasting(_)) || Instant::now() >= until {
                return Err(refused.into_error());
            }
            pause(&mut wait, until).await;
        }
    }

    async fn memory_info_once(&self, slot: Slot, until: Instant) -> Result<(Address, String), Refusal> {
        let address = self.owner(slot, until).await?;
        let answer = self.attempt(&address, cmd("INFO").arg("memory"), false, until).await;
        if matches!(answer, Err(Refusal::Away(_) | Refusal::Egress(_))) {
            self.routes.doubt(slot, &address);
        }
        let text = redis::from_redis_value(answer?).map_err(|error| Refusal::Busy(error.to_string()))?;
        Ok((address, text))
    }

    async fn owner(&self, slot: Slot, until: Instant) -> Result<Address, Refusal> {
        if self.settings.mode == Mode::Single {
            return self.settings.addresses.first().cloned().ok_or_else(|| Refusal::Away("no address".to_owned()));
        }
        if let Some(owner) = self.routes.owner(slot) {
            return Ok(owner);
        }
        let late = |_| Err(Refusal::Away("no node says who owns what".to_owned()));
        timeout_at(until, self.ask_for(slot, until)).await.unwrap_or_else(late)
    }

    /// Asks some nodes who owns what, one partition for all.
    async fn ask_for(&self, slot: Slot, until: Instant) -> Result<Address, Refusal> {
        let _asking = self.asking.lock().await;
        if let Some(owner) = self.routes.recent(slot) {
            return Ok(owner);
        }
        let mut refused = Refusal::Away("it has no nodes".to_owned());
        for node in self.routes.candidates(slot) {
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
        let mut connection = timeout_at(until, self.connection(node)).await.unwrap_or_else(|_| Err(silent()))?;
        let limit = until.min(Instant::now() + self.settings.attempt);
        let answer = timeout_at(limit, send(&mut connection, command, asking)).await;
        match answer {
            Ok(Ok(Value::ServerError(error))) => Err(classify(&RedisError::from(error), &node.to_string())),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let refusal = classify(&error, &node.to_string());
                if matches!(refusal, Refusal::Away(_)) {
                    self.connections.lock().await.remove(node);
                }
                Err(refusal)
            }
            Err(_) => {
                // What was sent may still be done.
                self.connections.lock().await.remove(node);
                Err(silent())
            }
        }
    }

    async fn connection(&self, node: &Address) -> Result<MultiplexedConnection, Refusal> {
        if let Some(connection) = self.connections.lock().await.get(node) {
            return Ok(connection.clone());
        }
        // Not under the lock: a hung node must not keep others from theirs.
        let connecting = timeout(CONNECT, self.connect(node)).await;
        let silent = |_| Err(Refusal::Away(format!("{node} does not take connections")));
        let connected =
            connecting.map_or_else(silent, |made| made.map_err(|error| classify(&error, &node.to_string())));
        Ok(self.connections.lock().await.entry(node.clone()).or_insert(connected?).clone())
    }

    async fn connect(&self, node: &Address) -> RedisResult<MultiplexedConnection> {
        let mut login = RedisConnectionInfo::default();
        if let Some(username) = &self.settings.username {
            login = login.set_username(username);
        }
        if let Some(password) = &self.settings.password {
            login = login.set_password(password);
        }
        let info =
            ConnectionAddr::Tcp(node.host.to_string(), node.port).into_connection_info()?.set_redis_settings(login);
        let limits = AsyncConnectionConfig::new()
            .set_dns_resolver(self.settings.dialler.clone())
            .set_connection_timeout(Some(CONNECT))
            // Longer than we wait ourselves.
            .set_response_timeout(Some(self.settings.attempt * 2));
        Client::open(info)?.get_multiplexed_async_connection_with_config(&limits).await
    }

    pub async fn close(self: Arc<Self>) {
        self.connections.lock().await.clear();
    }
}

async fn send(connection: &mut MultiplexedConnection, command: &Cmd, asking: bool) -> RedisResult<Value> {
    if !asking {
        return connection.send_packed_command(command).await;
    }
    let mut both = Pipeline::new();
    both.cmd("ASKING").add_command(command.clone());
    let mut answers = connection.send_packed_commands(&both, 0, 2).await?;
    Ok(answers.pop().unwrap_or(Value::Nil))
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
