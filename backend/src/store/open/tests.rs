use super::*;
use crate::store::{
    StoreErrorKind,
    conformance::{self, Answers},
};

#[test]
fn locations_are_folders_or_buckets() {
    let folder = |path: &str| {
        Ok(StoreConfig::Dir {
            path: PathBuf::from(path),
        })
    };
    let bucket = |bucket: &str, prefix: &str| {
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(StoreConfig::S3(S3Config {
            bucket,
            prefix,
            ..S3Config::default()
        }))
    };
    assert_eq!(parse_location("/mnt/usb"), folder("/mnt/usb"));
    assert_eq!(parse_location("file:///mnt/usb"), folder("/mnt/usb"));
    assert_eq!(parse_location("backup"), folder("backup"));
    assert_eq!(parse_location("s3://b"), bucket("b", ""));
    assert_eq!(
        parse_location("s3://b/some/prefix/"),
        bucket("b", "some/prefix")
    );
    assert_eq!(parse_location(" "), Err(LocationError::Empty));
    assert_eq!(parse_location("s3:///x"), Err(LocationError::NoBucket));
    assert_eq!(
        parse_location("s3://key:secret@b/x"),
        Err(LocationError::Credentials)
    );
    let error = parse_location("https://user:secret@host/").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn an_opened_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::Dir {
        path: folder.path().join("archive"),
    };
    create(&config).unwrap();
    let options = OpenOptions {
        up: TokenBucket::new(1 << 32),
        ..OpenOptions::default()
    };
    let opened = open_with(&config, &options).await.unwrap();
    conformance::conformance(&*opened.store, Answers::Exact).await;
    assert!(opened.store.location().ends_with("archive"));
}

#[tokio::test]
async fn a_bad_configuration_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let no_pem = folder.path().join("ca.pem");
    std::fs::write(&no_pem, b"nothing of the kind").unwrap();
    let good = S3Config {
        bucket: "b".into(),
        ..S3Config::default()
    };
    let endpoint = |text: &str| S3Config {
        endpoint: Some(text.into()),
        ..good.clone()
    };
    let wrong = [
        S3Config::default(),
        endpoint("localhost:9000"),
        endpoint("https://user:secret@localhost:9000"),
        S3Config {
            ca_file: Some(no_pem),
            ..good.clone()
        },
        S3Config {
            ca_file: Some(folder.path().join("missing.pem")),
            ..good.clone()
        },
    ];
    for config in wrong {
        let error = open(&StoreConfig::S3(config))
            .await
            .err()
            .expect("is refused");
        assert_eq!(error.kind(), StoreErrorKind::NotConfigured, "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}
