#!/bin/sh
# Instructions per packet of the packet path, counted by callgrind; the same on a loaded machine as on an idle one.
# Each row is the difference of two runs of bench/src/bin/fixed_work.rs, so what starting up costs cancels out.
#
#   bench/callgrind.sh [WHAT...]       all rows, or those named
set -eu

cd "$(dirname "$0")/.."
if ! command -v valgrind >/dev/null 2>&1; then
    echo "SKIPPED: valgrind is not installed (Debian: apt-get install valgrind; FreeBSD: pkg install valgrind)" >&2
    exit 0
fi

few=64000
many=192000
[ $# -gt 0 ] || set -- parse port queue:taildrop queue:dualpi2 path:taildrop path:dualpi2 sim

${CARGO:-cargo} build --release --quiet -p l4sd-bench --bin fixed_work
work=${CARGO_TARGET_DIR:-target}/release/fixed_work
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT

instructions() {
    valgrind --tool=callgrind --callgrind-out-file="$trace" "$work" "$1" "$2" >/dev/null 2>&1
    awk '/^(summary|totals):/ { print $2; exit }' "$trace"
}

printf '%-16s %12s\n' what 'instr/packet'
for what in "$@"; do
    base=$(instructions "$what" "$few")
    full=$(instructions "$what" "$many")
    awk -v what="$what" -v d=$((full - base)) -v n=$((many - few)) 'BEGIN { printf "%-16s %12.1f\n", what, d / n }'
done
