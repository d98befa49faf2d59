#!/usr/bin/env bash
# The drive without a keystore: archive in a local folder, mount, copy in, snapshot, change, snapshot, restore, compare.
# Leaves the drive mounted; demo-down.sh ends and removes it.
set -euo pipefail

holdfast=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
demo=${HOLDFAST_DEMO:-${TMPDIR:-/tmp}/holdfast-demo-$(id -u)}
export HOLDFAST_HOME=$demo/home
drive=$demo/drive
. "$top/tests/scripts/demo-lib.sh"

begin_demo
gather_sources
say "A new archive in a local folder"
"$holdfast" init "$demo/store" --device demo | sed 's/^/   /'
say "Mount it"
"$holdfast" mount "$drive" | sed 's/^/   /'
main_job demo
du -sh "$demo/store" | awk '{print "   the store holds " $1}'

say "The drive is mounted. What next:"
cat <<WHAT
   ls $drive/snapshots/latest/sources       browse a snapshot; copy anything back into $drive/current
   HOLDFAST_HOME=$HOLDFAST_HOME $holdfast status
   make demo-down                           unmount and remove the demo
WHAT
