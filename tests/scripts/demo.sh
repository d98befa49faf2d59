#!/usr/bin/env bash
# The main job on real input: archive, mount, copy in, snapshot, change, snapshot, restore, compare.
# Leaves the drive mounted; demo-down.sh ends and removes it.
set -euo pipefail

holdfast=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
demo=${HOLDFAST_DEMO:-${TMPDIR:-/tmp}/holdfast-demo-$(id -u)}
export HOLDFAST_HOME=$demo/home
drive=$demo/drive

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

if [ -e "$demo" ]; then
    echo "there is a demo in $demo already; remove it with: make demo-down" >&2
    exit 1
fi
mkdir -p "$drive" && chmod 700 "$demo"
ln -s "$(realpath "$holdfast")" "$demo/holdfast"

# A real source tree: this project, and the sources of the libraries that it was built from.
sources=$demo/sources
mkdir "$sources"
git -C "$top" archive --prefix=holdfast/ HEAD 2>/dev/null | tar -x -C "$sources" ||
    rsync -a --exclude target --exclude .venv --exclude .git "$top/" "$sources/holdfast/"
for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    # A part is enough for a demo: the libraries from a to f.
    find "$folder" -mindepth 1 -maxdepth 1 -name '[a-f]*' -exec cp -a {} "$sources/" \; 2>/dev/null || true
done

say "1. A new archive in a local folder"
"$holdfast" init "$demo/store" --device demo | sed 's/^/   /'
say "2. Mount it"
"$holdfast" mount "$drive" | sed 's/^/   /'
say "3. Copy $(find "$sources" -type f | wc -l) files in, $(du -sh "$sources" | cut -f1)"
time cp -a "$sources" "$drive/current/"
say "4. A snapshot"
first=$("$holdfast" snapshot first)
echo "   $first"
say "5. Change and delete files, and take another"
find "$drive/current/sources/holdfast" -name '*.md' -exec sh -c 'echo changed >> "$1"' _ {} \;
rm -rf "$drive/current/sources/holdfast/fs"
"$holdfast" snapshot second | sed 's/^/   /'
"$holdfast" diff first second | tail -n 3 | sed 's/^/   /'
say "6. Restore from the first, and compare byte for byte"
"$holdfast" restore first "$demo/restored" | sed 's/^/   /'
diff -r --no-dereference "$sources" "$demo/restored/sources"
diff -r --no-dereference "$sources" "$drive/snapshots/demo/first/sources"
echo "   the restored tree and the mounted snapshot equal the source tree"
du -sh "$demo/store" | awk '{print "   the store holds " $1}'

say "The drive is mounted. What next:"
cat <<WHAT
   ls $drive/snapshots/latest/sources       browse a snapshot; copy anything back into $drive/current
   HOLDFAST_HOME=$HOLDFAST_HOME $holdfast status
   make demo-down                           unmount and remove the demo
WHAT
