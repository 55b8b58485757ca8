//! The watched Redis, the webhook and the files.

use std::net::TcpListener;

use super::setup::{CHANNEL, Fixture, RULES, run};

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_nothing_is_wrong_and_the_exit_code_is_0() {
    let fixture = Fixture::start("Kgxe$").await;
    fixture.grant(&RULES).await;
    let checked = fixture.check(&fixture.document()).await;
    assert_eq!((checked.of("fail"), checked.of("warn")), (vec![], vec![]), "{:#?}", checked.findings);
    assert_eq!(checked.code, 0);
    let ok = checked.of("ok").join("\n");
    for told in ["1/1 seeds answer", "every slot has an owner", "version 7.", "events is \"", "clock ", "user rx may "]
    {
        assert!(ok.contains(told), "{told} in {ok}");
    }
    assert!(!ok.contains("hidden"), "a URL's query is not shown: {ok}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_permission_that_is_missing_is_named_with_the_rule_that_grants_it() {
    let fixture = Fixture::start("Kgxe$").await;
    // The rule that is left out, and how that is told. HELLO and AUTH are never denied (CMD_NO_AUTH).
    let missing = [
        ("+ping", "fail", "PING is denied"),
        ("+info", "fail", "INFO is denied"),
        ("+time", "fail", "TIME is denied"),
        ("+client|setname", "warn", "CLIENT SETNAME is denied"),
        ("+client|tracking", "warn", "CLIENT TRACKING is denied"),
        ("+cluster|nodes", "warn", "CLUSTER NODES is denied"),
        ("+cluster|myid", "warn", "CLUSTER MYID is denied"),
        ("+cluster|info", "warn", "CLUSTER INFO is denied"),
        ("+psubscribe", "fail", "PSUBSCRIBE is denied"),
        ("+ssubscribe", "warn", "SSUBSCRIBE is denied"),
        ("+scan", "fail", "SCAN is denied"),
        ("+pexpiretime", "fail", "PEXPIRETIME is denied"),
        ("%R~order:pay:*", "fail", "PEXPIRETIME is denied"),
        (CHANNEL, "fail", "PSUBSCRIBE is denied"),
        ("&rx:*", "warn", "SSUBSCRIBE is denied"),
    ];
    for (rule, level, told) in missing {
        let left: Vec<&str> = RULES.into_iter().filter(|other| *other != rule).collect();
        fixture.grant(&left).await;
        let checked = fixture.check(&fixture.document()).await;
        let found = checked.of(level);
        let fix = format!("-> ACL SETUSER rx {rule}");
        assert!(
            found.len() == 1 && found[0].contains(told) && found[0].ends_with(&fix),
            "without {rule}: {:#?}",
            checked.findings
        );
        let other = checked.of(if level == "fail" { "warn" } else { "fail" });
        assert!(other.is_empty(), "without {rule}: {other:#?}");
        assert_eq!(checked.code, i32::from(level == "fail"), "without {rule}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_read_or_set_are_told() {
    let fixture = Fixture::start("").await;
    fixture.grant(&RULES).await;
    let address = fixture.cluster.nodes()[0].address();
    let fix = format!("run CONFIG SET notify-keyspace-events Kgxe$ on {address}");
    let events = fixture.document().replace("  keyPattern", "    changeSource: KeyspaceEvents\n  keyPattern");
    fixture.check(&events).await.fails_with(&fix);
    // Client tracking will do.
    let checked = fixture.check(&fixture.document()).await;
    assert_eq!((checked.code, checked.of("fail")), (0, vec![]));
    assert!(checked.of("warn")[0].contains("client tracking") && checked.of("warn")[0].contains(&fix));
    let tracked = fixture.document().replace("  keyPattern", "    changeSource: ClientTracking\n  keyPattern");
    assert_eq!(fixture.check(&tracked).await.code, 0);
    let untracked: Vec<&str> = RULES.into_iter().filter(|rule| *rule != "+client|tracking").collect();
    fixture.grant(&untracked).await;
    fixture.check(&tracked).await.fails_with("-> ACL SETUSER rx +client|tracking");
    fixture.grant(&RULES).await;

    let odd = fixture.document().replace("  keyPattern", "  idTemplate: \"order:payment:{orderId}\"\n  keyPattern");
    let warned = fixture.check(&odd).await;
    assert!(warned.of("warn").iter().any(|line| line.contains("spec.idTemplate")), "{:#?}", warned.of("warn"));
    let enable = fixture.document().replace("  keyPattern", "    keyspaceEvents: Enable\n  keyPattern");
    fixture.check(&enable).await.fails_with("-> ACL SETUSER rx +config|set");
    fixture.grant(&[&RULES[..], &["+config|set"]].concat()).await;
    let checked = fixture.check(&enable).await;
    assert_eq!((checked.code, checked.of("fail")), (0, vec![]), "the listener will set them");

    let unread: Vec<&str> = RULES.into_iter().filter(|rule| *rule != "+config|get").collect();
    fixture.grant(&unread).await;
    let checked = fixture.check(&fixture.document()).await;
    let warned = checked.of("warn");
    assert!(warned.iter().any(|line| line.contains("notify-keyspace-events cannot be read")), "{warned:#?}");
    assert!(warned.iter().any(|line| line.ends_with("ACL SETUSER rx +config|get")), "{warned:#?}");

    fixture.grant(&RULES).await;
    let node = &fixture.cluster.nodes()[0];
    fixture.cluster.config_set(node, "notify-keyspace-events", "KA").await.unwrap();
    fixture.cluster.config_set(node, "maxmemory-policy", "allkeys-lru").await.unwrap();
    let checked = fixture.check(&fixture.document()).await;
    assert_eq!(checked.code, 0);
    assert!(checked.of("warn")[0].contains("maxmemory-policy is allkeys-lru"), "{:#?}", checked.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_a_dead_seed_and_a_refused_webhook_are_told() {
    let fixture = Fixture::start("Kgxe$").await;
    fixture.grant(&RULES).await;
    let document = fixture.document();
    let wrong = document.replace("key: password", "key: wrong");
    fixture.check(&wrong).await.fails_with("AUTH is refused");

    let address = fixture.cluster.nodes()[0].address();
    // Nobody listens at a port that was just let go of.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dead = document.replace(&format!("\"{address}\""), &format!("\"{closed}\""));
    fixture.check(&dead).await.fails_with("named in spec.redis.addresses: cannot be reached");
    let one_of_two = document.replace(&format!("\"{address}\""), &format!("\"{closed}\", \"{address}\""));
    let checked = fixture.check(&one_of_two).await;
    assert_eq!(checked.code, 0);
    assert!(checked.of("warn")[0].contains("cannot be reached"), "{:#?}", checked.findings);
    let mapped = document.replace(
        "  keyPattern",
        &format!("    addressMap: [{{announced: \"{address}\", dial: \"{closed}\"}}]\n  keyPattern"),
    );
    fixture.check(&mapped).await.fails_with("spec.redis.addressMap");

    let webhook = fixture.webhook.local_addr().unwrap();
    let refused = document.replace(&webhook.to_string(), &closed.to_string());
    fixture.check(&refused).await.fails_with("cannot be reached: Connection refused");
    // It speaks no TLS, and hangs up on nobody.
    let tls = document.replace("http://", "https://");
    fixture.check(&tls).await.fails_with("no handshake of TLS within 2s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_exit_code_2_and_a_table_is_for_people() {
    let fixture = Fixture::start("Kgxe$").await;
    fixture.grant(&RULES).await;
    let checked = fixture.check(&fixture.document().replace("keyPattern", "keyPatern")).await;
    assert_eq!(checked.code, 2);
    assert!(checked.findings[0]["what"].as_str().unwrap().contains("spec.keyPatern: unknown field"));

    fixture.check(&fixture.document()).await;
    let (file, secrets) = (fixture.folder.path().join("listener.yaml"), fixture.folder.path().join("secrets"));
    let output = tokio::task::spawn_blocking(move || run(&file, &secrets, &[], &[])).await.unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("shop/orders ("), "{table}");
    assert!(table.contains("\nok    webhook"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_in_which_tls_goes_wrong_has_its_fix() {
    let fixture = Fixture::secured().await;
    fixture.grant(&RULES).await;
    let node = &fixture.cluster.nodes()[0];
    let secured = node.tls_address().unwrap();
    let document = |address: &str, tls: &str| {
        let tls = if tls.is_empty() { String::new() } else { format!("    tls: {tls}\n") };
        fixture.document().replace(&node.address(), address).replace("  keyPattern", &format!("{tls}  keyPattern"))
    };
    let (ca, own) = ("caRef: {kind: Secret, name: tls}", "clientCertSecretRef: {name: tls}");
    for (address, tls, fix) in [
        (secured.as_str(), "", "-> if its port wants TLS, set tls beside the addresses"),
        (&secured, "{}", "-> name who has signed it in tls.caRef beside the addresses"),
        (&secured, &format!("{{{ca}}}"), "see tls.clientCertSecretRef beside the addresses"),
        (
            &secured,
            &format!("{{{ca}, {own}, serverName: redis.shop.svc}}"),
            "-> set tls.serverName beside the addresses",
        ),
        (&node.address(), &format!("{{{ca}, {own}}}"), "-> if its port speaks no TLS, use the servers' tls-port"),
    ] {
        fixture.check(&document(address, tls)).await.fails_with(fix);
    }
    let checked = fixture.check(&document(&secured, &format!("{{{ca}, {own}}}"))).await;
    assert_eq!((checked.code, checked.of("fail")), (0, vec![]), "{:#?}", checked.findings);
}
