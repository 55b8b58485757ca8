//! An API server that answers what the test wants, when it wants it.

use std::time::Duration;

use kube::{Client, Config};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

pub struct Api {
    pub client: Client,
    asked: mpsc::UnboundedReceiver<Asked>,
    _serving: JoinSet<()>,
}

/// One request; it waits for its answer.
pub struct Asked {
    /// `GET /api/v1/...`, without what follows `?`.
    pub what: String,
    pub body: Value,
    answer: oneshot::Sender<(u16, Value)>,
}

impl Asked {
    pub fn answer(self, status: u16, body: Value) {
        self.answer.send((status, body)).unwrap();
    }
}

impl Api {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        config.default_retry = false;
        let (tell, asked) = mpsc::unbounded_channel();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, tell.clone()));
            }
        });
        Self { client: Client::try_from(config).unwrap(), asked, _serving: serving }
    }

    /// The next request.
    pub async fn next(&mut self) -> Asked {
        let asked = timeout(Duration::from_secs(10), self.asked.recv()).await;
        asked.expect("something is asked").unwrap()
    }

    /// A request that nobody has looked at.
    pub fn waiting(&mut self) -> Option<String> {
        self.asked.try_recv().ok().map(|asked| asked.what)
    }
}

async fn serve(stream: TcpStream, tell: mpsc::UnboundedSender<Asked>) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let header = line.trim().to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if header.is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let what = head.split(" HTTP/").next().unwrap().split('?').next().unwrap().to_owned();
    let (answer, answered) = oneshot::channel();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    if tell.send(Asked { what, body, answer }).is_err() {
        return;
    }
    let Ok((status, body)) = answered.await else { return };
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    let _ = stream.flush().await;
}
