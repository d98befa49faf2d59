//! Connections: a bounded number of them, TLS before anything else, and the peer's certificate in every request.
//!
//! Whoever connects and says nothing is cut off after some seconds, at the handshake and at each request's head, so
//! that idle connections cannot use up the places. At the end no new connection is taken and those that are there may
//! finish what they are at.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use holdfast_protocol::calls::LOGIN_EXPORTER;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::api::access::{Exporter, Peer};
use crate::authority::fingerprint;
use crate::server::Server;

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
const HEAD_TIME: Duration = Duration::from_secs(15);
/// What is under way when the server ends may take so long.
const ENDING_TIME: Duration = Duration::from_secs(10);
/// Pause after the system refuses a connection, mostly because no file descriptor is left.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
const STREAMS: u32 = 64;
const HEAD_BYTES: usize = 32 << 10;

/// Serves until `ending` says so.
pub async fn serve(
    listener: TcpListener,
    server: Arc<Server>,
    router: Router,
    mut ending: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(server.config.limits.connections));
    let graceful = GracefulShutdown::new();
    let mut protocol = auto::Builder::new(TokioExecutor::new());
    protocol
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES);
    protocol
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(HEAD_TIME);
    let protocol = Arc::new(protocol);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        let (stream, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(server.tls());
        let (protocol, router, watcher) =
            (Arc::clone(&protocol), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let shaken = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await;
            let Ok(Ok(stream)) = shaken else {
                tracing::debug!(%address, "a handshake failed");
                return;
            };
            let peer = Peer {
                fingerprint: client_fingerprint(&stream),
                address: address.ip().to_canonical(),
                exporter: exporter(&stream),
            };
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(peer);
                router.clone().oneshot(request.map(axum::body::Body::new))
            });
            let connection = protocol
                .serve_connection_with_upgrades(TokioIo::new(stream), service)
                .into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%address, error, "a connection broke");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(ENDING_TIME, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("connections were cut that had not finished in time");
    }
}

type Accepted = (TcpStream, SocketAddr, OwnedSemaphorePermit);

/// Waits for a place first: what has none waits in the system's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (stream, address) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, address, place))
}

/// What a login on this connection is bound to.
fn exporter(stream: &tokio_rustls::server::TlsStream<TcpStream>) -> Exporter {
    let (_, session) = stream.get_ref();
    let exported = session.export_keying_material([0; 32], LOGIN_EXPORTER, None);
    Exporter(exported.expect("the handshake is done, and 32 bytes are few"))
}

fn client_fingerprint(
    stream: &tokio_rustls::server::TlsStream<TcpStream>,
) -> Option<crate::names::Fingerprint> {
    let (_, session) = stream.get_ref();
    session.peer_certificates()?.first().map(fingerprint)
}
