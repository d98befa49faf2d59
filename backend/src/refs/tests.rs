use holdfast_crypto::Digest;
use proptest::prelude::*;

use super::*;

const DEVICE: DeviceId = DeviceId([0x11; 8]);

fn pack(number: u8) -> ObjectName {
    ObjectName::Pack(Digest([number; 32]))
}

fn packs(numbers: &[u8]) -> BTreeSet<ObjectName> {
    numbers.iter().map(|number| pack(*number)).collect()
}

fn name(refs: &Refs) -> ObjectName {
    refs.to_object().name()
}

fn moved(n: u64, seen: &[&Refs], old: u8, new: &[u8]) -> Moved {
    let seen = seen.iter().map(|refs| name(refs)).collect();
    Moved {
        device: DEVICE,
        n,
        time: 0,
        seen,
        moves: BTreeMap::from([(pack(old), packs(new))]),
    }
}

#[test]
fn refs_are_these_lines() {
    let full = Refs::full(
        DEVICE,
        12,
        BTreeSet::from([pack(0xaa), ObjectName::Key(Digest([0xbb; 32]))]),
    );
    assert_eq!(
        full.encode(),
        format!(
            "holdfast refs 1\ndevice 1111111111111111\nsequence 0000000012\nadd keys/{}\nadd packs/{}\n",
            "b".repeat(64),
            "a".repeat(64)
        )
    );
    let change = Refs::change(DEVICE, 13, name(&full), &full.add, &packs(&[0xcc]));
    let expected = format!(
        "sequence 0000000013\nbase {}\nadd packs/{}\ndrop keys/",
        name(&full),
        "c".repeat(64)
    );
    assert!(change.encode().contains(&expected), "{}", change.encode());
}

#[test]
fn a_base_is_earlier_refs_of_the_same_device() {
    let full = Refs::full(DEVICE, 12, packs(&[1]));
    let later = Refs {
        sequence: 11,
        ..Refs::change(DEVICE, 13, name(&full), &full.add, &packs(&[2]))
    };
    assert!(Refs::decode(later.encode().as_bytes()).is_err());
    let foreign = Refs {
        device: DeviceId([0x22; 8]),
        ..later
    };
    assert!(Refs::decode(foreign.encode().as_bytes()).is_err());
    let full_that_drops = Refs {
        drop: packs(&[3]),
        ..full
    };
    assert!(Refs::decode(full_that_drops.encode().as_bytes()).is_err());
}

#[test]
fn a_chain_is_resolved_from_its_full_refs_on() {
    let first = Refs::full(DEVICE, 1, packs(&[1, 2]));
    let second = Refs::change(DEVICE, 2, name(&first), &packs(&[1, 2]), &packs(&[2, 3]));
    let third = Refs::change(DEVICE, 3, name(&second), &packs(&[2, 3]), &packs(&[1, 3]));
    let table: RefsTable = [first.clone(), second.clone(), third.clone()]
        .into_iter()
        .collect();
    assert_eq!(table.resolve(&name(&third)), Ok(packs(&[1, 3])));
    let needs = table.needs(&name(&third), &[], |_| true).expect("complete");
    assert!(
        [&first, &second, &third]
            .iter()
            .all(|refs| needs.contains(&name(refs)))
    );

    let broken: RefsTable = [first, third.clone()].into_iter().collect();
    let error = RefsError::MissingBase {
        refs: name(&third),
        base: name(&second),
    };
    assert_eq!(broken.resolve(&name(&third)), Err(error));
}

#[test]
fn a_chain_without_end_is_refused() {
    let mut chain = vec![Refs::full(DEVICE, 1, packs(&[1]))];
    for sequence in 2..300 {
        let base = name(&chain[chain.len() - 1]);
        chain.push(Refs::change(
            DEVICE,
            sequence,
            base,
            &packs(&[1]),
            &packs(&[1]),
        ));
    }
    let last = name(&chain[chain.len() - 1]);
    let table: RefsTable = chain.into_iter().collect();
    assert_eq!(
        table.resolve(&last),
        Err(RefsError::ChainTooLong { refs: last })
    );
}

#[test]
fn refs_of_the_same_sequence_replace_their_base() {
    let first = Refs::full(DEVICE, 4, packs(&[1, 2]));
    let again = first.replacing(packs(&[1]), packs(&[3]));
    let table: RefsTable = [first.clone(), again.clone()].into_iter().collect();
    assert_eq!(table.of(DEVICE, 4).collect::<Vec<_>>(), [name(&again)]);
    assert!(table.is_replaced(&name(&first)));
    assert_eq!(table.resolve(&name(&again)), Ok(packs(&[2, 3])));
    assert_eq!(table.of(DEVICE, 3).count(), 0);
}

#[test]
fn refs_are_read_through_moves_that_saw_them() {
    let refs = Refs::full(DEVICE, 1, packs(&[1, 9]));
    let unseen = Refs::full(DEVICE, 2, packs(&[1]));
    let table: RefsTable = [refs.clone(), unseen.clone()].into_iter().collect();
    let marks = [moved(1, &[&refs], 1, &[2, 3]), moved(2, &[&refs], 2, &[4])];
    let data = |refs: &Refs, marks: &[Moved], missing: u8| {
        let mut needs = table
            .needs(&name(refs), marks, |new| *new != pack(missing))
            .expect("complete");
        needs.remove(&name(refs));
        needs
    };
    assert_eq!(data(&refs, &marks, 0), packs(&[3, 4, 9]));
    assert_eq!(
        data(&unseen, &marks, 0),
        packs(&[1, 2, 3, 4]),
        "it may need what compact dropped"
    );
    assert_eq!(
        data(&refs, &marks[..1], 3),
        packs(&[1, 2, 3, 9]),
        "a move whose new pack is lost is none"
    );
}

#[test]
fn a_move_goes_on_counting_when_its_new_pack_was_moved_too() {
    let refs = Refs::full(DEVICE, 1, packs(&[1]));
    let table: RefsTable = [refs.clone()].into_iter().collect();
    let data = |marks: &[Moved], gone: &[u8]| {
        let exists = |new: &ObjectName| !packs(gone).contains(new);
        let mut needs = table.needs(&name(&refs), marks, exists).expect("complete");
        needs.remove(&name(&refs));
        needs
    };
    let first = moved(1, &[&refs], 1, &[2]);
    let second = moved(2, &[&refs], 2, &[3]);
    assert_eq!(data(&[first.clone(), second.clone()], &[]), packs(&[3]));
    assert_eq!(data(&[first.clone(), second], &[1, 2]), packs(&[3]));
    let for_others = moved(2, &[], 2, &[3]);
    assert_eq!(
        data(&[first, for_others], &[2]),
        packs(&[1, 2, 3]),
        "a later move that had not seen these refs does not replace its pack for them"
    );
}

fn any_name() -> impl Strategy<Value = ObjectName> {
    (0..3u8, 0..8u8).prop_map(|(sort, number)| {
        [ObjectName::Pack, ObjectName::Index, ObjectName::Key][usize::from(sort)](Digest(
            [number; 32],
        ))
    })
}

fn any_names() -> impl Strategy<Value = BTreeSet<ObjectName>> {
    prop::collection::btree_set(any_name(), 0..12)
}

proptest! {
    #[test]
    fn refs_round_trip(sequence in 0..=crate::layout::MAX_NUMBER, needed in any_names(), later in any_names()) {
        let full = Refs::full(DEVICE, sequence, needed.clone());
        prop_assert_eq!(Refs::decode(full.encode().as_bytes()), Ok(full.clone()));
        let change = Refs::change(DEVICE, sequence, name(&full), &needed, &later);
        prop_assert_eq!(Refs::decode(change.encode().as_bytes()), Ok(change));
    }

    /// However a device writes its refs, as full ones or as changes, they name the same.
    #[test]
    fn changes_name_what_was_wanted(series in prop::collection::vec(any_names(), 1..12)) {
        let mut texts = vec![Refs::full(DEVICE, 1, series[0].clone())];
        for (index, wanted) in series.iter().enumerate().skip(1) {
            let base = name(&texts[index - 1]);
            texts.push(Refs::change(DEVICE, index as u64 + 1, base, &series[index - 1], wanted));
        }
        let names: Vec<ObjectName> = texts.iter().map(name).collect();
        let table: RefsTable = texts.into_iter().collect();
        for (name, wanted) in names.iter().zip(&series) {
            prop_assert_eq!(&table.resolve(name), &Ok(wanted.clone()));
        }
    }
}
