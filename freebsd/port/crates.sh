#!/bin/sh
# crates.sh [--check]: writes the port's Makefile.crates, the crates of Cargo.lock as USES=cargo wants them; with --check
# only says whether it is up to date. Checksums and sizes go into distinfo, which `make makesum` writes.
set -eu
cd "$(dirname "$0")/../.."
list=freebsd/port/net/l4sd/Makefile.crates

crates() {
    # A package without a source is of this workspace.
    awk -F '"' '
        /^\[\[package\]\]/ { name = version = "" }
        /^name = / { name = $2 }
        /^version = / { version = $2 }
        /^source = / {
            if ($2 !~ /^registry\+/) { print "not from the registry: " name | "cat 1>&2"; exit 1 }
            print name "-" version
        }' Cargo.lock | LC_ALL=C sort | awk '
        { line[NR] = $0 }
        END {
            for (i = 1; i <= NR; i++)
                print (i == 1 ? "CARGO_CRATES=\t" : "\t\t") line[i] (i < NR ? " \\" : "")
        }'
}

if [ "${1:-}" = --check ]; then
    if crates | cmp -s - "$list"; then
        echo "$list: $(grep -c . "$list") crates, as in Cargo.lock"
    else
        echo "$list is not what Cargo.lock says; run freebsd/port/crates.sh" >&2
        exit 1
    fi
else
    crates >"$list"
fi
