//! One user's archive, as the server sees it: the store, pages of its listings, how much is in it, and which numbers are taken.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::store::{Listed, ObjectStore, StoreError};
use holdfast_protocol::escrow::Digest;
use parking_lot::Mutex;

use super::numbers::place;

/// Objects in a page.
const PAGE: usize = 1000;
/// A listing of many pages is kept for the next page until then.
const KEPT: Duration = Duration::from_secs(60);
/// A user at the end of the quota has it counted again no sooner than after this.
const COUNTED_AGAIN: Duration = Duration::from_secs(10 * 60);

/// One user's archive.
pub struct Archive {
    store: Arc<dyn ObjectStore>,
    kept: Mutex<HashMap<Folder, Kept>>,
    room: Mutex<Room>,
    /// The highest number that was ever seen or granted, by place.
    highest: Mutex<HashMap<String, u64>>,
}

/// A listing by name, and when it was made.
type Kept = (Arc<Vec<Listed>>, Instant);

/// A page of a listing.
pub struct Page {
    /// Objects, by name.
    pub objects: Vec<Listed>,
    /// The name to go on behind; nothing = this was the last page.
    pub after: Option<ObjectName>,
}

#[derive(Default)]
struct Room {
    /// What was listed, or remembered from before the last start.
    counted: Option<u64>,
    /// What was granted since.
    granted: u64,
    counted_at: Option<Instant>,
    saved: Option<u64>,
}

impl Room {
    fn used(&self) -> u64 {
        self.counted.unwrap_or(0).saturating_add(self.granted)
    }
}

impl Archive {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Archive {
        Archive {
            store,
            kept: Mutex::default(),
            room: Mutex::default(),
            highest: Mutex::default(),
        }
    }

    /// The store itself.
    pub fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    /// A page of a folder. The first one is always as the store has it now: devices rely on what they read after they wrote.
    pub async fn page(
        &self,
        folder: Folder,
        after: Option<&ObjectName>,
    ) -> Result<Page, StoreError> {
        let kept = match after {
            None => None,
            Some(_) => self.kept.lock().get(&folder).cloned(),
        };
        let listed = match kept {
            Some((listed, at)) if at.elapsed() < KEPT => listed,
            _ => self.list(folder).await?,
        };
        let from = match after {
            Some(after) => listed.partition_point(|listed| listed.name <= *after),
            None => 0,
        };
        let objects: Vec<Listed> = listed[from..].iter().take(PAGE).copied().collect();
        let more = from + objects.len() < listed.len();
        let after = objects.last().map(|last| last.name).filter(|_| more);
        if !more {
            self.kept.lock().remove(&folder);
        }
        Ok(Page { objects, after })
    }

    async fn list(&self, folder: Folder) -> Result<Arc<Vec<Listed>>, StoreError> {
        let mut listed = self.store.list(folder).await?;
        // In one folder the order of names is that of their texts.
        listed.sort_unstable_by_key(|listed| listed.name);
        let listed = Arc::new(listed);
        let mut kept = self.kept.lock();
        kept.retain(|_, (_, at)| at.elapsed() < KEPT);
        if listed.len() > PAGE {
            kept.insert(folder, (Arc::clone(&listed), Instant::now()));
        }
        Ok(listed)
    }

    /// Drops listings of which nobody has asked for the next page in time.
    pub fn forget_listings(&self) {
        self.kept.lock().retain(|_, (_, at)| at.elapsed() < KEPT);
    }

    /// What stands in the store under the number of a name, which other contents may be. It is only asked of the store if the number is not
    /// above all that are known, and once for each folder: `listed` is for one call.
    pub async fn stored_under(
        &self,
        name: &ObjectName,
        listed: &mut HashMap<Folder, Vec<Listed>>,
    ) -> Result<Vec<Digest>, StoreError> {
        let (Some(place), Some(number)) = (place(name), name.number()) else {
            return Ok(Vec::new());
        };
        let known = self.highest.lock().get(&place).copied();
        if known.is_some_and(|known| number > known) {
            return Ok(Vec::new());
        }
        let folder = name.folder();
        let listed = match listed.entry(folder) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(none) => none.insert(self.store.list(folder).await?),
        };
        let here = |listed: &&Listed| self::place(&listed.name).as_ref() == Some(&place);
        let numbers = listed.iter().filter(here);
        let numbers = numbers.filter_map(|listed| listed.name.number());
        self.note(&place, numbers.max().unwrap_or(0));
        let same = listed
            .iter()
            .filter(here)
            .filter(|listed| listed.name.number() == Some(number));
        Ok(same.map(|listed| listed.name.digest()).collect())
    }

    /// A number was granted or seen.
    pub fn note(&self, place: &str, number: u64) {
        let mut highest = self.highest.lock();
        let known = highest.entry(place.to_owned()).or_default();
        *known = number.max(*known);
    }

    /// What is stored, as far as is known.
    pub fn used(&self) -> u64 {
        self.room.lock().used()
    }

    /// What was known of it before the last start, if nothing is known yet.
    pub fn remember(&self, bytes: Option<u64>) {
        let mut room = self.room.lock();
        if room.counted.is_none() {
            room.counted = bytes;
            room.saved = bytes;
        }
    }

    /// Whether anything is known of it.
    pub fn is_counted(&self) -> bool {
        self.room.lock().counted.is_some()
    }

    /// What is to be remembered, if it has changed since that was last done.
    pub fn to_remember(&self) -> Option<u64> {
        let mut room = self.room.lock();
        let used = room.used();
        if room.saved == Some(used) {
            return None;
        }
        room.saved = Some(used);
        Some(used)
    }

    /// Counts what is stored.
    pub async fn count(&self) -> Result<u64, StoreError> {
        // What is granted from here on is counted on top, also if the listing has it: too much for a while rather than too little.
        self.room.lock().granted = 0;
        let mut bytes = 0u64;
        for folder in Folder::ALL {
            let listed = self.store.list(folder).await?;
            bytes += listed.iter().map(|listed| listed.size).sum::<u64>();
        }
        let mut room = self.room.lock();
        room.counted = Some(bytes);
        room.counted_at = Some(Instant::now());
        Ok(room.used())
    }

    /// Takes room for an object; `false` if there is none, also after it was counted again.
    pub async fn take(&self, bytes: u64, quota: Option<u64>) -> Result<bool, StoreError> {
        let fits = |room: &mut Room| {
            let fits = quota.is_none_or(|quota| room.used().saturating_add(bytes) <= quota);
            if fits {
                room.granted = room.granted.saturating_add(bytes);
            }
            fits
        };
        {
            let mut room = self.room.lock();
            let known = quota.is_none() || room.counted.is_some();
            if known && fits(&mut room) {
                return Ok(true);
            }
            let fresh = room
                .counted_at
                .is_some_and(|at| at.elapsed() < COUNTED_AGAIN);
            if known && fresh {
                return Ok(false);
            }
        }
        self.count().await?;
        Ok(fits(&mut self.room.lock()))
    }
}

#[cfg(test)]
mod tests {
    use holdfast_backend::object::{Object, TextPlacement};
    use holdfast_backend::store::MemoryStore;

    use super::*;

    fn pin(device: u8, n: u64, text: &str) -> Object {
        let digest = "0".repeat(64);
        let name = format!(
            "pins/{}/0000000000-{digest}",
            format!("{device:02x}").repeat(8)
        );
        let name: ObjectName = name.parse().unwrap();
        let device = name.device().unwrap();
        Object::text(TextPlacement::Pin { device, n }, text)
    }

    async fn archive(objects: &[Object]) -> Archive {
        let store = Arc::new(MemoryStore::new());
        for object in objects {
            store.put_new(object).await.unwrap();
        }
        Archive::new(store)
    }

    #[tokio::test]
    async fn pages_follow_each_other_by_name_and_the_first_is_always_fresh() {
        let objects: Vec<Object> = (0..2500).map(|n| pin(1, n, "text")).collect();
        let archive = archive(&objects).await;
        let mut names = Vec::new();
        let mut after = None;
        let mut pages = 0;
        loop {
            let page = archive.page(Folder::Pins, after.as_ref()).await.unwrap();
            names.extend(page.objects.iter().map(|listed| listed.name));
            pages += 1;
            after = page.after;
            if after.is_none() {
                break;
            }
        }
        let mut expected: Vec<ObjectName> = objects.iter().map(Object::name).collect();
        expected.sort_by_key(ToString::to_string);
        assert_eq!(names, expected);
        assert_eq!(pages, 3);
        archive.page(Folder::Pins, None).await.unwrap();
        let first = pin(0, 0, "comes before all of them");
        archive.store().put_new(&first).await.unwrap();
        let page = archive.page(Folder::Pins, None).await.unwrap();
        assert_eq!(page.objects[0].name, first.name());
    }

    #[tokio::test]
    async fn what_stands_under_a_number_is_found_whoever_has_stored_it() {
        let (one, other) = (pin(1, 7, "one"), pin(1, 7, "other"));
        let archive = archive(&[one.clone(), pin(2, 9, "of another device")]).await;
        let stored = archive
            .stored_under(&other.name(), &mut HashMap::new())
            .await
            .unwrap();
        assert_eq!(stored, [one.name().digest()]);
        let next = pin(1, 8, "next").name();
        assert!(
            archive
                .stored_under(&next, &mut HashMap::new())
                .await
                .unwrap()
                .is_empty()
        );
        // Granted and stored: found although the number was above all when it was granted.
        archive.note("pins/0101010101010101", 8);
        let late = pin(1, 8, "late");
        archive.store().put_new(&late).await.unwrap();
        let stored = archive
            .stored_under(&next, &mut HashMap::new())
            .await
            .unwrap();
        assert_eq!(stored, [late.name().digest()]);
    }

    #[tokio::test]
    async fn a_quota_is_counted_before_it_refuses() {
        let archive = archive(&[pin(1, 1, "1234567890")]).await;
        let stored = archive.count().await.unwrap();
        archive.room.lock().counted = Some(1 << 40);
        archive.room.lock().counted_at = None;
        assert!(archive.take(5, Some(stored + 10)).await.unwrap());
        assert!(archive.take(5, Some(stored + 10)).await.unwrap());
        assert!(!archive.take(1, Some(stored + 10)).await.unwrap());
        assert!(archive.take(1, None).await.unwrap());
        assert_eq!(archive.used(), stored + 11);
        assert_eq!(archive.to_remember(), Some(stored + 11));
        assert_eq!(archive.to_remember(), None);
    }
}
