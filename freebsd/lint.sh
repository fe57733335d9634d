#!/bin/sh
# lint.sh: what can be said of the FreeBSD folder without FreeBSD: shell scripts parse and shellcheck is content, manual
# pages are clean, the port's list of crates is Cargo.lock's.
set -eu
cd "$(dirname "$0")/.."

scripts="freebsd/lint.sh freebsd/cross/build.sh freebsd/cross/cc.sh freebsd/cross/toolchain.sh freebsd/port/crates.sh
    freebsd/rc.d/l4sd freebsd/rc.d/l4sd_keeper freebsd/testbed/testbed.sh"
for script in $scripts; do
    sh -n "$script"
done
if command -v shellcheck >/dev/null; then
    # shellcheck disable=SC2086 # a list of names without spaces
    shellcheck --shell=sh $scripts
    echo "shellcheck: $(echo "$scripts" | wc -w) scripts"
else
    echo "SKIPPED: no shellcheck (Debian package shellcheck)"
fi
if command -v mandoc >/dev/null; then
    # That other systems' manuals are not installed here is no fault of ours.
    said=$(mandoc -Tlint freebsd/man/*.[58] | grep -v 'referenced manual not found' || true)
    if [ -n "$said" ]; then
        echo "$said" >&2
        exit 1
    fi
    echo "mandoc: $(find freebsd/man -name '*.[58]' | wc -l) manual pages"
else
    echo "SKIPPED: no mandoc (Debian package mandoc)"
fi
freebsd/port/crates.sh --check
