#!/usr/bin/env python3
"""Restores a Holdfast archive of format 1, given the printed recovery code.

Written from the documents in docs/format/ only, without looking at the program: it shows that
they are complete, and that an archive can be read when the program is gone. It reads an archive
in a local folder (for a bucket: copy it to a folder first) and changes nothing in it.

    holdfast_reader.py ARCHIVE --recovery-code-file FILE snapshots
    holdfast_reader.py ARCHIVE --recovery-code-file FILE restore DEVICE/SEQUENCE|latest TARGET
"""

import argparse
import datetime
import hashlib
import hmac
import os
import pathlib
import re
import stat
import sys

import blake3
import zstandard
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE = b"\x01\x00"
DATA, TREE, LIST = 1, 2, 3
FOLDER, LINKS = 1, 2
REGULAR, DIRECTORY, SYMLINK, FIFO, SOCKET, CHAR, BLOCK = range(1, 8)


class Damaged(Exception):
    """Bytes of the archive are not what the documents say."""


def require(holds, what):
    if not holds:
        raise Damaged(what)


# keys.md ---------------------------------------------------------------------------------------


def extract(salt, ikm):
    return hmac.digest(salt, ikm, "sha256")


def expand(prk, info, length):
    out = block = b""
    for n in range(1, length // 32 + 2):
        block = hmac.digest(prk, block + info + bytes([n]), "sha256")
        out += block
    return out[:length]


def derive(secret, label):
    return expand(extract(b"", secret), b"holdfast/1/" + label.encode(), 32)


def xaes_open(key, associated, stored):
    require(len(stored) >= 40, "a ciphertext is too short")
    nonce, body = stored[:24], stored[24:]
    aes = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    l = int.from_bytes(aes.update(bytes(16)), "big")
    k1 = ((l << 1) & (2**128 - 1)) ^ (0x87 if l >> 127 else 0)

    def half(n):
        block = int.from_bytes(bytes([0, n, 0x58, 0]) + nonce[:12], "big") ^ k1
        return aes.update(block.to_bytes(16, "big"))

    try:
        return AESGCM(half(1) + half(2)).decrypt(nonce[12:], body, associated)
    except InvalidTag:
        raise Damaged("a ciphertext does not open") from None


def unwrap(seed, info, aad, commitment_label, wrapped):
    require(len(wrapped) == 1200, "a wrapped key has 1200 bytes")
    enc, body, commitment = wrapped[:1120], wrapped[1120:1168], wrapped[1168:]
    e = hashlib.shake_256(seed).digest(96)
    m = mlkem.MLKEM768PrivateKey.from_seed_bytes(e[:64])
    x = x25519.X25519PrivateKey.from_private_bytes(e[64:])
    shared = hashlib.sha3_256(
        m.decapsulate(enc[:1088])
        + x.exchange(x25519.X25519PublicKey.from_public_bytes(enc[1088:]))
        + enc[1088:]
        + x.public_key().public_bytes_raw()
        + b"\\.//^\\"
    ).digest()
    suite = b"HPKE\x64\x7a\x00\x01\x00\x02"

    def l_extract(salt, label, ikm):
        return extract(salt, b"HPKE-v1" + suite + label + ikm)

    def l_expand(prk, label, data, n):
        return expand(prk, n.to_bytes(2, "big") + b"HPKE-v1" + suite + label + data, n)

    context = b"\0" + l_extract(b"", b"psk_id_hash", b"") + l_extract(b"", b"info_hash", info)
    secret = l_extract(shared, b"secret", b"")
    cipher = AESGCM(l_expand(secret, b"key", context, 32))
    try:
        key = cipher.decrypt(l_expand(secret, b"base_nonce", context, 12), body, aad)
    except InvalidTag:
        raise Damaged("a wrapped key does not open: is this the archive's recovery code?") from None
    require(hmac.compare_digest(commitment, derive(key, commitment_label)), "a commitment is wrong")
    return key


def code_bytes(typed):
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    code = "".join(c for c in typed.lower() if c.isalnum())
    ok = len(code) == 44 and code.startswith("hfr1") and all(c in alphabet for c in code[4:])
    require(ok, "this is not a recovery code: hfr1 and 40 more letters and digits")
    data = [alphabet.index(c) for c in code[4:]]
    check = 1
    for value in [ord(c) >> 5 for c in "hfr"] + [0] + [ord(c) & 31 for c in "hfr"] + data:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for n, g in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            check ^= g if top >> n & 1 else 0
    bits = sum(v << 5 * (33 - n) for n, v in enumerate(data[:34]))
    require(check == 0x2BC830A3 and bits & 3 == 0, "the recovery code is mistyped")
    return (bits >> 2).to_bytes(21, "big")


def verify(key, context, message, signature):
    signed = b"holdfast/1/signature" + bytes([len(context)]) + context + message
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except InvalidSignature:
        raise Damaged("a signature is not its device's") from None


# README.md, "Encodings" ------------------------------------------------------------------------


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        require(length <= len(self.data) - self.at, "something is cut short")
        self.at += length
        return self.data[self.at - length : self.at]

    def fixed(self, length):
        return int.from_bytes(self.take(length), "little")

    def u8(self):
        return self.fixed(1)

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                require((byte or not shift) and value < 2**64, "a number is malformed")
                return value
            shift += 7
            require(shift < 70, "a number is malformed")

    def signed(self):
        folded = self.varint()
        return (folded >> 1) ^ -(folded & 1)

    def bytes(self):
        return self.take(self.varint())

    def text(self):
        return self.bytes().decode("utf-8")

    def option(self, read):
        flag = self.u8()
        require(flag < 2, "a flag is neither 0 nor 1")
        return read() if flag else None

    def list(self, read):
        return [read() for _ in range(self.varint())]

    def time(self):
        return self.signed(), self.varint()

    def digest(self):
        return self.take(32)

    def chunk_id(self):
        return self.fixed(4), self.take(32)

    def end(self):
        require(self.at == len(self.data), "bytes follow an end")


# trees.md, lists.md ----------------------------------------------------------------------------


def read_totals(r):
    return {name: r.varint() for name in ("entries", "directories", "files", "bytes")}


def read_tree_ref(r):
    return r.u8(), r.chunk_id(), read_totals(r)


def read_piece(r):
    if kind := r.u8():
        require(kind == 1, "an unknown kind of piece")
        return r.varint(), None
    length = r.varint()
    return length, r.chunk_id()


def read_inode(r):
    inode = {name: r.varint() if name != "kind" else r.u8() for name in ("file", "kind", "mode", "uid", "gid")}
    inode["owner"], inode["group"] = r.bytes(), r.bytes()
    inode["mtime"], inode["ctime"], inode["atime"] = r.time(), r.time(), r.time()
    inode["rdev"] = r.varint()
    inode["xattrs"] = r.list(lambda: (r.bytes(), r.bytes()))
    r.fixed(8)  # fingerprint
    kind = inode["kind"]
    require(1 <= kind <= 7 and inode["mode"] <= 0o7777, "an inode is malformed")
    if kind == REGULAR:
        inode["size"], inode["allocated"] = r.varint(), r.varint()
        form = r.u8()
        require(form < 2, "an unknown kind of list")
        inode["pieces"] = None if form else r.list(lambda: read_piece(r))
        inode["list"] = (r.u8(), r.chunk_id()) if form else None
    elif kind == DIRECTORY:
        inode["tree"] = r.option(lambda: read_tree_ref(r))
    elif kind == SYMLINK:
        inode["target"] = r.bytes()
    return inode


def read_item(r, tree):
    """(position, name, file number, inode or None)"""
    if tree == LINKS:
        links, inode = r.varint(), read_inode(r)
        require(links and inode["kind"] != DIRECTORY, "a link table is malformed")
        return inode["file"], b"", inode["file"], inode
    position, name, form = r.fixed(8), r.bytes(), r.u8()
    ok = 1 <= len(name) <= 255 and name not in (b".", b"..") and b"/" not in name and b"\0" not in name
    require(ok, "a folder has an impossible name in it")
    require(form < 2, "an unknown kind of entry")
    if form:
        file, kind = r.varint(), r.u8()
        require(kind != DIRECTORY, "a folder has several names")
        return position, name, file, None
    inode = read_inode(r)
    return position, name, inode["file"], inode


# objects.md, keyring.md, index.md, chunks.md, commits.md -----------------------------------------

NAME = re.compile(r"([0-9a-f]{16}/)?([0-9]{10}-)?([0-9a-f]{64})")


class Archive:
    def __init__(self, folder, code):
        self.folder = pathlib.Path(folder)
        self.open_keyring(code_bytes(code))
        self.session_keys, self.cached = {}, {}
        self.read_index()

    def names(self, *folders):
        """Names of objects in a folder, with device, number and digest."""
        top = self.folder.joinpath(*folders)
        for path in sorted(top.rglob("*")) if top.is_dir() else []:
            name = path.relative_to(self.folder).as_posix()
            match = NAME.fullmatch(name.partition("/")[2])
            if match and path.is_file():
                device, number, digest = match.groups()
                yield name, (device or "").rstrip("/"), int((number or "0-")[:-1]), digest

    def load(self, name, magic):
        """Header, epoch and content of a binary object."""
        data = (self.folder / name).read_bytes()
        require(hashlib.sha256(data).hexdigest() == name[-64:], f"{name} holds other bytes than its name says")
        require(data[:4] == magic, f"{name} is not of its kind")
        require(data[4:8] == b"\x01\x00" + SUITE, f"{name} has a format that this reader does not know")
        return data[:12], int.from_bytes(data[8:12], "little"), data[12:]

    def open_keyring(self, code):
        versions = [(number, name) for name, _, number, _ in self.names("keyring")]
        require(versions, f"{self.folder} is not an archive: it has no keyring")
        version, name = max(versions)
        header, _, rest = self.load(name, b"HFKR")
        r = Reader(rest)
        slot = r.take(r.fixed(4))
        seed = derive(code, "recovery-key-pair")
        user_key = unwrap(seed, b"holdfast/1/recovery-slot", SUITE, "commitment/user-key", slot)
        bound = header + version.to_bytes(8, "little")
        r = Reader(xaes_open(derive(user_key, "keyring"), bound, rest[r.at :]))
        require(r.varint() == version, "the keyring has another version than its name says")
        epochs = r.list(lambda: (r.varint(), r.varint(), r.u8(), r.take(32)))
        self.secrets = {number: secret for number, _, chunker, secret in epochs}
        self.devices = {}
        for _ in range(r.varint()):
            device = {"id": r.take(8).hex(), "number": r.varint(), "name": r.text(), "key": r.take(32)}
            device["first"], device["last"], device["added"] = r.varint(), r.option(r.varint), r.time()
            self.devices[device["id"]] = device
        r.bytes()  # recovery key
        r.end()

    def key(self, epoch, label):
        require(epoch in self.secrets, f"the keyring has no epoch {epoch}")
        return derive(self.secrets[epoch], label)

    def read_index(self):
        self.index = {}
        for name, *_ in self.names("index"):
            header, epoch, rest = self.load(name, b"HFIX")
            r = Reader(xaes_open(self.key(epoch, "index"), header, rest))
            packs = r.list(lambda: (r.digest(), r.varint()))
            keys = r.list(r.digest)
            for _ in range(r.varint()):
                id, kind = r.chunk_id(), r.u8()
                pack, offset, stored, raw, key = (r.varint() for _ in range(5))
                require(pack < len(packs) and key < len(keys), f"{name} is malformed")
                place = packs[pack][0].hex(), offset, stored, raw, keys[key].hex()
                self.index.setdefault((kind, id), []).append(place)
            r.end()

    def session_key(self, digest):
        if digest not in self.session_keys:
            _, epoch, wrapped = self.load(f"keys/{digest}", b"HFKY")
            seed = self.key(epoch, "archive-key-pair")
            aad = SUITE + epoch.to_bytes(4, "little")
            key = unwrap(seed, b"holdfast/1/session-key", aad, "commitment/session-key", wrapped)
            self.session_keys[digest] = key
        return self.session_keys[digest]

    def chunk(self, kind, id):
        """Content of a chunk: the first copy that is whole."""
        error = Damaged(f"no index names chunk {id[0]}-{id[1].hex()}")
        for place in self.index.get((kind, id), []):
            try:
                return self.copy_of_chunk(kind, id, *place)
            except (OSError, Damaged) as found:
                error = found
        raise Damaged(f"chunk {id[0]}-{id[1].hex()} cannot be read: {error}")

    def copy_of_chunk(self, kind, id, pack, offset, stored_length, raw_length, key):
        with open(self.folder / "packs" / pack, "rb") as file:
            file.seek(offset)
            stored = file.read(stored_length)
        epoch, hash = id
        bound = b"holdfast/1/chunk" + SUITE + bytes([kind]) + epoch.to_bytes(4, "little") + hash
        data = xaes_open(self.session_key(key), bound, stored)
        require(data and data[0] < 2 and raw_length <= 1 << 24, "a chunk has an unknown form")
        content = data[1:]
        if data[0] == 1:
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=raw_length)
        require(len(content) == raw_length, "a chunk has another length than its index says")
        found = blake3.blake3(bytes([kind]) + content, key=self.key(epoch, "chunk-id")).digest()
        require(found == hash, "a chunk holds something else than its id says")
        return content

    def commit(self, device, sequence, digest):
        record = self.devices.get(device)
        require(record, f"device {device} is not in the keyring")
        last = record["last"]
        require(record["first"] <= sequence and (last is None or sequence <= last), "a commit is not to be believed")
        header, epoch, rest = self.load(f"commits/{device}/{sequence:010}-{digest}", b"HFCM")
        bound = header + bytes.fromhex(device) + sequence.to_bytes(8, "little")
        plaintext = xaes_open(self.key(epoch, "commit"), bound, rest)
        body, signature = plaintext[:-64], plaintext[-64:]
        verify(record["key"], b"commit", bound + body, signature)
        r = Reader(body)

        def summary():
            return {"time": r.time(), "kind": r.u8(), "label": r.option(r.text)}

        def kept():
            sequence, digest = r.varint(), r.digest().hex()
            snapshot = {"device": device, "sequence": sequence, "digest": digest} | summary()
            return snapshot | {"totals": read_totals(r), "stored_bytes": r.varint()}

        commit = {"device": device, "sequence": sequence, "digest": digest, "previous": r.option(r.digest)}
        commit |= summary() | {"root": read_inode(r), "links": r.option(lambda: read_tree_ref(r))}
        commit |= {"next_file": r.varint(), "totals": read_totals(r), "stored_bytes": r.varint(), "kept": r.list(kept)}
        r.end()
        require(commit["root"]["kind"] == DIRECTORY, "a commit's root is not a folder")
        return commit

    def forgotten(self):
        names = set()
        for name, *_ in self.names("forgotten"):
            for line in (self.folder / name).read_text("utf-8").splitlines():
                names.update(line.split(" ")[1:] if line.startswith("forget ") else [])
        return names

    def snapshots(self):
        """All snapshots, by device and sequence."""
        found, forgotten = [], self.forgotten()
        for device in sorted(self.devices):
            commits = [(number, digest) for _, _, number, digest in self.names("commits", device)]
            newest = max((number for number, _ in commits), default=None)
            for number, digest in commits:
                if number == newest:
                    commit = self.commit(device, number, digest)
                    found += commit["kept"] + ([commit] if commit["kind"] > 1 else [])
        named = lambda s: f"commits/{s['device']}/{s['sequence']:010}-{s['digest']}"
        return [s for s in found if named(s) not in forgotten]

    def items(self, tree, level, id):
        """Items of a tree, in order."""
        r = Reader(self.chunk(TREE, id))
        require(r.u8() == tree and r.u8() == level, "a tree's node is in another place than it says")
        if level == 0:
            items = r.list(lambda: read_item(r, tree))
            r.end()
            yield from items
        else:
            parts = r.list(lambda: (r.fixed(8), r.chunk_id(), read_totals(r)))
            r.end()
            for _, child, _ in parts:
                yield from self.items(tree, level - 1, child)

    def list_pieces(self, level, id):
        r = Reader(self.chunk(LIST, id))
        require(r.u8() == level, "a list's node is in another place than it says")
        if level == 0:
            pieces = r.list(lambda: read_piece(r))
            r.end()
            yield from pieces
        else:
            parts = r.list(lambda: (r.varint(), r.chunk_id()))
            r.end()
            for _, child in parts:
                yield from self.list_pieces(level - 1, child)

    def pieces(self, inode):
        """(length, chunk id or None) of a file."""
        return inode["pieces"] if inode["list"] is None else self.list_pieces(*inode["list"])


# Restoring -------------------------------------------------------------------------------------


class Restore:
    def __init__(self, archive, commit):
        self.archive, self.done, self.problems = archive, {}, []
        links = commit["links"]
        items = archive.items(LINKS, *links[:2]) if links else []
        self.links = {file: inode for _, _, file, inode in items}

    def problem(self, path, error):
        self.problems.append(path)
        print(f"{os.fsdecode(path)}: {error}", file=sys.stderr)

    def folder(self, inode, path):
        os.makedirs(path, exist_ok=True)
        try:
            for _, name, file, entry in self.archive.items(FOLDER, *inode["tree"][:2]) if inode["tree"] else []:
                self.entry(os.path.join(path, name), file, entry)
        except (Damaged, OSError) as error:
            self.problem(path, error)
        self.attributes(inode, path)

    def entry(self, path, file, inode):
        try:
            if inode is None:
                require(file in self.links, f"file {file} is not in the link table")
                if file in self.done:
                    return os.link(self.done[file], path, follow_symlinks=False)
                self.done[file], inode = path, self.links[file]
            if inode["kind"] == DIRECTORY:
                return self.folder(inode, path)
            self.make(inode, path)
            self.attributes(inode, path)
        except (Damaged, OSError) as error:
            self.problem(path, error)

    def make(self, inode, path):
        kind, rdev = inode["kind"], inode["rdev"]
        if kind == SYMLINK:
            os.symlink(inode["target"], path)
        elif kind != REGULAR:
            types = {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK}
            os.mknod(path, types[kind] | 0o600, rdev if kind in (CHAR, BLOCK) else 0)
        else:
            with open(path, "xb") as file:
                for length, id in self.archive.pieces(inode):
                    if id is None:
                        file.seek(length, os.SEEK_CUR)
                        continue
                    content = self.archive.chunk(DATA, id)
                    require(len(content) == length, "a piece has another length than its chunk")
                    file.write(content)
                require(file.tell() <= inode["size"], "a list is longer than its file")
                file.truncate(inode["size"])

    def attributes(self, inode, path):
        """Owner first, since changing it clears set-id bits and capabilities; times last."""
        try:
            os.chown(path, inode["uid"], inode["gid"], follow_symlinks=False)
        except PermissionError:
            pass  # who is not root owns what they restore
        if inode["kind"] != SYMLINK:
            os.chmod(path, inode["mode"])
        for name, value in inode["xattrs"]:
            try:
                os.setxattr(path, name, value, follow_symlinks=False)
            except OSError as error:
                self.problem(path, f"extended attribute {os.fsdecode(name)}: {error}")
        times = tuple(s * 10**9 + n for s, n in (inode["atime"], inode["mtime"]))
        os.utime(path, ns=times, follow_symlinks=False)


def shown(snapshot, devices):
    seconds = snapshot["time"][0]
    time = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
    name, totals = devices[snapshot["device"]]["name"], snapshot["totals"]
    label = snapshot["label"] or ""
    return f"{snapshot['device']}/{snapshot['sequence']}\t{name}\t{time}\t{totals['files']}\t{totals['bytes']}\t{label}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--recovery-code-file", required=True)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("snapshots")
    restore = commands.add_parser("restore")
    restore.add_argument("snapshot", help="as `snapshots` prints it, or `latest`")
    restore.add_argument("target")
    arguments = parser.parse_args()

    try:
        archive = Archive(arguments.archive, pathlib.Path(arguments.recovery_code_file).read_text())
        snapshots = archive.snapshots()
        if arguments.command == "snapshots":
            print("\n".join(shown(snapshot, archive.devices) for snapshot in snapshots))
            return 0
        named = lambda s: f"{s['device']}/{s['sequence']}" == arguments.snapshot or s["label"] == arguments.snapshot
        if arguments.snapshot == "latest":
            wanted = sorted(snapshots, key=lambda s: s["time"])[-1:]
        else:
            wanted = [s for s in snapshots if named(s)]
        require(wanted, f"there is no snapshot {arguments.snapshot}")
        commit = archive.commit(*(wanted[0][field] for field in ("device", "sequence", "digest")))
        run = Restore(archive, commit)
    except (Damaged, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    run.folder(commit["root"], os.fsencode(arguments.target))
    return 3 if run.problems else 0


if __name__ == "__main__":
    sys.exit(main())
