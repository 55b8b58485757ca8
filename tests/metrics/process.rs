//! The built binary with `run --admin-address`.

use std::{
    cell::OnceCell,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::page::Page;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Process {
    folder: tempfile::TempDir,
    child: Child,
    lines: Receiver<Value>,
    address: OnceCell<String>,
}

impl Process {
    pub fn start(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("listener.yaml");
        fs::write(&file, yaml).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_redis-expiry-operator"))
            .args([
                "run",
                "--output",
                "json",
                "--drain-timeout",
                "20s",
                "--admin-address",
                "127.0.0.1:0",
                "--state-dir",
            ])
            .arg(folder.path().join("state"))
            .arg("-f")
            .arg(file)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap());
            }
        });
        let process = Self { folder, child, lines, address: OnceCell::new() };
        let listening = process.says("listening");
        process.address.set(listening["adminAddress"].as_str().unwrap().to_owned()).unwrap();
        process
    }

    /// The next line with this event.
    pub fn says(&self, event: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|error| panic!("{event} was not said: {error}"));
            if line["event"] == event {
                return line;
            }
        }
    }

    pub fn declare(&self, yaml: &str) {
        fs::write(self.folder.path().join("listener.yaml"), yaml).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub fn ended(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address.get().unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// The page, once it is as it should be.
    pub fn page(&self, what: &str, so: impl Fn(&Page) -> bool) -> Page {
        let until = Instant::now() + PATIENCE;
        loop {
            let (status, text) = self.get("/metrics");
            assert_eq!(status, 200);
            let page = Page::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
            if so(&page) {
                return page;
            }
            assert!(Instant::now() < until, "never came true: {what}\n{text}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
