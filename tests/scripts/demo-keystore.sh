# Servers of the demo and of the benchmark of grants. Sourced; the caller has $demo, $keystore_binary and say().

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

# A keystore on $demo/keystore.toml, in whose [store] archives are: $demo/store.toml.
start_keystore() {
    cat - "$demo/store.toml" >"$demo/keystore.toml" <<CONFIG
data = "$demo/keystore"
listen = "127.0.0.1:0"
$1
CONFIG
    start keystore "$keystore_binary" serve --config "$demo/keystore.toml"
    wait_for keystore grep -q '^certificate SHA-256' "$demo/keystore.log"
    server=https://localhost:$(sed -n 's/^listening on https:.*:\([0-9]*\)$/\1/p' "$demo/keystore.log")
}

# Five people with a share each, which lie in $people; three of them open it.
open_keystore() {
    local arguments=() name number
    for name in "${holders[@]}"; do
        keystore operator operator add "$name" --role holder --out "$people/$name.pem" >/dev/null
        arguments+=(--holder "$name")
    done
    keystore operator --json init "${arguments[@]}" >"$people/shares.json"
    for number in 1 2 3 4 5; do
        # One JSON object per share; no other tool is needed to take them apart.
        tr '{' '\n' <"$people/shares.json" | sed -n "s/^\"number\":$number,.*\"share\":\"\([^\"]*\)\".*/\1/p" >"$people/${holders[$((number - 1))]}.share"
    done
    rm "$people/shares.json"
    keystore operator unseal --start | sed -n '1p' | sed 's/^/   /'
    for name in alice carol eve; do
        keystore "$name" unseal --share-file "$people/$name.share" | sed -n '1p' | sed "s/^/   $name: /"
    done
}
