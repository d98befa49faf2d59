//! Which packs are worth copying: a pure decision.

use std::collections::BTreeSet;

use holdfast_crypto::Digest;

/// A pack below this length is small.
const SMALL_PACK_BYTES: u64 = 4 << 20;
/// From so many small packs on they are merged.
const SMALL_PACKS: usize = 4;
/// A pack that needs more session keys is not merged for being small: it could not take many others in.
const FEW_KEYS: usize = super::copy::MOST_KEYS / 2;

/// What is in a pack that commits need.
#[derive(Clone, Debug)]
pub(super) struct PackUse {
    pub(super) pack: Digest,
    /// Its whole length.
    pub(super) size: u64,
    pub(super) holds_trees: bool,
    /// How many session keys its chunks need.
    pub(super) keys: usize,
    /// Bytes of its chunks.
    pub(super) chunk_bytes: u64,
    /// Bytes of those that commits use.
    pub(super) used_bytes: u64,
    /// What is in it has to be stored anew: a gc is deleting it.
    pub(super) is_doomed: bool,
}

impl PackUse {
    pub(super) fn unused_bytes(&self) -> u64 {
        self.chunk_bytes - self.used_bytes
    }

    fn is_mostly_unused(&self, percent: u8) -> bool {
        let unused = u128::from(self.unused_bytes());
        unused > 0 && unused * 100 >= u128::from(percent) * u128::from(self.chunk_bytes)
    }

    fn is_small(&self) -> bool {
        self.size < SMALL_PACK_BYTES && self.keys <= FEW_KEYS
    }
}

/// The packs to copy from: where at least this share of the bytes is unused, and small ones where
/// there are several. At most about `most_bytes` are copied; what frees most per copied byte goes first.
pub(super) fn choose(
    packs: &[PackUse],
    unused_percent: u8,
    most_bytes: Option<u64>,
) -> BTreeSet<Digest> {
    let mut worth: Vec<&PackUse> = packs
        .iter()
        .filter(|pack| pack.is_doomed || pack.is_mostly_unused(unused_percent))
        .collect();
    worth.sort_by_key(|pack| {
        let used_share = pack.used_bytes.saturating_mul(1 << 20) / pack.chunk_bytes.max(1);
        (!pack.is_doomed, used_share, pack.pack)
    });
    for holds_trees in [true, false] {
        let mut small: Vec<&PackUse> = packs
            .iter()
            .filter(|pack| pack.holds_trees == holds_trees && pack.is_small())
            .collect();
        if small.len() >= SMALL_PACKS {
            small.sort_by_key(|pack| (pack.size, pack.pack));
            worth.extend(small);
        }
    }
    let mut left = most_bytes.unwrap_or(u64::MAX);
    let mut chosen = BTreeSet::new();
    for pack in worth {
        if chosen.contains(&pack.pack) {
            continue;
        }
        let Some(rest) = left.checked_sub(pack.used_bytes) else {
            continue;
        };
        left = rest;
        chosen.insert(pack.pack);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn pack(number: u8, mib: u64, used_percent: u64) -> PackUse {
        PackUse {
            pack: Digest([number; 32]),
            size: mib * MIB,
            holds_trees: false,
            keys: 1,
            chunk_bytes: mib * MIB,
            used_bytes: mib * MIB * used_percent / 100,
            is_doomed: false,
        }
    }

    fn numbers(packs: &[PackUse], percent: u8, most: Option<u64>) -> Vec<u8> {
        let chosen = choose(packs, percent, most);
        chosen.iter().map(|pack| pack.0[0]).collect()
    }

    #[test]
    fn the_share_of_unused_bytes_decides() {
        let packs = [
            pack(1, 20, 81),
            pack(2, 20, 80),
            pack(3, 20, 0),
            pack(4, 20, 100),
        ];
        assert_eq!(numbers(&packs, 20, None), [2, 3]);
        assert_eq!(numbers(&packs, 0, None), [1, 2, 3]);
        assert_eq!(numbers(&packs, 100, None), [3]);
    }

    #[test]
    fn small_packs_are_merged_once_there_are_several() {
        let mut packs: Vec<_> = (1..4).map(|number| pack(number, 1, 100)).collect();
        assert!(numbers(&packs, 20, None).is_empty());
        packs.push(PackUse {
            holds_trees: true,
            ..pack(4, 1, 100)
        });
        assert!(numbers(&packs, 20, None).is_empty(), "trees stay apart");
        packs.push(PackUse {
            keys: 30,
            ..pack(5, 1, 100)
        });
        assert!(
            numbers(&packs, 20, None).is_empty(),
            "many keys: it would be merged again and again"
        );
        packs.push(pack(6, 1, 100));
        assert_eq!(numbers(&packs, 20, None), [1, 2, 3, 6]);
    }

    #[test]
    fn a_limit_takes_what_frees_most_first() {
        let packs = [pack(1, 20, 50), pack(2, 20, 10), pack(3, 20, 70)];
        assert_eq!(numbers(&packs, 20, Some(12 * MIB)), [1, 2]);
        assert_eq!(numbers(&packs, 20, Some(2 * MIB)), [2]);
        assert!(numbers(&packs, 20, Some(0)).is_empty());
    }
}
