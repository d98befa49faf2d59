#!/usr/bin/env bash
# Ends the demo's drive and servers, and removes the demo.
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
for name in keystore bucket; do
    file=$demo/$name.pid
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    # A number can be another process's by now: ours has the demo's folder among its arguments.
    if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$demo"; then
        kill "$pid"
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        # A bucket that does not hurry: its objects go with the demo.
        ! kill -0 "$pid" 2>/dev/null || kill -KILL "$pid"
    fi
done
rm -rf --one-file-system "$demo"
echo "the demo is removed"
