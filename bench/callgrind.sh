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
[ $# -gt 0 ] || set -- parse port queue:taildrop queue:dualpi2 path:taildrop path:dualpi2 netmap sim

case $(uname) in
Linux) ${CARGO:-cargo} build --release --quiet -p l4sd-bench --features netmap --bin fixed_work --bin netmap_path ;;
*) ${CARGO:-cargo} build --release --quiet -p l4sd-bench --bin fixed_work ;;
esac
release=${CARGO_TARGET_DIR:-target}/release
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT

# instructions N COMMAND...: of COMMAND N.
instructions() {
    packets=$1
    shift
    valgrind --tool=callgrind --callgrind-out-file="$trace" "$@" "$packets" >/dev/null 2>&1
    awk '/^(summary|totals):/ { print $2; exit }' "$trace"
}

printf '%-16s %12s\n' what 'instr/packet'
for what in "$@"; do
    case $what in
    netmap)
        # DualPI2 between two ports. What the model of the kernel does in a sync is left out: entering one stops the count.
        if [ "$(uname)" != Linux ]; then
            echo "SKIPPED: netmap (the model of its kernel runs on Linux)" >&2
            continue
        fi
        kernel='*as l4sd_netmap::kernel::Kernel>'
        set -- --toggle-collect='*Forwarder*breath*' --toggle-collect="$kernel::rx_sync*" \
            --toggle-collect="$kernel::tx_sync*" "$release/netmap_path"
        ;;
    *) set -- "$release/fixed_work" "$what" ;;
    esac
    base=$(instructions "$few" "$@")
    full=$(instructions "$many" "$@")
    awk -v what="$what" -v d=$((full - base)) -v n=$((many - few)) 'BEGIN { printf "%-16s %12.1f\n", what, d / n }'
done
