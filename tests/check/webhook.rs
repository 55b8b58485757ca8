//! A webhook that speaks TLS.

use std::fs;

use super::{
    certified::Certified,
    setup::{Checked, Fixture, RULES, run},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_believed_once_its_authority_is_and_for_its_name() {
    let fixture = Fixture::start("Kgxe$").await;
    fixture.grant(&RULES).await;
    let server = Certified::start("localhost").await;
    let webhook = fixture.webhook.local_addr().unwrap();
    let tls = |host: &str| {
        let url = format!("https://{host}:{}/hook", server.address.port());
        fixture.document().replace(&format!("http://{webhook}/hook"), &url)
    };
    fixture.check(&tls("localhost")).await.fails_with(
        "-> name who has signed it in spec.webhook.tls.caRef, or have it signed by an authority that is trusted",
    );
    // Each of what it says to do does it.
    let secrets = fixture.folder.path().join("secrets/shop-ca");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("ca.crt"), &server.authority).unwrap();
    let named = tls("localhost").replace("    url:", "    tls: {caRef: {kind: ConfigMap, name: shop-ca}}\n    url:");
    let believed = fixture.check(&named).await;
    assert_eq!((believed.code, believed.of("fail")), (0, vec![]), "{:#?}", believed.findings);
    let authority = fixture.folder.path().join("authority.pem");
    fs::write(&authority, &server.authority).unwrap();
    let trusting = async |document: &str| {
        let (file, folder) = (fixture.folder.path().join("listener.yaml"), fixture.folder.path().to_path_buf());
        fs::write(&file, document).unwrap();
        let bundle = authority.display().to_string();
        let output = tokio::task::spawn_blocking(move || {
            run(&file, &folder.join("secrets"), &["--output", "json"], &[("SSL_CERT_FILE", &bundle)])
        });
        Checked::new(&output.await.unwrap())
    };
    let believed = trusting(&tls("localhost")).await;
    assert_eq!((believed.code, believed.of("fail")), (0, vec![]), "{:#?}", believed.findings);
    // Another of its names.
    trusting(&tls("127.0.0.1")).await.fails_with("-> use a host name that the certificate has in spec.webhook.url");
}
