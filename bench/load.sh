#!/bin/sh
# The own load generator on both ends of l4sd, over veth pairs: the non-drop rate for each frame size.
#
#   g0 -> b0 | l4sd run | b1 -> g1      g0 and g1 in a namespace of their own
#
# usage: load.sh [-k packet|xdp] [-r RATE] [-p POLICY] [-d TIME] [-l LOSS_PERCENT] [-o FILE.csv] [L4SD] [-- BENCH_ARGS...]
#
# As root, or for packet: as anybody who may make user namespaces; else it skips and says so. Everything happens in
# namespaces that end with the run. On two cores or more, l4sd has core 0 and the generator core 1.
set -eu

kind=packet rate=100Gbit policy=dualpi2 time=1s loss=0.1 csv=
while getopts k:r:p:d:l:o: flag; do
    case $flag in
    k) kind=$OPTARG ;;
    r) rate=$OPTARG ;;
    p) policy=$OPTARG ;;
    d) time=$OPTARG ;;
    l) loss=$OPTARG ;;
    o) csv=$OPTARG ;;
    *) exit 64 ;;
    esac
done
case $kind in packet | xdp) ;; *) echo "load.sh: '$kind' is neither packet nor xdp" >&2; exit 64 ;; esac

if [ "${L4SD_LOAD_INSIDE:-}" != 1 ]; then
    for tool in ip ethtool unshare nsenter; do
        command -v $tool >/dev/null || { echo "SKIPPED: load.sh needs $tool" >&2; exit 0; }
    done
    export L4SD_LOAD_INSIDE=1
    if unshare --net --mount true 2>/dev/null; then exec unshare --net --mount -- "$0" "$@"; fi
    if [ "$kind" = packet ] && unshare -Urnm true 2>/dev/null; then exec unshare -Urnm -- "$0" "$@"; fi
    echo "SKIPPED: load.sh -k $kind: this user may make no network namespaces here (run as root)" >&2
    exit 0
fi
shift $((OPTIND - 1))

here=$(cd "$(dirname "$0")" && pwd)
l4sd=$here/../target/release/l4sd
if [ $# -gt 0 ] && [ "$1" != -- ]; then
    l4sd=$1
    shift
fi
if [ "${1:-}" = -- ]; then shift; fi
[ -x "$l4sd" ] || { echo "load.sh: no $l4sd: make build" >&2; exit 69; }
[ $# -gt 0 ] || set -- --sweep
[ -z "$csv" ] || set -- "$@" --csv "$csv"

work=$(mktemp -d)
ends='' bridge=''
clean() {
    for pid in $bridge $ends; do kill "$pid" 2>/dev/null || true; done
    for pid in $bridge $ends; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

unshare --net sleep 100000 & ends=$!
while [ "$(readlink /proc/self/ns/net)" = "$(readlink "/proc/$ends/ns/net")" ]; do sleep 0.02; done
plain="tx off rx off tso off gso off gro off rxvlan off txvlan off rx-vlan-stag-hw-parse off
    tx-vlan-stag-hw-insert off tx-udp-segmentation off"
ip link set lo up
for i in 0 1; do
    ip link add "b$i" type veth peer name "g$i"
    for dev in "b$i" "g$i"; do
        ip link set "$dev" addrgenmode none
        # shellcheck disable=SC2086 # a list of words
        ethtool -K "$dev" $plain >/dev/null 2>&1
    done
    ip link set "g$i" netns "$ends"
    ip link set "b$i" up
    nsenter --net="/proc/$ends/ns/net" ip link set "g$i" addrgenmode none
    nsenter --net="/proc/$ends/ns/net" ip link set "g$i" up
done

pin() { "$@"; }
core=''
if [ "$(getconf _NPROCESSORS_ONLN)" -gt 1 ] && command -v taskset >/dev/null; then
    pin() { exec taskset -c 0 "$@"; }
    core='--core 1'
fi
(pin "$l4sd" run --left "$kind:b0" --right "$kind:b1" --rate "$rate" --policy "$policy" --metrics off \
    --out "$work" >"$work/log" 2>&1) &
bridge=$!
# Forwarding is the last thing that it says before it does.
tries=0
until grep -q forwarding "$work/log" 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 $bridge 2>/dev/null; then
        echo "load.sh: l4sd did not start:" >&2
        cat "$work/log" >&2
        exit 69
    fi
    sleep 0.1
done
# shellcheck disable=SC2086 # no core is no word
nsenter --net="/proc/$ends/ns/net" "$l4sd" bench --gen "$kind:g0" --sink "$kind:g1" --ndr --loss "$loss" \
    --duration "$time" $core "$@"
