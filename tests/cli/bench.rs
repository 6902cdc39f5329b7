//! `bench`: the load generator comes in by every door.

use serde_json::Value;

use peeklock_tests::TestBroker;

use crate::bare;

#[test]
fn load_by_every_door() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |file: &str| dir.path().join(file).to_str().expect("UTF-8").to_owned();
    let made = bare(&["cert", "--dir", dir.path().to_str().expect("UTF-8")]).output();
    assert!(made.expect("the binary runs").status.success());
    let tls = [("--tls-certificate", "server.pem"), ("--tls-key", "server.key")];
    let broker =
        tls.into_iter().fold(TestBroker::with().queue("bench", ""), |broker, (name, file)| {
            broker.argument(name).argument(path(file))
        });
    let broker = broker.start();
    let (address, ca) = (broker.address().to_string(), path("ca.pem"));
    let secure = ["--tls", "--ca", &ca];
    for door in [&[][..], &secure, &["--websocket"], &[&secure[..], &["--websocket"]].concat()] {
        let common = ["bench", "--address", &address, "--count", "200", "--json"];
        let output = bare(&[&common[..], door].concat()).output().expect("the binary runs");
        let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert!(output.status.success(), "{door:?}: {report}");
        assert_eq!(report["load"]["completed"]["total"], 200, "{door:?}");
    }
    let untrusted = bare(&["bench", "--address", &address, "--count", "1", "--tls"])
        .env("SSL_CERT_FILE", path("ca.key"))
        .output();
    let untrusted = untrusted.expect("the binary runs");
    assert!(!untrusted.status.success(), "nobody vouches for it");
}
