//! Against a small HTTP server that honours what was granted, each grant for one name and act.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::object::TextPlacement;
use crate::store::MemoryStore;
use crate::store::conformance::{Answers, conformance, long_listings_are_complete};
use holdfast_crypto::DeviceId;

/// Objects, and which requests for them are granted.
struct FakeKeystore {
    objects: MemoryStore,
    address: String,
    granted: Mutex<HashMap<String, Wish>>,
    calls: AtomicUsize,
    wishes: AtomicUsize,
    life: Mutex<Duration>,
    refusal: Mutex<Option<SourceError>>,
}

impl FakeKeystore {
    async fn start() -> Arc<FakeKeystore> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keystore = Arc::new(FakeKeystore {
            objects: MemoryStore::new(),
            address: format!("http://{}", listener.local_addr().unwrap()),
            granted: Mutex::default(),
            calls: AtomicUsize::new(0),
            wishes: AtomicUsize::new(0),
            life: Mutex::new(Duration::from_secs(300)),
            refusal: Mutex::default(),
        });
        let serving = Arc::clone(&keystore);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let keystore = Arc::clone(&serving);
                let service = service_fn(move |request| {
                    let keystore = Arc::clone(&keystore);
                    async move { Ok::<_, Infallible>(keystore.answer(request).await) }
                });
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        keystore
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let wish = self.granted.lock().get(request.uri().path()).copied();
        let Some(wish) = wish else {
            return status(403);
        };
        match (request.method().clone(), wish.act) {
            (Method::PUT, WishAct::Put { bytes }) => {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                if body.len() as u64 != bytes {
                    return status(400);
                }
                let object = Object::from_stored(wish.name, body).unwrap();
                match self.objects.put_new(&object).await.unwrap() {
                    Stored::New => status(200),
                    Stored::AlreadyThere => status(412),
                }
            }
            (Method::GET, WishAct::Get) => {
                let range = request.headers().get("range").cloned();
                self.load(
                    &wish.name,
                    range.as_ref().map(|range| range.to_str().unwrap()),
                )
                .await
            }
            _ => status(403),
        }
    }

    async fn load(&self, name: &ObjectName, range: Option<&str>) -> Response<Full<Bytes>> {
        let Ok(bytes) = self.objects.get(name).await else {
            return status(404);
        };
        let Some(range) = range else {
            return Response::new(Full::new(bytes));
        };
        let (first, last) = range["bytes=".len()..].split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first >= bytes.len() {
            return status(416);
        }
        let piece = bytes.slice(first..(last + 1).min(bytes.len()));
        let response = Response::builder().status(206);
        response.body(Full::new(piece)).unwrap()
    }

    fn store(self: &Arc<Self>) -> GrantedStore {
        GrantedStore::new(Arc::clone(self) as Arc<dyn GrantSource>)
    }
}

fn status(status: u16) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status);
    response.body(Full::default()).unwrap()
}

#[async_trait]
impl GrantSource for FakeKeystore {
    async fn grants(
        &self,
        wishes: &[Wish],
    ) -> Result<Vec<Result<Grant, SourceError>>, SourceError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(!wishes.is_empty() && wishes.len() <= source::MOST_WISHES);
        // So long that others come meanwhile.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if let Some(refusal) = self.refusal.lock().clone() {
            return Ok(vec![Err(refusal); wishes.len()]);
        }
        let grant = |wish: &Wish| {
            let number = self.wishes.fetch_add(1, Ordering::SeqCst);
            let path = format!("/{number}");
            self.granted.lock().insert(path.clone(), *wish);
            Ok(Grant {
                url: format!("{}{path}", self.address),
                headers: vec![("x-granted".to_owned(), "1".to_owned())],
                expires: SystemTime::now() + *self.life.lock(),
            })
        };
        Ok(wishes.iter().map(grant).collect())
    }

    async fn list(&self, folder: Folder, after: Option<&str>) -> Result<ListPage, SourceError> {
        let mut objects = self.objects.list(folder).await.unwrap();
        objects.sort_by_key(|listed| listed.name.to_string());
        objects.retain(|listed| after.is_none_or(|after| listed.name.to_string().as_str() > after));
        let more = objects.len() > 1000;
        objects.truncate(1000);
        let last = objects.last().map(|listed| listed.name.to_string());
        Ok(ListPage {
            after: last.filter(|_| more),
            objects,
        })
    }

    async fn describe(&self) -> Result<Description, SourceError> {
        Ok(Description {
            capabilities: self.objects.probe().await.unwrap(),
            authorities: None,
        })
    }

    fn location(&self) -> String {
        "https://keystore.example.org".to_owned()
    }
}

/// What the suite deletes, the keystore deletes.
struct WithGc(GrantedStore, Arc<FakeKeystore>);

#[async_trait]
impl ObjectStore for WithGc {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        self.0.put_new(object).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.0.get(name).await
    }
    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(name, range).await
    }
    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.0.list(folder).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.1.objects.delete(name).await
    }
    fn location(&self) -> String {
        self.0.location()
    }
    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.0.probe().await
    }
}

fn pin(n: u64) -> Object {
    let device = DeviceId([7; 8]);
    Object::text(TextPlacement::Pin { device, n }, &format!("pin {n}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_store_like_any_other() {
    let keystore = FakeKeystore::start().await;
    let store = WithGc(keystore.store(), keystore);
    conformance(&store, Answers::Exact).await;
    long_listings_are_complete(&store, 2100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wished_for_during_a_call_goes_into_the_next_one() {
    let keystore = FakeKeystore::start().await;
    let store = keystore.store();
    let objects: Vec<Object> = (0..600).map(pin).collect();
    for stored in join_all(objects.iter().map(|object| store.put_new(object))).await {
        stored.unwrap();
    }
    assert_eq!(keystore.wishes.load(Ordering::SeqCst), 600);
    // One wish begins a call; behind it the others fit into three.
    let calls = keystore.calls.load(Ordering::SeqCst);
    assert!(calls <= 6, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_for_loading_is_kept_until_shortly_before_its_end() {
    let keystore = FakeKeystore::start().await;
    let store = keystore.store();
    let object = pin(1);
    store.put_new(&object).await.unwrap();
    let load = async |count: usize| {
        for _ in 0..count {
            store.get_range(&object.name(), 0..2).await.unwrap();
        }
        keystore.wishes.load(Ordering::SeqCst)
    };
    assert_eq!(load(5).await, 2);
    // Ends within the margin: none of these is kept.
    *keystore.life.lock() = Duration::from_secs(20);
    let other = pin(2);
    store.put_new(&other).await.unwrap();
    for _ in 0..3 {
        store.get(&other.name()).await.unwrap();
    }
    assert_eq!(keystore.wishes.load(Ordering::SeqCst), 6);
}

/// The server was started anew, for instance, and signs with another key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_grant_that_is_refused_is_asked_for_again() {
    let keystore = FakeKeystore::start().await;
    let store = keystore.store();
    let object = pin(1);
    store.put_new(&object).await.unwrap();
    store.get(&object.name()).await.unwrap();
    keystore.granted.lock().clear();
    assert_eq!(store.get(&object.name()).await.unwrap(), *object.bytes());
    assert_eq!(keystore.wishes.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_keeps_its_kind_and_sentence() {
    let keystore = FakeKeystore::start().await;
    let store = keystore.store();
    *keystore.refusal.lock() = Some(SourceError {
        kind: StoreErrorKind::NoSpace,
        sentence: "your quota is used up; ask an operator".to_owned(),
    });
    let error = store.put_new(&pin(1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NoSpace);
    assert!(
        error.to_string().contains("your quota is used up"),
        "{error}"
    );
    let error = store.delete(&pin(1).name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Refused);
}

/// No message of a failed request holds its URL: who reads it could make the request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_is_in_no_message() {
    let keystore = FakeKeystore::start().await;
    let store = keystore.store();
    let object = pin(1);
    let grant = Grant {
        url: "http://127.0.0.1:1/secret-grant".to_owned(),
        headers: Vec::new(),
        expires: SystemTime::now() + Duration::from_secs(300),
    };
    let requests = store.requests.client(&*store.source).await.ok().unwrap();
    let failure = requests.put(&grant, object.bytes().clone()).await;
    let error = store.error(Operation::Put, failure.err().unwrap());
    assert_eq!(error.kind(), StoreErrorKind::Transient);
    let told = format!("{error} {error:?}");
    assert!(!told.contains("secret-grant"), "{told}");
}
