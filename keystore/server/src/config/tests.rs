use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("keystore.toml"), text).map_err(|error| error.to_string())
}

#[test]
fn the_data_folder_is_enough() {
    let config = parse("data = '/srv/keystore'").unwrap();
    assert_eq!(config.listen.port(), 8470);
    assert!(config.listen.ip().is_loopback());
    assert_eq!(
        config.snapshot_folder(),
        Path::new("/srv/keystore/snapshots")
    );
    assert_eq!(config.ceremony_time(), Duration::from_secs(3600));
}

#[test]
fn everything_can_be_written() {
    let config = parse(
        r#"
        data = "/srv/keystore"
        listen = "[::]:443"
        names = ["keystore.example.org"]
        lock_memory = "require"
        tls = { certificate = "a.pem", key = "b.pem" }
        ceremonies = { expire_minutes = 30 }
        limits = { shares_per_person = 3, shares_per_address = 9, failures_per_address = 5, connections = 10 }
        audit = { syslog = true, webhook = { url = "https://log.example.org/", token_file = "token" } }
        snapshots = { every_hours = 6, keep = 3, folder = "/srv/copies" }
        rotation = { every_days = 30, writes = 1000000 }
        [alerts]
        timeout_seconds = 3
        tries = 2
        queue = 10
        [[alerts.webhook]]
        url = "http://127.0.0.1:9000/x"
        [[alerts.mail]]
        server = "mail.example.org"
        tls = "implicit"
        from = "Keystore <keystore@example.org>"
        to = ["security@example.org"]
        username = "keystore"
        password_file = "password"
        "#,
    )
    .unwrap();
    assert_eq!(config.alerts.mail[0].port(), 465);
    assert_eq!(config.lock_memory, LockMemory::Require);
}

/// One sentence for each mistake, with its place and what to write.
#[test]
fn each_mistake_gets_its_sentence() {
    for (text, says) in [
        ("", "missing field `data`"),
        ("data = 5", "line 1: invalid type"),
        ("data = 'x'\nlisten = 'here'", "line 2"),
        ("data = 'x'\nlisen = '127.0.0.1:1'", "unknown field `lisen`"),
        ("data = 'x'\nnames = []", "names is empty"),
        (
            "data = 'x'\nceremonies.expire_minutes = 0",
            "expire_minutes is 0; write at least 1",
        ),
        (
            "data = 'x'\nceremonies.expire_minutes = 99999",
            "at most 10080",
        ),
        (
            "data = 'x'\nlimits.shares_per_person = 0",
            "shares_per_person is 0",
        ),
        (
            "data = 'x'\nrotation.writes = 9999999999",
            "must not exceed",
        ),
        (
            "data = 'x'\n[[alerts.webhook]]\nurl = 'http://example.org/'",
            "is not https",
        ),
        (
            "data = 'x'\n[[alerts.webhook]]\nurl = 'ftp://example.org/'",
            "is not https",
        ),
        ("data = 'x'\n[[alerts.webhook]]\nurl = 'nonsense'", "line 3"),
        (
            "data = 'x'\n[[alerts.mail]]\nserver='m.example.org'\ntls='none'\nfrom='a@b.c'\nto=['a@b.c']",
            "starttls or implicit",
        ),
        (
            "data = 'x'\n[[alerts.mail]]\nserver='m.example.org'\nfrom='nobody'\nto=['a@b.c']",
            "no mail address",
        ),
        (
            "data = 'x'\n[[alerts.mail]]\nserver='m.example.org'\nfrom='a@b.c'\nto=[]",
            "at least one address",
        ),
        (
            "data = 'x'\n[[alerts.mail]]\nserver='m.example.org'\nfrom='a@b.c'\nto=['a@b.c']\nusername='u'",
            "password_file",
        ),
    ] {
        let sentence = parse(text).expect_err(text);
        assert!(sentence.contains(says), "{text}\n{sentence}");
        assert_eq!(sentence.lines().count(), 1, "{sentence}");
    }
}
