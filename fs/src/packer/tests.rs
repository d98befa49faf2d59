use std::time::Duration;

use holdfast_backend::layout::Folder;
use holdfast_backend::store::{ObjectStore, Stored};

use super::*;
use crate::archive::tests::{Computer, memory};

#[test]
fn a_stored_pack_can_be_written_down_and_read_again() {
    let chunk = |n: u8| PackedChunk {
        id: ChunkId {
            epoch: 1,
            hash: [n; 32],
        },
        kind: ChunkKind::Data,
        offset: 12 + 100 * u32::from(n),
        stored_length: 100,
        raw_length: 60,
        key: Digest([n % 2; 32]),
    };
    let pack = PackedChunks {
        pack: Digest([9; 32]),
        size: 5000,
        chunks: (0..20).map(chunk).collect(),
    };
    assert_eq!(PackedChunks::decode(&pack.encode()).unwrap(), pack);
    assert!(PackedChunks::decode(&index_body([]).encode()).is_err());
}

#[test]
fn many_bytes_go_through_a_small_budget() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let limits = PackerLimits {
        target_bytes: 100_000..200_000,
        budget_bytes: 500_000,
        uploads: 2,
    };
    let small = Packer::new(
        store.clone(),
        archive.runtime().clone(),
        Arc::clone(archive.keychain()),
        Arc::new(Nothing),
        limits,
    );
    let session = archive.session();
    let mut tickets = Vec::new();
    for n in 0..400_u32 {
        let plaintext: Vec<u8> = (0..20_000_u32)
            .map(|i| (i.wrapping_mul(n + 7) >> 3) as u8)
            .collect();
        let id = archive.keychain().chunk_id(ChunkKind::Data, &plaintext);
        let stored = session.key.encrypt_chunk(ChunkKind::Data, &id, &plaintext);
        tickets.push(
            small
                .add(ChunkKind::Data, id, 20_000, session.digest, &stored)
                .unwrap(),
        );
        if small
            .find(&id)
            .is_some_and(|queued| queued.stored[..] != *stored.as_bytes())
        {
            panic!("a queued chunk changed");
        }
        let queue = small.queue();
        assert!(queue.open_bytes + queue.closed_bytes <= 600_000);
    }
    small.flush(None).unwrap();
    tickets
        .into_iter()
        .for_each(|ticket| small.wait(ticket, Some(Instant::now())).unwrap());
    assert!(small.queue().stored_packs >= 30);
    assert_eq!(small.queue().open_bytes + small.queue().closed_bytes, 0);
}

#[test]
fn a_refusal_is_told_and_nothing_is_dropped() {
    let inner = memory();
    let store = Arc::new(Refusing {
        inner: inner.clone(),
        refuse: Mutex::new(true),
    });
    let (archive, _) = Computer::new(inner.clone()).create();
    let limits = PackerLimits {
        target_bytes: 1000..2000,
        budget_bytes: 100_000,
        uploads: 1,
    };
    let runtime = archive.runtime().clone();
    let packer = Packer::new(
        store.clone(),
        runtime,
        Arc::clone(archive.keychain()),
        Arc::new(Nothing),
        limits,
    );
    let session = archive.session();
    let id = archive.keychain().chunk_id(ChunkKind::Data, b"x");
    let stored = session.key.encrypt_chunk(ChunkKind::Data, &id, b"x");
    packer
        .add(ChunkKind::Data, id, 1, session.digest, &stored)
        .unwrap();
    let flushed = packer.flush(Some(Instant::now() + Duration::from_secs(5)));
    assert!(matches!(flushed, Err(PackerError::Refused(_))));
    assert!(packer.trouble().is_some() && packer.is_queued(&id));
    assert_eq!(&packer.find(&id).unwrap().stored[..], stored.as_bytes());
    *store.refuse.lock() = false;
    while packer.is_queued(&id) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(packer.trouble().is_none());
}

struct Nothing;

impl PackerSurroundings for Nothing {
    fn unstored_keys(&self, _: &[Digest]) -> Vec<Object> {
        Vec::new()
    }
    fn keys_stored(&self, _: &[Digest]) {}
    fn pack_stored(&self, _: &PackedChunks) {}
}

/// A store that has no space left while it is told so.
pub(crate) struct Refusing {
    pub(crate) inner: Arc<holdfast_backend::store::MemoryStore>,
    pub(crate) refuse: Mutex<bool>,
}

#[async_trait::async_trait]
impl ObjectStore for Refusing {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        use holdfast_backend::store::{Operation, StoreErrorKind};
        if *self.refuse.lock() {
            return Err(StoreError::new(
                StoreErrorKind::NoSpace,
                Operation::Put,
                "test",
            ));
        }
        self.inner.put_new(object).await
    }
    async fn get(&self, name: &holdfast_backend::layout::ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }
    async fn get_range(
        &self,
        name: &holdfast_backend::layout::ObjectName,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, range).await
    }
    async fn list(
        &self,
        folder: Folder,
    ) -> Result<Vec<holdfast_backend::store::Listed>, StoreError> {
        self.inner.list(folder).await
    }
    async fn delete(&self, name: &holdfast_backend::layout::ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn probe(&self) -> Result<holdfast_backend::store::Capabilities, StoreError> {
        self.inner.probe().await
    }
}
