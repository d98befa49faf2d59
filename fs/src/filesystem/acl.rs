//! POSIX ACLs (acl(5)): stored as the attribute that the kernel passes on, in step with the mode.
//!
//! The kernel leaves both to the file system where FUSE_POSIX_ACL is not negotiated: setting an access
//! ACL changes the permission bits (`cp -a` copies modes this way), and chmod changes the ACL. An ACL
//! that says no more than the mode does is not kept.

/// Attribute of the access ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute of the ACL that new entries of a folder begin with.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// `struct posix_acl_xattr_header`: version 2.
const HEADER: [u8; 4] = [2, 0, 0, 0];
const ENTRY_BYTES: usize = 8;

const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// What an access ACL comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// The nine permission bits that it stands for.
    pub permissions: u32,
    /// Whether it says more than they do.
    pub extended: bool,
}

/// Reads an access ACL; `None` if it is none. No entries at all: no ACL is wanted.
pub(super) fn access(value: &[u8]) -> Option<Option<Access>> {
    let entries = entries(value)?;
    if entries.clone().next().is_none() {
        return Some(None);
    }
    let permission = |wanted: u16| {
        entries
            .clone()
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, permission)| u32::from(permission & 7))
    };
    let (user, group, other) = (
        permission(USER_OBJ)?,
        permission(GROUP_OBJ)?,
        permission(OTHER)?,
    );
    // With a mask, the group bits of the mode are the mask.
    let class = permission(MASK).unwrap_or(group);
    let extended = entries
        .clone()
        .any(|(tag, _)| !matches!(tag, USER_OBJ | GROUP_OBJ | OTHER));
    Some(Some(Access {
        permissions: user << 6 | class << 3 | other,
        extended,
    }))
}

/// Whether a default ACL is one, or empty, which removes it.
pub(super) fn is_empty(value: &[u8]) -> Option<bool> {
    Some(entries(value)?.next().is_none())
}

/// The ACL after chmod: owner, mask (or group) and others are the mode's.
pub(super) fn with_mode(value: &[u8], mode: u32) -> Option<Vec<u8>> {
    let has_mask = entries(value)?.any(|(tag, _)| tag == MASK);
    let mut changed = value.to_vec();
    for entry in changed[HEADER.len()..].chunks_exact_mut(ENTRY_BYTES) {
        let permission = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER_OBJ => mode >> 6,
            MASK => mode >> 3,
            GROUP_OBJ if !has_mask => mode >> 3,
            OTHER => mode,
            _ => continue,
        };
        entry[2..4].copy_from_slice(&((permission & 7) as u16).to_le_bytes());
    }
    Some(changed)
}

/// Tags and permissions in order; an empty value has none.
fn entries(value: &[u8]) -> Option<impl Iterator<Item = (u16, u16)> + Clone> {
    let entries = if value.is_empty() {
        value
    } else {
        value.strip_prefix(&HEADER)?
    };
    let number = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    entries.len().is_multiple_of(ENTRY_BYTES).then(|| {
        entries
            .chunks_exact(ENTRY_BYTES)
            .map(move |entry| (number(entry), number(&entry[2..])))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut value = HEADER.to_vec();
        for (tag, permission) in entries {
            value.extend_from_slice(&tag.to_le_bytes());
            value.extend_from_slice(&permission.to_le_bytes());
            value.extend_from_slice(&[0xFF; 4]);
        }
        value
    }

    #[test]
    fn an_acl_and_a_mode_say_the_same() {
        let plain = acl(&[(USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 1)]);
        assert_eq!(
            access(&plain),
            Some(Some(Access {
                permissions: 0o751,
                extended: false
            }))
        );
        let extended = acl(&[(USER_OBJ, 6), (2, 7), (GROUP_OBJ, 4), (MASK, 6), (OTHER, 0)]);
        assert_eq!(
            access(&extended),
            Some(Some(Access {
                permissions: 0o660,
                extended: true
            }))
        );
        let changed = with_mode(&extended, 0o741).unwrap();
        assert_eq!(
            changed,
            acl(&[(USER_OBJ, 7), (2, 7), (GROUP_OBJ, 4), (MASK, 4), (OTHER, 1)])
        );
        assert_eq!(
            (
                access(&[]),
                access(&HEADER),
                access(b"x"),
                access(&plain[..7])
            ),
            (Some(None), Some(None), None, None)
        );
    }
}
