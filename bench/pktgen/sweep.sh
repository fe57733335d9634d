#!/bin/sh
# Mpps through l4sd over netmap beside netmap's own bridge, by frame size and ECN codepoint, with netmap's pkt-gen.
#
#   pkt-gen -f tx on TX -> LEFT | bridge or l4sd | RIGHT -> pkt-gen -f rx on RX
#
# usage: sweep.sh -t TX -r RX -L LEFT -R RIGHT [options]
#   -s "SIZES"       frame sizes with FCS [64 128 256 512 1024 1280 1518]
#   -c "CODEPOINTS"  pkt-gen: its own frames, Not-ECT; ect1, ect0, ce, not_ect: frames of `l4sd bench --pcap`;
#                    ect1+not_ect and the like: a mix, by nmreplay, without -N [pkt-gen ect1]
#   -p "PEERS"       bridge and l4sd, interleaved [bridge l4sd]
#   -n ROUNDS        [3]
#   -d SECONDS       of sending in each trial [10]
#   -w SECONDS       for the link to come up after netmap has opened it; 0 for VALE and pipes [2]
#   -P POLICY        of l4sd [dualpi2]
#   -N               search for the highest rate without loss instead of offering as much as possible
#   -l PERCENT       loss that a trial of -N may have [0]
#   -e PERCENT       how closely -N looks [1]
#   -x "OPTIONS"     more options for both pkt-gens ("-p 2 -c 4")
#   -o FILE          CSV [pktgen.csv]
# Programs: $PKT_GEN, $BRIDGE, $NMREPLAY, $L4SD [pkt-gen, bridge, nmreplay, l4sd]. $PAUSE: seconds that a program gets to
# begin or to finish [1].
set -eu

here=$(cd "$(dirname "$0")" && pwd)
pkt_gen=${PKT_GEN:-pkt-gen} bridge=${BRIDGE:-bridge} nmreplay=${NMREPLAY:-nmreplay} l4sd=${L4SD:-l4sd}
pause=${PAUSE:-1}
tx='' rx='' left='' right='' search='' extra='' out=pktgen.csv
sizes="64 128 256 512 1024 1280 1518" codepoints="pkt-gen ect1" peers="bridge l4sd"
rounds=3 seconds=10 wait_link=2 policy=dualpi2 most_loss=0 resolution=1

die() {
    code=$1
    shift
    echo "sweep.sh: $*" >&2
    exit "$code"
}

while getopts t:r:L:R:s:c:p:n:d:w:P:Nl:e:x:o: flag; do
    case $flag in
    t) tx=$OPTARG ;;
    r) rx=$OPTARG ;;
    L) left=$OPTARG ;;
    R) right=$OPTARG ;;
    s) sizes=$OPTARG ;;
    c) codepoints=$OPTARG ;;
    p) peers=$OPTARG ;;
    n) rounds=$OPTARG ;;
    d) seconds=$OPTARG ;;
    w) wait_link=$OPTARG ;;
    P) policy=$OPTARG ;;
    N) search=1 ;;
    l) most_loss=$OPTARG ;;
    e) resolution=$OPTARG ;;
    x) extra=$OPTARG ;;
    o) out=$OPTARG ;;
    *) exit 64 ;;
    esac
done
if [ -z "$tx" ] || [ -z "$rx" ] || [ -z "$left" ] || [ -z "$right" ]; then
    die 64 "name all four ports: -t TX -r RX -L LEFT -R RIGHT"
fi
for size in $sizes; do
    if ! [ "$size" -ge 64 ] 2>/dev/null || [ "$size" -gt 1518 ]; then
        die 64 "'$size' is not a frame size with FCS: 64 to 1518"
    fi
done
need() { command -v "$1" >/dev/null 2>&1 || die 69 "no program '$1': $2"; }
need "$pkt_gen" "set PKT_GEN (netmap: apps/pkt-gen; FreeBSD: tools/tools/netmap)"
for peer in $peers; do
    case $peer in
    bridge) need "$bridge" "set BRIDGE (netmap: apps/bridge)" ;;
    l4sd) need "$l4sd" "set L4SD" ;;
    *) die 64 "'$peer' is not a peer: bridge or l4sd" ;;
    esac
done
for codepoint in $codepoints; do
    case $codepoint in
    pkt-gen) ;;
    *+*)
        [ -z "$search" ] || die 64 "'$codepoint': a mix needs nmreplay, which counts nothing: no -N"
        need "$nmreplay" "set NMREPLAY (netmap: apps/nmreplay)"
        need "$l4sd" "set L4SD; it makes the frames"
        ;;
    ect1 | ect0 | ce | not_ect) need "$l4sd" "set L4SD; it makes the frames" ;;
    *) die 64 "'$codepoint' is not a codepoint: pkt-gen, ect1, ect0, ce, not_ect, or a mix such as ect1+not_ect" ;;
    esac
done

work=$(mktemp -d)
device='' receiver='' sender=''

# stop SIGNAL PID: ends a program and waits until it is gone; one that does not listen is killed. pkt-gen and nmreplay
# print what they counted on SIGINT.
stop() {
    [ -n "${2:-}" ] || return 0
    kill -"$1" "$2" 2>/dev/null || true
    tries=0
    shift
    while kill -0 "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || kill -KILL "$1" 2>/dev/null || true
        sleep 0.1
    done
    wait "$1" 2>/dev/null || true
}
clean() {
    for pid in $sender $receiver; do stop INT "$pid"; done
    stop TERM "$device"
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# start LOG PROGRAM...: begins a program in the background, as $started.
start() {
    log=$1
    shift
    "$@" >"$log" 2>&1 &
    started=$!
}

begin_device() {
    case $1 in
    bridge) start "$work/device" "$bridge" -w "$wait_link" -i "$left" -i "$right" ;;
    l4sd)
        start "$work/device" "$l4sd" run --left "$left" --right "$right" --rate 400Gbit --policy "$policy" \
            --metrics off --out "$work/out"
        ;;
    esac
    device=$started
    sleep "$wait_link"
    sleep "$pause"
    kill -0 "$device" 2>/dev/null || {
        tail -5 "$work/device" >&2
        die 69 "$1 did not start on $left and $right"
    }
}

# trial BYTES CODEPOINTS RATE: offers RATE frames a second (0: as many as possible) for the time of a trial. Sets
# sent_pps, received_pps and loss ("-": unknown).
trial() {
    bytes=$(($1 - 4))
    # shellcheck disable=SC2086 # a list of options
    start "$work/rx" "$pkt_gen" -i "$rx" -f rx -w "$wait_link" $extra
    receiver=$started
    sleep "$wait_link"
    sleep "$pause"
    frames=''
    [ "$2" = pkt-gen ] || frames=$work/$1-$2.pcap
    case $2 in
    *+*)
        [ -e "$frames" ] || make_frames "$1" "$2"
        start "$work/tx" "$nmreplay" -i "$tx" -f "$frames" -B 100G -b 512 -w "$wait_link"
        sender=$started
        sleep "$wait_link"
        sleep "$seconds"
        ;;
    *)
        set -- "$1" "$2" "$3" -i "$tx" -f tx -l "$bytes" -w "$wait_link"
        if [ -n "$frames" ]; then
            [ -e "$frames" ] || make_frames "$1" "$2"
            set -- "$@" -P "$frames"
        fi
        if [ "$3" -gt 0 ]; then
            set -- "$@" -R "$3" -n "$(awk -v r="$3" -v s="$seconds" 'BEGIN { printf "%.0f", r * s + 0.5 }')"
        fi
        rate=$3
        shift 3
        # shellcheck disable=SC2086 # a list of options
        start "$work/tx" "$pkt_gen" "$@" $extra
        sender=$started
        if [ "$rate" -gt 0 ]; then
            # It ends by itself once it has sent them all, or never.
            limit=$(awk -v s="$seconds" -v w="$wait_link" 'BEGIN { printf "%.0f", (3 * s + w + 10) * 10 }')
            while kill -0 "$sender" 2>/dev/null && [ "$limit" -gt 0 ]; do
                limit=$((limit - 1))
                sleep 0.1
            done
        else
            sleep "$wait_link"
            sleep "$seconds"
        fi
        ;;
    esac
    stop INT "$sender"
    sender=''
    sleep "$pause"
    stop INT "$receiver"
    receiver=''
    # shellcheck disable=SC2046 # three numbers
    set -- $(awk -f "$here/pktgen.awk" "$work/tx") $(awk -f "$here/pktgen.awk" "$work/rx")
    # The receiver's own time includes waiting, so what it got is divided by the sender's.
    line=$(awk -v sent="$1" -v time="$2" -v got="$4" -v median="$6" 'BEGIN {
        if (sent > 0 && time > 0) printf "%.0f %.0f %.8f", sent / time, got / time, (got > sent ? 0 : 1 - got / sent)
        else printf "0 %.0f -", median
    }')
    # shellcheck disable=SC2086 # three words
    set -- $line
    sent_pps=$1 received_pps=$2 loss=$3
    if [ "$received_pps" = 0 ] && [ "$sent_pps" = 0 ]; then
        tail -3 "$work/tx" "$work/rx" >&2
        die 69 "nothing was sent or received: see above"
    fi
}

make_frames() {
    "$l4sd" bench --pcap "$work/$1-$2.pcap" --size "$1" --ecn "$(echo "$2" | tr + ,)" --flows 16 2>"$work/pcap" || {
        cat "$work/pcap" >&2
        die 70 "l4sd could not make the frames"
    }
}

# row MODE BYTES CODEPOINTS PEER ROUND
row() {
    echo "$1,$2,$3,$4,$5,$sent_pps,$received_pps,$loss" >>"$out"
    echo "$1 $2 bytes, $3, $4, round $5: offered $sent_pps, received $received_pps frames/s, loss $loss" >&2
}

# The highest rate without loss, by bisection between nothing and what came of as much as possible.
ndr() {
    trial "$1" "$2" 0
    low=0 high=$sent_pps best=0
    row step "$1" "$2" "$3" "$4"
    next=$received_pps
    if passed; then
        best=$sent_pps low=$high
    fi
    while closer; do
        trial "$1" "$2" "$next"
        row step "$1" "$2" "$3" "$4"
        # A sender that fell short of what it was asked for shows nothing.
        if passed && awk -v s="$sent_pps" -v n="$next" 'BEGIN { exit !(s >= 0.98 * n) }'; then
            low=$next best=$sent_pps
        else
            high=$next
        fi
        next=$(((low + high) / 2))
    done
    sent_pps=$best received_pps=$best loss=$most_loss
    row ndr "$1" "$2" "$3" "$4"
}
passed() { awk -v l="$loss" -v most="$most_loss" 'BEGIN { exit !(l * 100 <= most) }'; }
closer() {
    [ "$next" -gt 0 ] && awk -v l="$low" -v h="$high" -v r="$resolution" 'BEGIN { exit !(h - l > h * r / 100 && h > 1) }'
}

echo "mode,bytes,codepoints,peer,round,offered_pps,received_pps,loss" >"$out"
round=1
while [ "$round" -le "$rounds" ]; do
    for size in $sizes; do
        for codepoint in $codepoints; do
            for peer in $peers; do
                begin_device "$peer"
                if [ -n "$search" ]; then
                    ndr "$size" "$codepoint" "$peer" "$round"
                else
                    trial "$size" "$codepoint" 0
                    row max "$size" "$codepoint" "$peer" "$round"
                fi
                stop TERM "$device"
                device=''
            done
        done
    done
    round=$((round + 1))
done
awk -f "$here/table.awk" "$out"
