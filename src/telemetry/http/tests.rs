use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use super::{bounded::CONNECTIONS, *};

struct Server {
    address: SocketAddr,
    probes: Probes,
    stop: CancellationToken,
    task: JoinSet<io::Result<()>>,
    _snapshots: watch::Sender<Snapshots>,
}

impl Server {
    async fn start() -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, snapshots) = watch::channel(Snapshots::new());
        let (probes, stop) = (Probes::default(), CancellationToken::new());
        let served = Served { snapshots, probes: probes.clone(), operator: None };
        let mut task = JoinSet::new();
        task.spawn(serve(listener, served, stop.clone()));
        Self { address, probes, stop, task, _snapshots: sender }
    }

    /// The whole answer, which ends where the connection does.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await;
        read.expect("the server closes the connection after its answer").unwrap();
        answer
    }
}

#[tokio::test]
async fn probes_follow_their_gates_and_hearts() {
    let server = Server::start().await;
    let gate = server.probes.gate("the files were read");
    let answer = server.ask("GET /readyz").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("[-] the files were read: not yet\nnot ok\n"),
        "{answer}"
    );
    gate.open();
    let answer = server.ask("GET /readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("[+] the files were read\nok\n"), "{answer}");
    let heart = server.probes.heart("the reloader", Duration::from_secs(60));
    assert!(server.ask("GET /livez").await.starts_with("HTTP/1.1 200"));
    drop(heart);
    let answer = server.ask("GET /livez").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("[-] the reloader: it has ended\n"), "{answer}");
}

#[tokio::test]
async fn metrics_come_in_the_format_that_was_asked_for_and_other_requests_are_refused() {
    let server = Server::start().await;
    let text = server.ask("GET /metrics").await;
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{text}");
    let open = server.ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\nX:").await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    let page = server.ask("GET /").await;
    assert!(
        page.contains("content-security-policy: default-src 'none'") && page.contains("No listener runs here."),
        "{page}"
    );
    for (request, status) in [("GET /secrets", 404), ("POST /metrics", 405), ("DELETE /", 405)] {
        let answer = server.ask(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{request}: {answer}");
    }
}

#[tokio::test]
async fn connections_are_bounded_and_those_that_ask_nothing_make_room_for_a_probe() {
    let server = Server::start().await;
    let mut cut = JoinSet::new();
    for number in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Half a question is none.
        stream.write_all(b"GET /livez HTT").await.unwrap();
        // Whether it ends with an error or without is the server's affair.
        cut.spawn(async move {
            stream.read(&mut [0]).await.unwrap_or_default();
            number
        });
    }
    let answer = timeout(Duration::from_secs(1), server.ask("GET /livez")).await.expect("a probe has a second");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(cut.join_next().await.unwrap().unwrap(), 0, "the oldest makes room");
    assert!(cut.try_join_next().is_none(), "and no other");
    timeout(bounded::LASTS * 2, async { while cut.join_next().await.is_some() {} }).await.expect("all are cut");
}

/// A listener whose every place is taken, by clients and what serves them, the oldest first.
async fn full() -> (Bounded, SocketAddr, Vec<TcpStream>, Vec<bounded::Brief>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut bounded = Bounded::new(listener);
    let (mut clients, mut served) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        clients.push(TcpStream::connect(address).await.unwrap());
        served.push(axum::serve::Listener::accept(&mut bounded).await.0);
    }
    (bounded, address, clients, served)
}

#[tokio::test]
async fn what_is_being_answered_is_not_cut_for_another() {
    let (mut bounded, address, _clients, mut served) = full().await;
    // All but the second are being answered.
    for (number, connection) in served.iter_mut().enumerate() {
        if number != 1 {
            connection.write_all(b"HTTP/1.1 200 OK").await.unwrap();
        }
    }
    let _late = TcpStream::connect(address).await.unwrap();
    let mut idle = served.remove(1);
    let accepting = tokio::spawn(async move { axum::serve::Listener::accept(&mut bounded).await });
    let ended = timeout(Duration::from_secs(1), idle.read(&mut [0])).await.expect("it is cut");
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(idle);
    timeout(Duration::from_secs(1), accepting).await.expect("there is room").unwrap();
    for connection in &mut served {
        connection.write_all(b"\r\n").await.unwrap();
    }
}

#[tokio::test]
async fn of_those_that_are_answered_who_has_stopped_reading_makes_room() {
    let (mut bounded, address, _clients, mut served) = full().await;
    for connection in &mut served {
        connection.write_all(b"HTTP/1.1 200 OK").await.unwrap();
    }
    tokio::time::sleep(bounded::STALLED / 2).await;
    // The oldest reads on; the others read nothing more.
    served[0].write_all(b"\r\n").await.unwrap();
    let _late = TcpStream::connect(address).await.unwrap();
    let mut stalled = served.remove(1);
    let accepting = tokio::spawn(async move { axum::serve::Listener::accept(&mut bounded).await });
    let ended =
        timeout(bounded::STALLED, stalled.read(&mut [0])).await.expect("it is cut when it has stopped for so long");
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(stalled);
    timeout(bounded::STALLED / 2, accepting).await.expect("there is room").unwrap();
    served[0].write_all(b"\r\n").await.unwrap();
}

#[tokio::test]
async fn it_stops_when_it_is_told_to() {
    let mut server = Server::start().await;
    server.ask("GET /livez").await;
    server.stop.cancel();
    timeout(Duration::from_secs(5), server.task.join_next()).await.unwrap().unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
