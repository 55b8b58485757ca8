//! Our glob against the server's own, on random patterns and keys.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step fails the test")]

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use redis_expiry_operator::plan::Glob;

struct Server {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    async fn start() -> (Self, redis::aio::MultiplexedConnection) {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is on PATH");
        let server = Self { process, port, _folder: folder };
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(connection) => return (server, connection),
                Err(error) => assert!(Instant::now() < until, "redis-server does not answer: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn random_bytes(random: &mut StdRng, alphabet: &[u8], length: std::ops::RangeInclusive<usize>) -> Vec<u8> {
    let length = random.random_range(length);
    (0..length).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect()
}

async fn scan(connection: &mut redis::aio::MultiplexedConnection, pattern: &[u8]) -> Vec<Vec<u8>> {
    let (cursor, mut keys): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
        .arg(0)
        .arg("MATCH")
        .arg(pattern)
        .arg("COUNT")
        .arg(100_000)
        .query_async(connection)
        .await
        .unwrap();
    assert_eq!(cursor, 0, "one SCAN covers all keys");
    keys.sort();
    keys.dedup();
    keys
}

#[tokio::test]
async fn our_glob_selects_the_keys_that_the_server_selects() {
    let (_server, mut connection) = Server::start().await;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut keys: Vec<Vec<u8>> =
        (0..400).map(|_| random_bytes(&mut random, b"abcd]-^*[?\\\x00\x80\xff", 1..=6)).collect();
    keys.sort();
    keys.dedup();
    let mut set = redis::cmd("MSET");
    for key in &keys {
        set.arg(key).arg("1");
    }
    let () = set.query_async(&mut connection).await.unwrap();

    let mut selected = 0;
    for _ in 0..4_000 {
        let pattern = random_bytes(&mut random, b"***??[[[]]^^--\\\\aabcd\x80\xff\x00", 1..=9);
        let ours = Glob::new(&pattern).unwrap();
        let theirs = scan(&mut connection, &pattern).await;
        let mine: Vec<Vec<u8>> = keys.iter().filter(|key| ours.matches(key)).cloned().collect();
        selected += mine.len();
        assert_eq!(mine, theirs, "pattern {}", pattern.escape_ascii());
    }
    assert!(selected > 4_000, "the patterns select too little to prove anything: {selected}");
}

#[tokio::test]
async fn a_range_over_bytes_above_ascii_is_the_servers_own() {
    let (_server, mut connection) = Server::start().await;
    for byte in 0..=255_u8 {
        let () = redis::cmd("SET").arg([byte].as_slice()).arg("1").query_async(&mut connection).await.unwrap();
    }
    for pattern in [b"[a-\xff]".as_slice(), b"[\xff-a]", b"[\x80-\x90]", b"[^\x80-\x90]", b"[\x00-\x7f]"] {
        let ours = Glob::new(pattern).unwrap();
        let mine: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).filter(|key| ours.matches(key)).collect();
        assert_eq!(mine, scan(&mut connection, pattern).await, "pattern {}", pattern.escape_ascii());
    }
}
