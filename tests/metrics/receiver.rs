//! A webhook that answers as it is told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

pub struct Receiver {
    pub port: u16,
    status: Arc<AtomicU16>,
    received: Arc<AtomicUsize>,
}

/// No answer at all.
pub const SILENT: u16 = 0;

impl Receiver {
    /// Answers 200.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, received) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicUsize::new(0)));
        let (now, count) = (Arc::clone(&status), Arc::clone(&received));
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (now, count) = (Arc::clone(&now), Arc::clone(&count));
                thread::spawn(move || answer(&stream, &now, &count));
            }
        });
        Self { port, status, received }
    }
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }
    pub fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: &TcpStream, status: &AtomicU16, received: &AtomicUsize) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        if length == 0 || reader.read_exact(&mut vec![0; length]).is_err() {
            return;
        }
        received.fetch_add(1, Ordering::SeqCst);
        let status = status.load(Ordering::SeqCst);
        if status == SILENT {
            thread::sleep(Duration::from_secs(60));
            return;
        }
        if stream.write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n").as_bytes()).is_err() {
            return;
        }
    }
}
