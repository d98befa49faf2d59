#!/usr/bin/env bash
# Makes sure that what `make demo` (base), `make test` (test), `make test-posix` (posix) and
# `make test-faults` (faults) need is there: installs it where it may, otherwise says the exact command. Installs
# nothing that is there already. `servers` builds the S3 servers that the tests use where they find them, into the
# folder TOOLS; a machine may do without.
set -euo pipefail

what=${1:-base}
top=$(cd "$(dirname "$0")/../.." && pwd)
missing=()

need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}

need cargo cargo
need cc gcc
need rsync rsync
# Root mounts by itself; others need the setuid helper.
[ "$(id -u)" = 0 ] || need fusermount3 fuse3
if [ "$what" = test ]; then
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    need getfattr attr
    need setfacl acl
    need git git
    need age age
fi

if [ "$what" = posix ]; then
    need stress-ng stress-ng
    need fio fio
    need sqlite3 sqlite3
    need tar tar
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fi
if [ "$what" = faults ]; then
    need strace strace
    need mkfs.ext4 e2fsprogs
    need mount mount
    need systemd-analyze systemd
fi

if [ ${#missing[@]} -gt 0 ]; then
    for package in "${missing[@]}"; do
        if [ "$package" = cargo ]; then
            echo "Rust 1.95 or newer is needed: install it with rustup" >&2
            exit 1
        fi
    done
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "packages are missing; install them with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi

if [ ! -e /dev/fuse ]; then
    if [ "$(id -u)" = 0 ]; then
        mknod /dev/fuse c 10 229 && chmod 0666 /dev/fuse
    else
        echo "there is no /dev/fuse; make it with: sudo modprobe fuse" >&2
        exit 1
    fi
elif ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
    echo "/dev/fuse is not open to you; open it with: sudo chmod 666 /dev/fuse" >&2
    exit 1
fi

if [ "$what" = test ]; then
    [ -x "$top/.venv/bin/python" ] || python3 -m venv "$top/.venv"
    # pip looks at what is there and is quick when nothing is missing.
    "$top/.venv/bin/pip" install --quiet --disable-pip-version-check \
        -r "$top/tests/requirements.txt" -r "$top/tests/reader/requirements.txt"
fi

if [ "$what" = servers ]; then
    tools=${TOOLS:?the folder for tools}
    if ! [ -x "$tools/bin/garage" ] && ! command -v garage >/dev/null; then
        CARGO_TARGET_DIR=$tools/build cargo install --quiet --locked --root "$tools" garage ||
            echo "garage cannot be built; its tests are left out" >&2
        rm -rf "$tools/build"
    fi
    if ! [ -x "$tools/bin/minio" ] && ! command -v minio >/dev/null; then
        if command -v go >/dev/null; then
            GOBIN="$tools/bin" go install github.com/minio/minio@latest ||
                echo "minio cannot be built; its tests are left out" >&2
        else
            echo "there is no Go to build minio with; its tests are left out" >&2
        fi
    fi
fi
