#!/usr/bin/env bash
# The real thing on one computer: a keystore that three of five people open, a bucket (SeaweedFS where there is one, else a
# folder of the keystore's), a user who is enrolled, and the user's drive at work. Leaves it all running; demo-down.sh ends it.
set -euo pipefail

holdfast=$1
keystore_binary=$2
top=$(cd "$(dirname "$0")/../.." && pwd)
demo=${HOLDFAST_DEMO:-${TMPDIR:-/tmp}/holdfast-demo-$(id -u)}
export HOLDFAST_HOME=$demo/home
drive=$demo/drive
. "$top/tests/scripts/demo-lib.sh"
umask 077

holders=(alice bob carol dave eve)
people=$demo/people

# Starts a server in the background and keeps its process id for demo-down.
start() {
    local name=$1
    shift
    # Not in the terminal's process group: the demo goes on when this script ends.
    setsid "$@" >"$demo/$name.log" 2>&1 </dev/null &
    echo $! >"$demo/$name.pid"
}

# Waits for a line or a port; the log says why if it does not come.
wait_for() {
    local name=$1
    shift
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return; fi
        if ! kill -0 "$(cat "$demo/$name.pid")" 2>/dev/null; then break; fi
        sleep 0.2
    done
    echo "$name did not start; its log:" >&2
    tail -n 20 "$demo/$name.log" >&2
    exit 1
}

# Asks the keystore as one person.
keystore() {
    local who=$1
    shift
    local credential=$people/$who.pem
    [ "$who" = operator ] && credential=$demo/keystore/first-operator.pem
    "$keystore_binary" --server "$server" --identity "$credential" "$@"
}

begin_demo
ln -s "$(realpath "$keystore_binary")" "$demo/holdfast-keystore"
mkdir "$people"
gather_sources

weed=$(command -v weed || { [ -x "$top/.venv/bin/weed" ] && echo "$top/.venv/bin/weed"; } || true)
if [ -n "$weed" ]; then
    say "A bucket: SeaweedFS"
    . "$top/tests/scripts/demo-bucket.sh"
    start_bucket
else
    say "No SeaweedFS here (make setup-test brings one): the keystore keeps the objects in a folder of its own"
    : >"$demo/store.toml"
fi

say "The keystore starts, sealed"
cat - "$demo/store.toml" >"$demo/keystore.toml" <<CONFIG
data = "$demo/keystore"
listen = "127.0.0.1:0"
CONFIG
start keystore "$keystore_binary" serve --config "$demo/keystore.toml"
wait_for keystore grep -q '^certificate SHA-256' "$demo/keystore.log"
server=https://localhost:$(sed -n 's/^listening on https:.*:\([0-9]*\)$/\1/p' "$demo/keystore.log")
echo "   $server"

say "Five people are let in, and each gets a share of the key; three of them open the keystore"
for name in "${holders[@]}"; do
    keystore operator operator add "$name" --role holder --out "$people/$name.pem" >/dev/null
done
arguments=()
for name in "${holders[@]}"; do arguments+=(--holder "$name"); done
keystore operator --json init "${arguments[@]}" >"$people/shares.json"
for number in 1 2 3 4 5; do
    # One JSON object per share; no other tool is needed to take them apart.
    tr '{' '\n' <"$people/shares.json" | sed -n "s/^\"number\":$number,.*\"share\":\"\([^\"]*\)\".*/\1/p" >"$people/${holders[$((number - 1))]}.share"
done
rm "$people/shares.json"
printf '   \033[1;31m%s\033[0m\n' \
    "THIS IS A DEMO: all five shares lie in $people, beside the keystore that they open." \
    "In earnest each of five people keeps one, and nobody ever sees two (docs/operations.md)."
keystore operator unseal --start | sed -n '1p' | sed 's/^/   /'
for name in alice carol eve; do
    keystore "$name" unseal --share-file "$people/$name.share" | sed -n '1p' | sed "s/^/   $name: /"
done

say "Two recovery admins, whose policy is signed with a key that stays offline"
keystore operator policy new-root "$people/policy-root.key" >/dev/null
admins=()
for name in frank grace; do
    admins+=(--admin "$name=$(keystore operator policy new-admin "$people/$name.admin.key" | tail -n 1)")
done
keystore operator policy make --root "$people/policy-root.key" --threshold 2 "${admins[@]}" "$demo/policy" | sed 's/^/   /'
keystore operator policy publish "$demo/policy" | sed 's/^/   /'

say "A user is invited, and enrols this computer"
keystore operator user add demo --out "$people/demo.token" | sed 's/^/   /'
head -c 18 /dev/urandom | base64 >"$people/demo.password"
"$holdfast" enrol "$server" --device demo --token-file "$people/demo.token" --password-file "$people/demo.password" \
    --second-factor-file "$people/demo.second-factor" --recovery-code-out "$people/demo.recovery-code" | sed 's/^/   /'
say "What the keystore's audit log has of it"
keystore operator audit tail | grep enrolment_step | sed 's/^/   /'

say "Mount the drive: the computer has no credentials of the store, each object is granted by the keystore"
"$holdfast" mount "$drive" | sed 's/^/   /'
main_job demo

say "The drive is mounted. What next:"
cat <<WHAT
   ls $drive/snapshots/latest/sources       browse a snapshot; copy anything back into $drive/current
   HOLDFAST_HOME=$HOLDFAST_HOME $holdfast status
   make demo-down                           unmount, end the servers and remove the demo
WHAT
