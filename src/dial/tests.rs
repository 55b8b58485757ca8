use std::sync::Mutex;

use tokio::net::TcpListener;

use super::*;

/// Answers each question with the next of `answers`, the last one again and again. Also gives the names it was asked for.
fn scripted(egress: Egress, answers: &[&[&str]]) -> (Dialler, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let parsed = |answer: &&[&str]| answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
    let answers: Vec<Vec<SocketAddr>> = answers.iter().map(parsed).collect();
    let names = Arc::clone(&asked);
    let dialler = Dialler::with_resolver(egress, move |host| {
        let mut names = names.lock().unwrap();
        let answer = answers[names.len().min(answers.len() - 1)].clone();
        names.push(host);
        Box::pin(async move { Ok(answer) })
    });
    (dialler, asked)
}

/// 127.0.0.1, and nothing else of this machine.
fn loopback() -> Egress {
    Egress::guarded(vec!["127.0.0.1".parse().unwrap()])
}

#[tokio::test]
async fn a_name_that_resolves_to_a_mix_leads_to_what_is_permitted_alone() {
    let (dialler, _) = scripted(loopback(), &[&["169.254.169.254", "127.0.0.1", "::1"]]);
    assert_eq!(dialler.resolve("mixed", 7).await.unwrap(), ["127.0.0.1:7".parse().unwrap()]);
    // Both would answer.
    let permitted = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = permitted.local_addr().unwrap().port();
    let _refused = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let (dialler, _) = scripted(loopback(), &[&["127.0.0.2", "127.0.0.1"]]);
    let stream = dialler.connect("mixed", port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), permitted.local_addr().unwrap());
}

#[tokio::test]
async fn a_name_is_resolved_once_and_what_was_judged_is_dialled() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (dialler, asked) = scripted(loopback(), &[&["127.0.0.1"], &["127.0.0.2"]]);
    dialler.connect("rebinding", port).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["rebinding"]);
    // The next connection is judged by its own answer.
    let error = dialler.connect("rebinding", port).await.unwrap_err();
    assert_eq!(category(&error), FaultCategory::EgressRefused);
    assert!(error.to_string().starts_with("127.0.0.2 is not dialled"), "{error}");
}

#[tokio::test]
async fn an_address_in_place_of_a_name_is_judged_and_not_resolved() {
    let (dialler, asked) = scripted(loopback(), &[&["127.0.0.1"]]);
    for address in ["169.254.169.254", "::1", "::ffff:169.254.169.254"] {
        assert_eq!(category(&dialler.resolve(address, 7).await.unwrap_err()), FaultCategory::EgressRefused);
    }
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_ways_to_write_an_address_are_judged_as_what_they_lead_to() {
    // The system's resolver takes these for addresses.
    let dialler = Dialler::new(Egress::guarded(Vec::new()));
    for host in ["0x7f.1", "2130706433", "127.1", "017700000001", "localhost"] {
        let error = dialler.resolve(host, 7).await.unwrap_err();
        assert_eq!(category(&error), FaultCategory::EgressRefused, "{host}: {error}");
    }
}

#[tokio::test]
async fn a_name_without_addresses_is_unreachable_and_not_refused() {
    let (dialler, _) = scripted(Egress::everything(), &[&[]]);
    assert_eq!(category(&dialler.resolve("nobody", 7).await.unwrap_err()), FaultCategory::Unreachable);
}

#[test]
fn the_cause_is_found_within_an_io_error_and_within_the_redis_clients() {
    let error = || io::Error::other(io::Error::other(rustls::Error::DecryptError));
    assert_eq!(category(&error()), FaultCategory::Tls);
    assert_eq!(category(&redis::RedisError::from(error())), FaultCategory::Tls);
    let refused = Egress::guarded(Vec::new()).judge("::1".parse().unwrap()).unwrap_err();
    assert_eq!(category(&redis::RedisError::from(io::Error::other(refused))), FaultCategory::EgressRefused);
    assert_eq!(category(&io::Error::from(io::ErrorKind::ConnectionRefused)), FaultCategory::Unreachable);
}
