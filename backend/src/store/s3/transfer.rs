//! How the bytes of a put leave: spread over their share of time where there is a limit, and signed by
//! the digest that is in the name, so that nothing is hashed a second time.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{byte_stream::ByteStream, config_bag::ConfigBag};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::store::{Activity, TokenBucket};

/// The longest piece of a body that goes out at once.
const PIECE: u64 = 64 << 10;

/// A body in memory, or one that keeps to a limit: it begins when what was taken before is paid for.
pub(super) async fn body(
    bytes: Bytes,
    limit: Option<&Arc<TokenBucket>>,
    activity: &Arc<Activity>,
) -> ByteStream {
    let Some(limit) = limit else {
        return ByteStream::from(bytes);
    };
    limit.take(bytes.len() as u64).await;
    ByteStream::from_body_1_x(Paced {
        rate: limit.bytes_per_second(),
        began: Instant::now(),
        sent: 0,
        bytes,
        activity: Arc::clone(activity),
        sleep: Box::pin(sleep_until(Instant::now())),
    })
}

/// How long the body of so many bytes takes at the least.
pub(super) fn span(bytes: usize, limit: Option<&Arc<TokenBucket>>) -> Duration {
    limit.map_or(Duration::ZERO, |limit| limit.span(bytes as u64))
}

/// Bytes at a steady rate.
struct Paced {
    rate: u64,
    began: Instant,
    sent: u64,
    bytes: Bytes,
    activity: Arc<Activity>,
    sleep: Pin<Box<Sleep>>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        ready!(self.sleep.as_mut().poll(context));
        // Eight pieces a second: a slow line is not taken for a dead one.
        let piece = (self.rate / 8).clamp(1 << 10, PIECE);
        let piece = piece.min(self.bytes.len() as u64);
        let bytes = self.bytes.split_to(piece as usize);
        self.sent += piece;
        let due = self.began + Duration::from_secs_f64(self.sent as f64 / self.rate as f64);
        self.sleep.as_mut().reset(due);
        self.activity.moved();
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

/// The SHA-256 of a request's body, which the signature covers, where it is known already.
#[derive(Debug)]
pub(super) struct KnownDigest(pub(super) String);

impl Intercept for KnownDigest {
    fn name(&self) -> &'static str {
        "KnownDigest"
    }

    fn modify_before_signing(
        &self,
        _context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let known = PayloadSigningOverride::Precomputed(self.0.clone());
        config.interceptor_state().store_put(known);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes come in order, all of them, and no sooner than the limit allows.
    #[tokio::test]
    async fn a_paced_body_is_whole_and_steady() {
        let limit = TokenBucket::new(1_000_000).unwrap();
        let sent: Bytes = (0..300_000_u32).map(|n| n as u8).collect();
        let began = Instant::now();
        let activity = Arc::default();
        let mut stream = body(sent.clone(), Some(&limit), &activity).await;
        let mut came = Vec::new();
        while let Some(piece) = stream.try_next().await.unwrap() {
            came.extend_from_slice(&piece);
            let allowed = began.elapsed().as_secs_f64() * 1_000_000.0 + 70_000.0;
            assert!(came.len() as f64 <= allowed, "{} bytes", came.len());
        }
        assert_eq!(came, sent);
        assert!(activity.last_moved().is_some());
        drop(body(sent, Some(&limit), &activity).await);
        assert!(began.elapsed() >= Duration::from_millis(300));
    }
}
