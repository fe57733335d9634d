#!/bin/sh
# Forwarding rate of l4sd and of its peers over one veth topology, interleaved in one run, with medians.
#
#   gen (CPU 1) -> vA | mA -> forwarder (CPU 0) -> mB | vB -> XDP_DROP, which the driver counts
#
# usage: run.sh [-n ROUNDS] [-s SECONDS] [-o FILE.json] [-b FRAME_BYTES] [-p "PEER ..."] [L4SD]
#
# Peers: l4sd_xdp l4sd_packet bare_xdp testpmd_xdp testpmd_packet bridge (those whose binary is missing are left out,
# with a line that says so). L4SD is the l4sd binary. bare_xdp is the AF_XDP data path without an AQM.
# Loads: "send" (sendmmsg, every peer) and "live" (XDP frames made by the kernel, AF_XDP peers only: several times
# faster, so it finds the forwarder's limit where "send" finds the generator's).
# Needs root, ip, ethtool, unshare, nsenter, chrt, taskset, awk; dpdk-testpmd for two of the peers. Everything happens
# in namespaces without a name, which end with the run.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
tools=${L4SD_EXAMPLES:-$here/../../target/release/examples}

if [ "${L4SD_PEERS_INSIDE:-}" != 1 ]; then
    [ "$(id -u)" = 0 ] || { echo "run.sh: needs root for network namespaces" >&2; exit 77; }
    for t in forward gen_frames drop_sink; do
        [ -x "$tools/$t" ] || { echo "run.sh: build first: cargo build --release -p l4sd-afxdp --examples" >&2; exit 69; }
    done
    L4SD_PEERS_INSIDE=1 exec unshare --net --mount -- "$0" "$@"
fi

rounds=5 seconds=3 out=peers.json bytes=60
peers="l4sd_xdp testpmd_xdp l4sd_packet testpmd_packet bare_xdp bridge"
while getopts n:s:o:b:p: flag; do
    case $flag in
    n) rounds=$OPTARG ;;
    s) seconds=$OPTARG ;;
    o) out=$OPTARG ;;
    b) bytes=$OPTARG ;;
    p) peers=$OPTARG ;;
    *) exit 64 ;;
    esac
done
shift $((OPTIND - 1))
l4sd=${1:-$here/../../target/release/l4sd}
work=$(mktemp -d)
huge=$(cat /proc/sys/vm/nr_hugepages)
gen='' sink='' forwarder=''

clean() {
    for pid in $forwarder $gen $sink; do kill "$pid" 2>/dev/null || true; done
    for pid in $forwarder $gen $sink; do wait "$pid" 2>/dev/null || true; done
    ip link del br0 2>/dev/null || true
    ip link del mA 2>/dev/null || true
    ip link del mB 2>/dev/null || true
    gen='' sink='' forwarder=''
}
trap 'clean; echo "$huge" >/proc/sys/vm/nr_hugepages; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

plain="tx off rx off tso off gso off gro off rxvlan off txvlan off rx-vlan-stag-hw-parse off
    tx-vlan-stag-hw-insert off tx-udp-segmentation off"

# A fresh topology: what one peer left behind is not there for the next.
wire() {
    unshare --net sleep 600 & gen=$!
    unshare --net sleep 600 & sink=$!
    # The namespaces exist once they differ from ours.
    for pid in $gen $sink; do
        while [ "$(readlink /proc/self/ns/net)" = "$(readlink "/proc/$pid/ns/net")" ]; do sleep 0.02; done
    done
    ip link set lo up
    ip link add vA type veth peer name mA
    ip link add vB type veth peer name mB
    for dev in vA mA vB mB; do
        echo 1 >"/proc/sys/net/ipv6/conf/$dev/disable_ipv6"
        # shellcheck disable=SC2086
        ethtool -K "$dev" $plain >/dev/null 2>&1
    done
    ip link set vA netns "$gen"
    ip link set vB netns "$sink"
    ip link set mA up
    ip link set mB up
    nsenter --net="/proc/$gen/ns/net" ip link set vA up
    nsenter --net="/proc/$sink/ns/net" ip link set vB up
}

on_core() { exec taskset -c 0 chrt -f 5 "$@" >"$work/forwarder" 2>&1; }

testpmd() {
    # DPDK is at its best on huge pages; it gets them if the host has memory for them.
    memory="--in-memory"
    [ "$(awk '/^HugePages_Free/ {print $2}' /proc/meminfo)" -ge 128 ] || memory="--no-huge -m 512"
    # shellcheck disable=SC2086
    exec chrt -f 5 dpdk-testpmd $memory --file-prefix "l4sd-$$" --no-pci --no-telemetry --log-level=error \
        --lcores '0@1,1@0' --vdev "net_af_$1_0,iface=mA" --vdev "net_af_$1_1,iface=mB" -- \
        --forward-mode=io --auto-start --stats-period 1 --nb-cores=1 >"$work/forwarder" 2>&1
}

l4sd_run() { on_core "$l4sd" run --left "$1:mA" --right "$1:mB" --rate 100Gbit --policy taildrop --out "$work/out"; }

start() {
    case $1 in
    l4sd_xdp) l4sd_run xdp & ;;
    l4sd_packet) l4sd_run packet & ;;
    bare_xdp) on_core "$tools/forward" mA mB 600 & ;;
    testpmd_xdp) testpmd xdp & ;;
    testpmd_packet) testpmd packet & ;;
    bridge)
        ip link add br0 type bridge
        ip link set br0 up
        ip link set mA master br0
        ip link set mB master br0
        return
        ;;
    *) echo "run.sh: no peer '$1'" >&2; exit 64 ;;
    esac
    forwarder=$!
}

have() {
    case $1 in
    l4sd_*) "$l4sd" run --help >/dev/null 2>&1 ;;
    testpmd_*) command -v dpdk-testpmd >/dev/null ;;
    *) true ;;
    esac
}

# measure PEER LOAD: appends "PEER LOAD FORWARDED OFFERED" (frames a second) to the results.
measure() {
    wire
    start "$1"
    sleep 2
    if [ -n "$forwarder" ] && ! kill -0 "$forwarder" 2>/dev/null; then
        echo "run.sh: $1 did not start:" >&2
        tail -5 "$work/forwarder" >&2
        clean
        return
    fi
    nsenter --net="/proc/$gen/ns/net" taskset -c 1 chrt -f 5 "$tools/gen_frames" "$2" vA "$bytes" $((seconds + 2)) 0 1 2 \
        >"$work/offered" &
    load=$!
    forwarded=$(nsenter --net="/proc/$sink/ns/net" taskset -c 1 "$tools/drop_sink" vB "$seconds" 1)
    wait "$load"
    echo "$1 $2 $forwarded $(cat "$work/offered")" >>"$work/results"
    clean
}

[ "$huge" -ge 256 ] || echo 256 >/proc/sys/vm/nr_hugepages
: >"$work/results"
chosen=''
for peer in $peers; do
    if have "$peer"; then chosen="$chosen $peer"; else echo "run.sh: $peer left out: not installed" >&2; fi
done
round=0
while [ "$round" -lt "$rounds" ]; do
    for peer in $chosen; do
        measure "$peer" send
        case $peer in *_xdp) measure "$peer" live ;; esac
    done
    round=$((round + 1))
    echo "round $round of $rounds" >&2
done

awk -v bytes="$bytes" -v seconds="$seconds" -v rounds="$rounds" -v cpu="$(sed -n 's/^model name.*: //p' /proc/cpuinfo |
    head -1)" -v kernel="$(uname -r)" -v json="$out" -f "$here/table.awk" "$work/results"
