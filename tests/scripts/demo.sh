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

. "$top/tests/scripts/demo-keystore.sh"

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
start_keystore ""
echo "   $server"

say "Five people are let in, and each gets a share of the key; three of them open the keystore"
printf '   \033[1;31m%s\033[0m\n' \
    "THIS IS A DEMO: all five shares lie in $people, beside the keystore that they open." \
    "In earnest each of five people keeps one, and nobody ever sees two (docs/operations.md)."
open_keystore

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
