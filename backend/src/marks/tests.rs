use holdfast_crypto::{DeviceId, Digest};
use proptest::prelude::*;

use super::*;
use crate::object::TextPlacement;

const DEVICE: DeviceId = DeviceId([0x11; 8]);

fn commit(sequence: u64) -> CommitName {
    CommitName {
        device: DEVICE,
        sequence,
        digest: Digest([sequence as u8; 32]),
    }
}

fn pack(number: u8) -> ObjectName {
    ObjectName::Pack(Digest([number; 32]))
}

fn pins(n: u64, keep: &[u64], release: &[u64]) -> Pins {
    let set = |sequences: &[u64]| sequences.iter().map(|sequence| commit(*sequence)).collect();
    Pins {
        device: DEVICE,
        n,
        time: n as i64,
        keep: set(keep),
        release: set(release),
    }
}

fn with_pins(pins: impl IntoIterator<Item = Pins>) -> Result<Marks, MarksError> {
    Marks::from_texts(
        MarkTexts {
            pins: pins.into_iter().collect(),
            ..MarkTexts::default()
        },
        0,
    )
}

#[test]
fn marks_are_these_lines() {
    let sha = |digit: &str| digit.repeat(64);
    assert_eq!(
        pins(3, &[10, 2], &[1]).encode(),
        format!(
            "holdfast pins 1\ndevice 1111111111111111\nnumber 0000000003\ntime 3\n\
             keep commits/1111111111111111/0000000002-{}\nkeep commits/1111111111111111/0000000010-{}\n\
             release commits/1111111111111111/0000000001-{}\n",
            "02".repeat(32),
            "0a".repeat(32),
            "01".repeat(32)
        )
    );
    let moved = Moved {
        device: DEVICE,
        n: 1,
        time: -5,
        seen: BTreeSet::from([ObjectName::Refs {
            device: DEVICE,
            sequence: 7,
            digest: Digest([0x77; 32]),
        }]),
        moves: BTreeMap::from([(
            pack(0xaa),
            BTreeSet::from([
                pack(0xbb),
                ObjectName::Index(Digest([0xcc; 32])),
                ObjectName::Key(Digest([0xdd; 32])),
            ]),
        )]),
    };
    assert_eq!(
        moved.encode(),
        format!(
            "holdfast moved 1\ndevice 1111111111111111\nnumber 0000000001\ntime -5\n\
             seen refs/1111111111111111/0000000007-{}\nmove packs/{} index/{} keys/{} packs/{}\n",
            sha("7"),
            sha("a"),
            sha("c"),
            sha("d"),
            sha("b")
        )
    );
    let condemned = Condemned {
        n: 2,
        time: 9,
        names: BTreeSet::from([pack(0xaa), ObjectName::Key(Digest([0xdd; 32]))]),
    };
    assert_eq!(
        condemned.encode(),
        format!(
            "holdfast condemned 1\nnumber 0000000002\ntime 9\ncondemn keys/{}\ncondemn packs/{}\n",
            sha("d"),
            sha("a")
        )
    );
}

#[test]
fn there_is_one_form_only() {
    let text = pins(3, &[1, 2], &[]).encode();
    let lines: Vec<&str> = text.lines().collect();
    let wrong = [
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("{text}{}\n", lines[4]),
        text.replace("time 3", "time +3"),
        text.replace("time 3", "time 03"),
        text.replace("number 0000000003", "number 3"),
        text.replace("number 0000000003", "number 99999999999"),
        text.replace("keep commits", "keep  commits"),
        text.replace(lines[4], "swap")
            .replace(lines[5], lines[4])
            .replace("swap", lines[5]),
        text.replace("device 11", "device AA"),
    ];
    for wrong in wrong {
        assert!(Pins::decode(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert_eq!(
        Pins::decode(b"holdfast pins 2\n"),
        Err(TextError::WrongKind { kind: "pins" })
    );
    assert_eq!(Pins::decode(&[0xff]), Err(TextError::NotText));
}

#[test]
fn a_mark_cannot_condemn_a_keyring_or_a_mark() {
    for name in [
        "keyring/0000000001-",
        "pins/1111111111111111/0000000001-",
        "condemned/0000000001-",
        "deleting/0000000001-",
    ] {
        let text = format!(
            "holdfast deleting 1\nnumber 0000000001\ntime 0\ndelete {name}{}\n",
            "a".repeat(64)
        );
        assert!(Deleting::decode(text.as_bytes()).is_err(), "{name}");
    }
}

#[test]
fn a_text_belongs_under_its_own_name_only() {
    let object = pins(3, &[1], &[]).to_object();
    assert!(Pins::from_object(&object.name(), object.bytes()).is_ok());
    let ObjectName::Pin { device, digest, .. } = object.name() else {
        panic!("not a pin")
    };
    let raised = ObjectName::Pin {
        device,
        n: 9,
        digest,
    };
    let error = Pins::from_object(&raised, object.bytes());
    assert_eq!(
        error,
        Err(TextError::WrongName {
            belongs: object.name()
        })
    );
}

#[test]
fn the_higher_number_decides_about_a_pin() {
    let marks = with_pins([pins(2, &[], &[1]), pins(1, &[1, 2], &[])]).expect("no gap");
    assert_eq!(marks.pin(&commit(1)), Pin::Released { time: 2 });
    assert_eq!(marks.pin(&commit(2)), Pin::Kept);
    assert_eq!(marks.pin(&commit(3)), Pin::None);
    assert_eq!(marks.next_pins_n(), 3);
}

#[test]
fn between_equal_numbers_keeping_decides() {
    let other = DeviceId([0x22; 8]);
    for (keeper, releaser) in [(DEVICE, other), (other, DEVICE)] {
        let keep = Pins {
            device: keeper,
            ..pins(1, &[1], &[])
        };
        let release = Pins {
            device: releaser,
            ..pins(1, &[], &[1])
        };
        let marks = with_pins([keep, release]).expect("no gap");
        assert_eq!(marks.pin(&commit(1)), Pin::Kept);
    }
}

#[test]
fn a_missing_number_is_noticed() {
    let error = with_pins([pins(1, &[], &[]), pins(3, &[], &[])]).expect_err("2 is missing");
    assert!(
        matches!(
            error,
            MarksError::Gap {
                folder: Folder::Pins,
                n: 2
            }
        ),
        "{error}"
    );
    assert!(with_pins([pins(2, &[], &[])]).is_err());
}

#[test]
fn a_device_relies_on_marks_for_half_the_grace_period() {
    let marks = Marks::from_texts(MarkTexts::default(), 1000).expect("no gap");
    let grace = Duration::from_secs(100);
    assert!(marks.is_current(1000, grace) && marks.is_current(1050, grace));
    assert!(!marks.is_current(1051, grace));
    assert!(
        !marks.is_current(999, grace),
        "a clock that was set back proves nothing"
    );
}

#[test]
fn spared_objects_are_condemned_no_longer_but_may_still_be_in_deletion() {
    let condemned = Condemned {
        n: 1,
        time: 1,
        names: BTreeSet::from([pack(1), pack(2), pack(3)]),
    };
    let deleting = Deleting {
        n: 1,
        time: 2,
        names: BTreeSet::from([pack(2)]),
    };
    let texts = MarkTexts {
        condemned: vec![(condemned, 1)],
        deleting: vec![deleting],
        ..MarkTexts::default()
    };
    let mut marks = Marks::from_texts(texts, 3).expect("no gap");
    marks.spare([pack(1), pack(2)]);
    let is_condemned = [1, 2, 3, 4].map(|number| marks.is_condemned(&pack(number)));
    assert_eq!(is_condemned, [false, true, true, false]);
    assert_eq!(
        marks.named_in_deleting(&[pack(1), pack(2)]),
        BTreeSet::from([pack(2)])
    );
}

fn any_digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

fn any_commit() -> impl Strategy<Value = CommitName> {
    (
        any::<[u8; 8]>(),
        0..=crate::layout::MAX_NUMBER,
        any_digest(),
    )
        .prop_map(|(device, sequence, digest)| CommitName {
            device: DeviceId(device),
            sequence,
            digest,
        })
}

fn any_data() -> impl Strategy<Value = ObjectName> {
    prop_oneof![
        any_digest().prop_map(ObjectName::Pack),
        any_digest().prop_map(ObjectName::Index)
    ]
}

fn any_new() -> impl Strategy<Value = ObjectName> {
    prop_oneof![any_data(), any_digest().prop_map(ObjectName::Key)]
}

prop_compose! {
    fn any_pins()(device: [u8; 8], n in 0..=crate::layout::MAX_NUMBER, time: i64,
                  keep in prop::collection::btree_set(any_commit(), 0..5), release in prop::collection::btree_set(any_commit(), 0..5)) -> Pins {
        Pins { device: DeviceId(device), n, time, keep, release }
    }
}

prop_compose! {
    fn any_moved()(device: [u8; 8], n in 0..=crate::layout::MAX_NUMBER, time: i64,
                   seen in prop::collection::btree_set(any_commit().prop_map(|commit| ObjectName::Refs {
                       device: commit.device, sequence: commit.sequence, digest: commit.digest }), 0..4),
                   moves in prop::collection::btree_map(any_data(), prop::collection::btree_set(any_new(), 1..4), 0..4)) -> Moved {
        Moved { device: DeviceId(device), n, time, seen, moves }
    }
}

fn any_line() -> impl Strategy<Value = String> {
    const WORD: &str =
        "(device|number|time|keep|release|forget|condemn|delete|seen|move|base|add|drop|sequence)";
    const NAME: &str = "(packs|index|keys|refs|commits|keyring)(/1{16})?/([0-9]{10}-)?[0-9a-f]{64}";
    let regex =
        |pattern: String| prop::string::string_regex(&pattern).expect("a regular expression");
    prop_oneof![
        regex(format!("{WORD} {NAME}")),
        regex(format!("{WORD} {NAME} {NAME}")),
        regex(format!("{WORD} [0-9+-]{{0,12}}")),
        regex(format!("{WORD} [0-9a-f]{{16}}")),
        regex(".*".to_owned()),
    ]
}

/// Behind the right first lines hostile ones get further.
fn any_beginning() -> impl Strategy<Value = String> {
    let kind = prop::sample::select(vec![
        "pins",
        "forgotten",
        "condemned",
        "deleting",
        "moved",
        "refs",
    ]);
    (kind, any::<bool>()).prop_map(|(kind, has_device)| {
        let device = if has_device {
            "device 1111111111111111\n"
        } else {
            ""
        };
        let number = if kind == "refs" {
            "sequence 0000000001\n"
        } else {
            "number 0000000001\ntime 1\n"
        };
        format!("holdfast {kind} 1\n{device}{number}")
    })
}

/// Whatever is accepted is written in the same bytes again; nothing panics.
fn accepted_is_canonical<T: Text>(bytes: &[u8]) {
    if let Ok(text) = T::decode(bytes) {
        assert_eq!(text.encode().as_bytes(), bytes);
    }
}

fn try_all_kinds(bytes: &[u8]) {
    accepted_is_canonical::<Pins>(bytes);
    accepted_is_canonical::<Forgotten>(bytes);
    accepted_is_canonical::<Condemned>(bytes);
    accepted_is_canonical::<Deleting>(bytes);
    accepted_is_canonical::<Moved>(bytes);
    accepted_is_canonical::<crate::refs::Refs>(bytes);
}

proptest! {
    #[test]
    fn pins_round_trip(pins in any_pins()) {
        prop_assert_eq!(Pins::decode(pins.encode().as_bytes()), Ok(pins.clone()));
        let is_in_place = matches!(pins.placement(), TextPlacement::Pin { .. });
        prop_assert!(is_in_place);
    }

    #[test]
    fn forgotten_round_trip(pins in any_pins()) {
        let forgotten = Forgotten { device: pins.device, n: pins.n, time: pins.time, commits: pins.keep };
        prop_assert_eq!(Forgotten::decode(forgotten.encode().as_bytes()), Ok(forgotten));
    }

    #[test]
    fn condemned_and_deleting_round_trip(pins in any_pins(), data in prop::collection::btree_set(any_data(), 0..5)) {
        let names: BTreeSet<ObjectName> = pins.keep.into_iter().map(ObjectName::from).chain(data).collect();
        let condemned = Condemned { n: pins.n, time: pins.time, names: names.clone() };
        prop_assert_eq!(Condemned::decode(condemned.encode().as_bytes()), Ok(condemned));
        let deleting = Deleting { n: pins.n, time: pins.time, names };
        prop_assert_eq!(Deleting::decode(deleting.encode().as_bytes()), Ok(deleting));
    }

    #[test]
    fn moved_round_trip(moved in any_moved()) {
        prop_assert_eq!(Moved::decode(moved.encode().as_bytes()), Ok(moved));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>) {
        try_all_kinds(&bytes);
    }

    #[test]
    fn hostile_lines_never_panic(beginning in any_beginning(), lines in prop::collection::vec(any_line(), 0..5)) {
        let lines = lines.join("\n");
        try_all_kinds(lines.as_bytes());
        try_all_kinds(format!("{beginning}{lines}").as_bytes());
        try_all_kinds(format!("{beginning}{lines}\n").as_bytes());
    }

    #[test]
    fn one_changed_byte_is_refused_or_means_something_else(moved in any_moved(), at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = moved.encode().into_bytes();
        let at = at.index(bytes.len());
        let before = std::mem::replace(&mut bytes[at], byte);
        try_all_kinds(&bytes);
        if before != byte {
            prop_assert_ne!(Moved::decode(&bytes), Ok(moved));
        }
    }
}
