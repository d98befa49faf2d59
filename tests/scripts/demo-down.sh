#!/usr/bin/env bash
# Ends the demo's drive and removes the demo.
set -euo pipefail

holdfast=$1
demo=${HOLDFAST_DEMO:-${TMPDIR:-/tmp}/holdfast-demo-$(id -u)}
export HOLDFAST_HOME=$demo/home

[ -e "$demo" ] || { echo "there is no demo"; exit 0; }
# Built into another folder meanwhile: the one that the demo was made with.
[ -x "$holdfast" ] || holdfast=$demo/holdfast
if grep -q " $demo/drive .* - fuse" /proc/self/mountinfo; then
    "$holdfast" unmount "$demo/drive" --timeout 60
fi
rm -rf --one-file-system "$demo"
echo "the demo is removed"
