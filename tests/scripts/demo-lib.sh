# What both demos do with a drive. Sourced: $top, $demo, $holdfast, $drive are set.

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# A folder for the demo, and in it the binaries that it was made with.
begin_demo() {
    if [ -e "$demo" ]; then
        echo "there is a demo in $demo already; remove it with: make demo-down" >&2
        exit 1
    fi
    mkdir -p "$drive" && chmod 700 "$demo"
    ln -s "$(realpath "$holdfast")" "$demo/holdfast"
}

# A real source tree: this project, and the sources of the libraries that it was built from.
gather_sources() {
    sources=$demo/sources
    mkdir "$sources"
    git -C "$top" archive --prefix=holdfast/ HEAD 2>/dev/null | tar -x -C "$sources" ||
        rsync -a --exclude target --exclude .venv --exclude .git "$top/" "$sources/holdfast/"
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        # A part is enough for a demo: the libraries from a to f.
        find "$folder" -mindepth 1 -maxdepth 1 -name '[a-f]*' -exec cp -a {} "$sources/" \; 2>/dev/null || true
    done
}

# $1: the device's name.
main_job() {
    say "Copy $(find "$sources" -type f | wc -l) files in, $(du -sh "$sources" | cut -f1)"
    time cp -a "$sources" "$drive/current/"
    say "A snapshot"
    echo "   $("$holdfast" snapshot first)"
    say "Change and delete files, and take another"
    find "$drive/current/sources/holdfast" -name '*.md' -exec sh -c 'echo changed >> "$1"' _ {} \;
    rm -rf "$drive/current/sources/holdfast/fs"
    "$holdfast" snapshot second | sed 's/^/   /'
    "$holdfast" diff first second | tail -n 3 | sed 's/^/   /'
    say "Restore from the first, and compare byte for byte"
    "$holdfast" restore first "$demo/restored" | sed 's/^/   /'
    diff -r --no-dereference "$sources" "$demo/restored/sources"
    diff -r --no-dereference "$sources" "$drive/snapshots/$1/first/sources"
    echo "   the restored tree and the mounted snapshot equal the source tree"
}
