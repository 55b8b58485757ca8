//! A key that expires is told of.

use std::time::{Duration, Instant};

use redis_expiry_operator::{commands::demo::cluster::Cluster, model::Key};
use tokio::time::sleep;

use crate::{bed::given::order, support::receiver::Receiver};

const PATIENCE: Duration = Duration::from_secs(20);

pub async fn delivers(cluster: &Cluster, receiver: &Receiver, key: &str) {
    order(cluster, key, Duration::from_millis(300)).await;
    told_of(receiver, key).await;
}

pub async fn told_of(receiver: &Receiver, key: &str) {
    let give_up = Instant::now() + PATIENCE;
    while !receiver.received().iter().any(|received| received.key == Key::from(key)) {
        assert!(Instant::now() < give_up, "{key} is not told of; what came is {:?}", receiver.received());
        sleep(Duration::from_millis(20)).await;
    }
}
