use super::*;

#[test]
fn a_location_contains_no_credentials() {
    let config = S3Config {
        bucket: "b".into(),
        prefix: "/p/".into(),
        endpoint: Some("https://user:secret@host:9000?token=secret".into()),
        ..S3Config::default()
    };
    assert_eq!(location(&config), "s3://b/p at host:9000");
}

#[test]
fn a_range_must_be_the_one_that_was_asked_for() {
    assert!(check_range(&(3..7), Some("bytes 3-6/100")).is_ok());
    assert!(check_range(&(3..7), Some("bytes 3-6/*")).is_ok());
    assert!(matches!(check_range(&(3..7), None), Err(Failure::NoRanges)));
    assert!(matches!(
        check_range(&(3..7), Some("bytes 3-5/6")),
        Err(Failure::BeyondEnd)
    ));
    for other in ["bytes 0-6/100", "bytes 3-7/100", "", "bytes x-y/z", "3"] {
        assert!(
            matches!(check_range(&(3..7), Some(other)), Err(Failure::NoRanges)),
            "{other}"
        );
    }
}

#[test]
fn answers_say_what_to_do_next() {
    let kind = |status: u16, code: &str| {
        let (code, message) = (code.to_owned(), String::new());
        Failure::Answered {
            status,
            code,
            message,
            request: None,
        }
        .kind()
    };
    assert_eq!(kind(404, "NoSuchKey"), StoreErrorKind::NotFound);
    assert_eq!(kind(404, "NoSuchBucket"), StoreErrorKind::NotConfigured);
    assert_eq!(kind(403, "AccessDenied"), StoreErrorKind::Denied);
    assert_eq!(kind(403, "RequestTimeTooSkewed"), StoreErrorKind::Denied);
    assert_eq!(kind(503, "SlowDown"), StoreErrorKind::Transient);
    assert_eq!(kind(429, ""), StoreErrorKind::Transient);
    assert_eq!(kind(409, ""), StoreErrorKind::Transient);
    assert_eq!(kind(500, ""), StoreErrorKind::Transient);
    assert_eq!(kind(507, ""), StoreErrorKind::NoSpace);
    assert_eq!(kind(403, "QuotaExceeded"), StoreErrorKind::NoSpace);
    assert_eq!(
        kind(301, "PermanentRedirect"),
        StoreErrorKind::NotConfigured
    );
    assert_eq!(kind(400, "EntityTooLarge"), StoreErrorKind::Refused);
}
