#!/bin/sh
# testbed.sh: l4sd under load on one FreeBSD 14 machine, and back.
#
#   testbed.sh vale [SECONDS]       no interface needed: pkt-gen, l4sd, pkt-gen over two VALE switches
#   testbed.sh up S L R E           four interfaces (em, igb, ix, vtnet), cabled S to L and R to E: S goes into the jail
#                                   of a sender, E into that of a receiver, L and R are made ready for l4sd
#   testbed.sh start [RATE]         l4sd between L and R (default 40Mbit, 10 ms each way)
#   testbed.sh tcp [SECONDS]        iperf3 from sender to receiver: CUBIC, DCTCP, then both at once
#   testbed.sh stop                 ends l4sd; its report is in /var/run/l4sd-testbed/report
#   testbed.sh down                 ends it and undoes everything that `up` did
#
# As root, with VIMAGE and netmap in the kernel (GENERIC has both). Wants l4sd, for tcp iperf3 (pkg install iperf3), for
# vale pkt-gen (make -C /usr/src/tools/tools/netmap).
#
# Never epair(4): netmap emulates it, and emulated epair has panicked FreeBSD 13.2 under TCP. vtnet(4) has passed pings
# but no TCP data in netmap mode elsewhere; prefer em(4), which hypervisors emulate as well.
set -eu

state=/var/run/l4sd-testbed
l4sd=${L4SD:-l4sd}

fail() {
    echo "testbed: $1" >&2
    exit 1
}

[ "$(uname -s)" = FreeBSD ] || fail "this is for FreeBSD; on Linux there is make demo"
[ "$(id -u)" = 0 ] || fail "run it as root"

need() {
    command -v "$1" >/dev/null || fail "$1 is missing: $2"
}

# Lines that undo, latest first.
undo_by() {
    { echo "$1"; cat "$state/undo"; } >"$state/undo.new"
    mv "$state/undo.new" "$state/undo"
}

check_interface() {
    case $1 in
    epair*) fail "$1: emulated netmap on epair panics kernels; use em(4) or vtnet(4)" ;;
    lo* | bridge* | lagg* | vlan*) fail "$1 is no link of its own" ;;
    esac
    ifconfig "$1" >/dev/null 2>&1 || fail "$1: no such interface"
    if route -n get default 2>/dev/null | grep -q "interface: $1\$"; then
        fail "$1 carries the default route; you would lose this machine"
    fi
}

# What is on of the capabilities that change frames, as ifconfig takes the names.
harmful() {
    ifconfig "$1" | sed -n 's/.*options=[0-9a-f]*<\(.*\)>/\1/p' | tr ',' '\n' | while read -r option; do
        case $option in
        RXCSUM | TXCSUM | TSO4 | TSO6 | LRO) echo "$option" ;;
        RXCSUM_IPV6) echo rxcsum6 ;;
        TXCSUM_IPV6) echo txcsum6 ;;
        VLAN_HWTAGGING) echo vlanhwtag ;;
        VLAN_HWTSO) echo vlanhwtso ;;
        esac
    done | tr '[:upper:]' '[:lower:]'
}

make_ready() {
    for option in $(harmful "$1"); do
        ifconfig "$1" "-$option"
        undo_by "ifconfig $1 $option"
    done
    if ! ifconfig "$1" | head -1 | grep -q '[<,]UP[,>]'; then
        undo_by "ifconfig $1 down"
    fi
    ifconfig "$1" promisc up
    undo_by "ifconfig $1 -promisc"
}

# make_jail NAME INTERFACE ADDRESS: a network stack of its own over this file system.
make_jail() {
    for option in $(harmful "$2"); do
        ifconfig "$2" "-$option"
        undo_by "ifconfig $2 $option"
    done
    jail -c "name=$1" "host.hostname=$1" path=/ vnet "vnet.interface=$2" persist
    undo_by "jail -r $1"
    jexec "$1" ifconfig lo0 inet 127.0.0.1/8 up
    jexec "$1" ifconfig "$2" inet "$3/24" up
    jexec "$1" sysctl -q net.inet.tcp.ecn.enable=1
    # DCTCP sends ECT(0) by default, which belongs into the Classic queue.
    if ! jexec "$1" sysctl -q net.inet.tcp.cc.dctcp.ect1=1 2>/dev/null; then
        echo "testbed: this kernel's DCTCP cannot send ECT(1): it will be in the Classic queue" >&2
    fi
}

up() {
    [ $# = 4 ] || fail "four interfaces: sender, left, right, receiver"
    [ ! -e "$state/undo" ] || fail "it is up already; testbed.sh down first"
    for interface; do
        check_interface "$interface"
    done
    mkdir -p "$state"
    : >"$state/undo"
    echo "$2 $3" >"$state/ports"
    # An error half-way is undone as well.
    trap 'down' EXIT
    kldload -nq cc_dctcp
    make_ready "$2"
    make_ready "$3"
    make_jail l4sd_sender "$1" 198.18.0.1
    make_jail l4sd_receiver "$4" 198.18.0.2
    trap - EXIT
    echo "testbed: up; testbed.sh start is next"
}

start() {
    [ -e "$state/ports" ] || fail "not up; testbed.sh up S L R E first"
    need "$l4sd" "install the port, or set L4SD to the program"
    read -r left right <"$state/ports"
    if [ -e "$state/l4sd.pid" ]; then
        fail "l4sd runs already; testbed.sh stop first"
    fi
    "$l4sd" run --left "netmap:$left" --right "netmap:$right" --rate "${1:-40Mbit}" --delay 10ms --policy dualpi2 \
        --out "$state/report" 2>"$state/l4sd.log" >"$state/l4sd.out" &
    echo $! >"$state/l4sd.pid"
    waited=0
    until fetch -qo /dev/null http://127.0.0.1:9559/readyz 2>/dev/null; do
        waited=$((waited + 1))
        if [ "$waited" -gt 20 ] || ! kill -0 "$(cat "$state/l4sd.pid")" 2>/dev/null; then
            cat "$state/l4sd.log" >&2
            stop
            fail "l4sd does not forward"
        fi
        sleep 0.5
    done
    jexec l4sd_sender ping -c 3 198.18.0.2 || fail "no ping through l4sd; see $state/l4sd.log"
    echo "testbed: l4sd forwards; testbed.sh tcp is next"
}

# One iperf3 run on a port of its own: flow CC PORT SECONDS
flow() {
    jexec l4sd_receiver iperf3 -s -1 -D -p "$2"
    sleep 1
    jexec l4sd_sender iperf3 -c 198.18.0.2 -p "$2" -C "$1" -t "$3" --title "$1" | grep -E 'sender|receiver'
}

tcp() {
    need iperf3 "pkg install iperf3"
    [ -e "$state/l4sd.pid" ] || fail "l4sd does not run; testbed.sh start first"
    seconds=${1:-20}
    for cc in cubic dctcp; do
        echo "== $cc alone"
        flow "$cc" 5201 "$seconds"
    done
    echo "== cubic and dctcp"
    flow cubic 5201 "$seconds" &
    other=$!
    flow dctcp 5202 "$seconds"
    wait "$other"
    fetch -qo - http://127.0.0.1:9559/metrics | grep -E '^l4sd_(packets|marked|dropped|queue_delay_max)' || true
}

stop() {
    [ -e "$state/l4sd.pid" ] || return 0
    pid=$(cat "$state/l4sd.pid")
    kill -TERM "$pid" 2>/dev/null || true
    pwait -t 10s "$pid" 2>/dev/null || true
    rm -f "$state/l4sd.pid"
    cat "$state/l4sd.out"
}

down() {
    stop
    if [ -e "$state/undo" ]; then
        # Each line by itself: what has gone already is no reason to leave the rest.
        while read -r line; do
            sh -c "$line" || echo "testbed: failed: $line" >&2
        done <"$state/undo"
        rm -f "$state/undo" "$state/ports"
    fi
    echo "testbed: down; logs and report are left in $state"
}

vale() {
    need pkt-gen "make -C /usr/src/tools/tools/netmap, and put it on PATH"
    need "$l4sd" "install the port, or set L4SD to the program"
    seconds=${1:-10}
    mkdir -p "$state"
    "$l4sd" run --left vale0:l4sd --right vale1:l4sd --rate 10Gbit --duration "$((seconds + 4))s" \
        --metrics off --out "$state/vale" &
    bridge=$!
    sleep 1
    pkt-gen -i vale1:sink -f rx >"$state/vale-rx.log" 2>&1 &
    sink=$!
    sleep 1
    timeout "$seconds" pkt-gen -i vale0:source -f tx -l 60 >"$state/vale-tx.log" 2>&1 || true
    wait "$bridge" || fail "l4sd failed"
    kill -INT "$sink"
    wait "$sink" || true
    tail -3 "$state/vale-tx.log" "$state/vale-rx.log"
    echo "testbed: report in $state/vale; the VALE switches went with their last port"
}

verb=${1:-help}
[ $# = 0 ] || shift
case $verb in
up | start | tcp | stop | down | vale) "$verb" "$@" ;;
*)
    sed -n "s/^#   //p" "$0"
    exit 64
    ;;
esac
