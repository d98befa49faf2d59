//! Many wishes, one call: what is wished for while a call is under way goes into the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::is_good;
use super::request::Failure;
use super::source::{Grant, GrantSource, MOST_WISHES, SourceError, Wish, WishAct};
use crate::layout::ObjectName;
use crate::store::StoreErrorKind;

/// A request that begins by then still arrives before the grant ends.
pub(super) const MARGIN: Duration = Duration::from_secs(30);
/// Grants that are kept; each is below 2 KB.
const MOST_KEPT: usize = 2048;

/// Asks for grants.
pub(super) struct Asking {
    source: Arc<dyn GrantSource>,
    queue: Arc<Mutex<Queue>>,
    kept: Mutex<HashMap<ObjectName, Arc<Grant>>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// A task asks, and looks here again when it has an answer.
    is_asked: bool,
}

struct Waiting {
    wish: Wish,
    answer: oneshot::Sender<Result<Grant, SourceError>>,
}

impl Asking {
    pub(super) fn new(source: Arc<dyn GrantSource>) -> Asking {
        Asking {
            source,
            queue: Arc::default(),
            kept: Mutex::default(),
        }
    }

    /// For storing, once.
    pub(super) async fn to_put(&self, name: &ObjectName, bytes: u64) -> Result<Grant, Failure> {
        let act = WishAct::Put { bytes };
        self.ask(Wish { name: *name, act }).await
    }

    /// For loading, and whether it was kept from before.
    pub(super) async fn to_get(&self, name: &ObjectName) -> Result<(Arc<Grant>, bool), Failure> {
        let kept = self.kept.lock().get(name).cloned();
        if let Some(grant) = kept.filter(|grant| is_good(grant)) {
            return Ok((grant, true));
        }
        let act = WishAct::Get;
        let grant = Arc::new(self.ask(Wish { name: *name, act }).await?);
        let mut kept = self.kept.lock();
        if kept.len() >= MOST_KEPT {
            kept.retain(|_, grant| is_good(grant));
        }
        if kept.len() >= MOST_KEPT {
            kept.clear();
        }
        kept.insert(*name, Arc::clone(&grant));
        Ok((grant, false))
    }

    /// A kept grant was refused.
    pub(super) fn forget(&self, name: &ObjectName) {
        self.kept.lock().remove(name);
    }

    async fn ask(&self, wish: Wish) -> Result<Grant, Failure> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.queue.lock();
            queue.waiting.push(Waiting { wish, answer });
            !std::mem::replace(&mut queue.is_asked, true)
        };
        if begins {
            // A task of its own: whoever began may be dropped while others wait.
            let (source, queue) = (Arc::clone(&self.source), Arc::clone(&self.queue));
            tokio::spawn(async move { ask_until_empty(&*source, &queue).await });
        }
        match answered.await {
            Ok(answer) => answer.map_err(Failure::Source),
            Err(_) => Err(Failure::Source(SourceError {
                kind: StoreErrorKind::Transient,
                sentence: "the program ends".to_owned(),
            })),
        }
    }
}

async fn ask_until_empty(source: &dyn GrantSource, queue: &Mutex<Queue>) {
    loop {
        let batch: Vec<Waiting> = {
            let mut queue = queue.lock();
            // Whoever does not wait any more needs no grant.
            queue.waiting.retain(|waiting| !waiting.answer.is_closed());
            let count = queue.waiting.len().min(MOST_WISHES);
            if count == 0 {
                queue.is_asked = false;
                return;
            }
            queue.waiting.drain(..count).collect()
        };
        let wishes: Vec<Wish> = batch.iter().map(|waiting| waiting.wish).collect();
        let answers =
            source
                .grants(&wishes)
                .await
                .and_then(|answers| match answers.len() == wishes.len() {
                    true => Ok(answers),
                    false => Err(SourceError {
                        kind: StoreErrorKind::Refused,
                        sentence: "there are more or fewer grants than wishes; update holdfast"
                            .into(),
                    }),
                });
        match answers {
            Ok(answers) => {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    let _ = waiting.answer.send(answer);
                }
            }
            Err(error) => {
                for waiting in batch {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
    }
}
