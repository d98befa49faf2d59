use proptest::prelude::*;

use super::*;

fn any_name() -> impl Strategy<Value = ObjectName> {
    (
        0..11_u8,
        any::<[u8; 8]>(),
        0..=MAX_NUMBER,
        any::<[u8; 32]>(),
    )
        .prop_map(|(sort, device, n, digest)| {
            let (device, digest) = (DeviceId(device), Digest(digest));
            match sort {
                0 => ObjectName::Pack(digest),
                1 => ObjectName::Index(digest),
                2 => ObjectName::Key(digest),
                3 => ObjectName::Refs {
                    device,
                    sequence: n,
                    digest,
                },
                4 => ObjectName::Commit {
                    device,
                    sequence: n,
                    digest,
                },
                5 => ObjectName::Pin { device, n, digest },
                6 => ObjectName::Forgotten { device, n, digest },
                7 => ObjectName::Condemned { n, digest },
                8 => ObjectName::Deleting { n, digest },
                9 => ObjectName::Moved { device, n, digest },
                _ => ObjectName::Keyring { version: n, digest },
            }
        })
}

proptest! {
    #[test]
    fn a_printed_name_parses_to_itself(name in any_name()) {
        prop_assert_eq!(name.to_string().parse(), Ok(name));
    }

    #[test]
    fn a_name_is_in_its_folder_and_in_no_other(name in any_name()) {
        prop_assert!(name.to_string().starts_with(&name.folder().prefix()));
        prop_assert!(name.folder().contains(&name));
        let holders = Folder::ALL.iter().filter(|folder| folder.contains(&name));
        prop_assert_eq!(holders.count(), 1);
    }

    #[test]
    fn an_accepted_string_is_the_only_spelling(text in any_spelling()) {
        if let Ok(name) = text.parse::<ObjectName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn names_with_any_one_byte_changed_never_print_differently(
        name in any_name(), at in any::<prop::sample::Index>(), byte in any::<char>()
    ) {
        let mut text: Vec<char> = name.to_string().chars().collect();
        let at = at.index(text.len());
        text[at] = byte;
        let text: String = text.into_iter().collect();
        if let Ok(name) = text.parse::<ObjectName>() {
            prop_assert_eq!(name.to_string(), text);
        }
    }
}

fn any_spelling() -> impl Strategy<Value = String> {
    "(packs|index|keys|refs|commits|pins|moved|keyring|condemned|other)(/[0-9a-fA-F]{15,17})?/\
     ([0-9+]{9,11}-)?[0-9a-fA-F]{63,65}"
}

#[test]
fn names_of_other_things_are_refused() {
    let sha = "0123456789abcdef".repeat(4);
    let refused = [
        String::new(),
        "packs".into(),
        "packs/".into(),
        format!("packs/{}", sha.to_uppercase()),
        format!("/packs/{sha}"),
        format!("packs//{sha}"),
        format!("packs/../index/{sha}"),
        format!("packs/{sha}.tmp"),
        format!("refs/{sha}"),
        format!("refs/0011223344556677/1-{sha}"),
        format!("refs/0011223344556677/+000000001-{sha}"),
        format!("condemned/00000000001-{sha}"),
        format!("probe/{sha}"),
    ];
    for name in refused {
        assert!(name.parse::<ObjectName>().is_err(), "{name}");
    }
}

#[test]
fn names_of_one_device_sort_by_sequence() {
    let name = |sequence| {
        let (device, digest) = (DeviceId([7; 8]), Digest([sequence as u8; 32]));
        ObjectName::Commit {
            device,
            sequence,
            digest,
        }
        .to_string()
    };
    assert!(name(2) < name(10));
    assert!(name(99) < name(100_000));
}
