#!/usr/bin/env bash
# What grants cost: the same folder backed up into and restored from one bucket, with the bucket's credentials on the computer and by
# grants of a keystore, in turn. Prints each round and the medians; a ratio below 1 means that grants are slower.
set -euo pipefail

holdfast=$1
keystore_binary=$2
folder=${3:-}
runs=${4:-3}
top=$(cd "$(dirname "$0")/../.." && pwd)
demo=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-bench-grants-XXXXXX")
drive=$demo/drive
. "$top/tests/scripts/demo-lib.sh"
. "$top/tests/scripts/demo-keystore.sh"
umask 077

end() {
    for name in keystore bucket; do
        [ -e "$demo/$name.pid" ] || continue
        kill -KILL "$(cat "$demo/$name.pid")" 2>/dev/null
        wait "$(cat "$demo/$name.pid")" 2>/dev/null || true
    done
    rm -rf --one-file-system "$demo"
}
trap end EXIT

weed=$(command -v weed || { [ -x "$top/.venv/bin/weed" ] && echo "$top/.venv/bin/weed"; } || true)
if [ -z "$weed" ]; then
    echo "there is no weed (SeaweedFS); run: make setup-test" >&2
    exit 1
fi
mkdir "$people"
if [ -z "$folder" ]; then
    gather_sources
    folder=$sources
fi
. "$top/tests/scripts/demo-bucket.sh"
start_bucket >/dev/null
endpoint=$(sed -n 's/^endpoint = "\(.*\)"$/\1/p' "$demo/store.toml")
start_keystore ""
open_keystore >/dev/null

# How long a command takes, in milliseconds.
took() {
    local from to
    from=$(date +%s%N)
    "$@" >/dev/null
    to=$(date +%s%N)
    echo $(((to - from) / 1000000))
}

prepare_direct() {
    "$holdfast" init "s3://holdfast/direct-$1" --endpoint "$endpoint" --region us-east-1 --device bench >/dev/null
}

prepare_granted() {
    keystore operator user add "bench-$1" --policy private --out "$demo/token" >/dev/null
    echo "a password of the benchmark" >"$demo/password"
    "$holdfast" enrol "$server" --device bench --token-file "$demo/token" --password-file "$demo/password" \
        --second-factor-file "$HOLDFAST_HOME.factor" --recovery-code-out "$HOLDFAST_HOME.code" >/dev/null
    rm "$demo/token"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

folder=$(realpath "$folder")
find "$folder" -type f -exec cat {} + >/dev/null
echo "$(find "$folder" -type f | wc -l) files, $(du -sm "$folder" | cut -f1) MiB, SeaweedFS on this computer; milliseconds"
printf '%-6s %14s %14s %14s %14s\n' round "backup direct" "by grants" "restore direct" "by grants"
for run in $(seq "$runs"); do
    # Whoever begins has the other one's caches to fill: they take turns.
    ways=(direct granted)
    [ $((run % 2)) -eq 0 ] && ways=(granted direct)
    for way in "${ways[@]}"; do
        export HOLDFAST_HOME=$demo/home-$way-$run
        "prepare_$way" "$run"
        took "$holdfast" backup "$folder" >>"$demo/backup-$way"
        rm -rf "$HOLDFAST_HOME/cache"
        took "$holdfast" restore latest "$demo/restored" >>"$demo/restore-$way"
        diff -r --no-dereference "$folder" "$demo/restored$folder" >/dev/null
        rm -rf "$demo/restored"
    done
    printf '%-6s %14s %14s %14s %14s\n' "$run" "$(sed -n "${run}p" "$demo/backup-direct")" "$(sed -n "${run}p" "$demo/backup-granted")" \
        "$(sed -n "${run}p" "$demo/restore-direct")" "$(sed -n "${run}p" "$demo/restore-granted")"
done
for step in backup restore; do
    direct=$(median <"$demo/$step-direct")
    granted=$(median <"$demo/$step-granted")
    awk -v s="$step" -v d="$direct" -v g="$granted" 'BEGIN { printf "%s: median %d direct, %d by grants; throughput by grants %.2f of direct\n", s, d, g, d / g }'
done
