//! How long our keys live (DESIGN section 5): where Redis evicts what has a TTL, they have none; where it evicts nothing, one of
//! 14 days, renewed daily, so that nothing is left behind for ever; where it may evict anything, the store is refused.

use std::time::Duration;

use tokio::time::Instant;

use super::{jobs::text, script, worker::Worker};
use crate::{
    model::{Address, info_field},
    store::StoreError,
};

/// How long our keys live without us.
const LIFETIME: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How often that is renewed.
const RENEWAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What a server does when its memory is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    Nothing,
    EvictsVolatile,
    EvictsAll(String),
    /// It does not say: no TTL is the safe side.
    Unknown,
}

impl Policy {
    /// Reads `INFO memory`.
    pub fn read(info: &str) -> Self {
        match info_field(info, "maxmemory_policy") {
            Some("noeviction") => Self::Nothing,
            Some(policy) if policy.starts_with("volatile-") => Self::EvictsVolatile,
            Some(policy) if policy.starts_with("allkeys-") => Self::EvictsAll(policy.to_owned()),
            _ => Self::Unknown,
        }
    }

    /// The policy of `node`, unless it is one that a ledger must not be trusted to.
    pub fn trusted(self, node: &Address) -> Result<Self, StoreError> {
        match self {
            Self::EvictsAll(policy) => Err(StoreError::Evicts { node: node.to_string(), policy }),
            policy => Ok(policy),
        }
    }

    /// `None`: for ever.
    fn lifetime(&self) -> Option<Duration> {
        (*self == Self::Nothing).then_some(LIFETIME)
    }
}

/// When our keys were last given a lifetime, and which.
pub(super) struct Upkeep {
    set: Option<(Option<Duration>, Instant)>,
    next: Instant,
}

impl Upkeep {
    pub fn new(now: Instant) -> Self {
        Self { set: None, next: now }
    }
    pub fn next(&self) -> Instant {
        self.next
    }
    /// Keys were made anew.
    pub fn again(&mut self) {
        self.set = None;
        self.next = Instant::now();
    }
    fn stale(&self, lifetime: Option<Duration>, now: Instant) -> bool {
        let fresh = |(set, at): (Option<Duration>, Instant)| set == lifetime && now.duration_since(at) < RENEWAL;
        !self.set.is_some_and(fresh)
    }
}

impl Worker {
    pub async fn keep_up(&mut self, now: Instant) {
        if now < self.upkeep.next {
            return;
        }
        self.upkeep.next = now + self.shared.settings.policy_check;
        match self.look_after(now).await {
            Ok(()) => {}
            // That it may be evicted, or that it is denied to us, is told by `durability` and by whoever writes.
            Err(error) => tracing::debug!(partition = self.index, %error, "The lifetime of keys was not renewed."),
        }
    }

    /// The server's policy, unless it is one that the ledger must not be trusted to.
    pub async fn check_policy(&self, now: Instant) -> Result<Policy, StoreError> {
        let until = now + self.shared.settings.patience;
        // A little less than until the next look, which is to be of its own.
        let age = self.shared.settings.policy_check.mul_f64(0.9);
        match self.shared.link.facts(self.names.slot, age, until).await {
            Ok((node, facts)) => facts.policy.trusted(&node),
            Err(StoreError::Denied(_)) => Ok(Policy::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Gives our keys the lifetime that goes with the server's policy.
    pub async fn look_after(&mut self, now: Instant) -> Result<(), StoreError> {
        let policy = self.check_policy(now).await;
        let lifetime = match &policy {
            Ok(policy) => policy.lifetime(),
            // What may be evicted is at least not to end by itself as well.
            Err(StoreError::Evicts { .. }) => None,
            Err(error) => return Err(error.clone()),
        };
        if self.upkeep.stale(lifetime, now) {
            let milliseconds = lifetime.map_or(0, |lifetime| lifetime.as_millis());
            self.call(&script::EXPIRE, &[text(milliseconds)]).await?;
            self.upkeep.set = Some((lifetime, now));
        }
        policy.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_how_long_our_keys_live() {
        let of =
            |policy: &str| Policy::read(&format!("# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:{policy}\r\nx:1\r\n"));
        assert_eq!(of("noeviction").lifetime(), Some(LIFETIME));
        assert_eq!(of("volatile-lru"), Policy::EvictsVolatile);
        assert_eq!(of("allkeys-lfu"), Policy::EvictsAll("allkeys-lfu".into()));
        assert_eq!(Policy::read(""), Policy::Unknown);
        assert_eq!((of("volatile-ttl").lifetime(), Policy::Unknown.lifetime()), (None, None));
    }

    #[test]
    fn a_lifetime_is_renewed_daily_and_when_it_is_another() {
        let now = Instant::now();
        let mut upkeep = Upkeep::new(now);
        assert!(upkeep.stale(None, now));
        upkeep.set = Some((None, now));
        assert!(!upkeep.stale(None, now + RENEWAL / 2) && upkeep.stale(Some(LIFETIME), now));
        assert!(upkeep.stale(None, now + RENEWAL));
    }
}
