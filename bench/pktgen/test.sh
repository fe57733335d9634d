#!/bin/sh
# Tests of sweep.sh and its awk programs where there is no netmap: what a real pkt-gen printed, and a whole sweep with
# programs that only pretend. Prints nothing but failures and a last line.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

equal() {
    [ "$2" = "$3" ] && return
    printf 'test.sh: %s:\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3" >&2
    failures=$((failures + 1))
}

# Lines as pkt-gen prints them: normalised, with -N, and as in FreeBSD before 2016.
cat >"$work/normalised" <<'EOF'
338.775750 main [3318] interface is netmap:v1
339.000000 start_threads [2697] Ready...
339.001000 main_thread [2781] 0.000 pps (0.000 pkts 0.000 bps in 1000914 usec) 0.00 avg_batch 0 min_space
340.001000 main_thread [2781] 1.204 Mpps (1.205 Mpkts 577.920 Mbps in 1001000 usec) 341.02 avg_batch 0 min_space
341.002000 main_thread [2781] 9.900 Mpps (9.910 Mpkts 4.757 Gbps in 1001000 usec) 511.50 avg_batch 0 min_space
342.003000 main_thread [2781] 10.300 Mpps (10.310 Mpkts 4.949 Gbps in 1001000 usec) 511.50 avg_batch 0 min_space
343.004000 main_thread [2781] 10.500 Mpps (10.510 Mpkts 5.045 Gbps in 1001000 usec) 511.50 avg_batch 0 min_space
344.005000 main_thread [2781] 10.100 Mpps (10.110 Mpkts 4.853 Gbps in 1001000 usec) 511.50 avg_batch 0 min_space
345.006000 main_thread [2781] 640.000 Kpps (640.640 Kpkts 307.507 Mbps in 1001000 usec) 511.50 avg_batch 0 min_space
346.007000 main_thread [2781] 0.000 pps (0.000 pkts 0.000 bps in 1002241 usec) 0.00 avg_batch 0 min_space
Received 102544735 packets 6152684100 bytes 200478 events 60 bytes each in 9.97 seconds.
Speed: 10.289 Mpps Bandwidth: 4.939 Gbps (raw 4.939 Gbps). Average batch: 511.50 pkts
EOF
equal "lines with units" "102544735 9.97 10300000" "$(awk -f "$here/pktgen.awk" "$work/normalised")"
cat >"$work/plain" <<'EOF'
340.001000 main_thread [2781] 100 pps (100 pkts 48000 bps in 1000000 usec) 1.00 avg_batch 0 min_space
341.002000 main_thread [2781] 14880900 pps [avg/std 7440500/0 pps](14880952 pkts 7142856960 bps in 1000000 usec) 1.00 avg_batch
342.003000 main_thread [2781] 14880952 pps (14880952 pkts 7142856960 bps in 1000000 usec) 1.00 avg_batch 0 min_space
343.004000 main_thread [2781] 3 pps (3 pkts 1440 bps in 1000000 usec) 1.00 avg_batch 0 min_space
Sent 29762007 packets 1785720420 bytes 29762007 events 60 bytes each in 2.00 seconds.
Speed: 14881003 pps Bandwidth: 7142881680 bps (raw 9999999999 bps). Average batch: 1.00 pkts
EOF
equal "lines without units" "29762007 2.00 14880900" "$(awk -f "$here/pktgen.awk" "$work/plain")"
cat >"$work/old" <<'EOF'
main_thread [1456] 14.881Mpps (14.895Mpkts in 1001000 usec)
Sent 148809523 packets, 60 bytes each, in 10.00 seconds.
Speed: 14.88Mpps. Bandwidth: 7.14Gbps.
EOF
equal "an old pkt-gen" "148809523 10.00 0" "$(awk -f "$here/pktgen.awk" "$work/old")"
echo "Received nothing." >"$work/nothing"
equal "nothing" "0 0.00 0" "$(awk -f "$here/pktgen.awk" "$work/nothing")"

# Programs that pretend: bridge passes 10 million frames a second, l4sd 8, pkt-gen sends up to 12, for a tenth of a
# second. A script cannot catch SIGINT in the background, so the false pkt-gen ends by itself.
mkdir "$work/bin"
cat >"$work/bin/device" <<'EOF'
#!/bin/sh
if [ "${1:-}" = bench ]; then
    echo "$*" >>"$FAKE/frames"
    while [ "$1" != --pcap ]; do shift; done
    : >"$2"
    exit
fi
name=${0##*/}
echo "$name $*" >>"$FAKE/devices"
case $name in bridge) echo 10000000 ;; *) echo 8000000 ;; esac >"$FAKE/capacity"
trap 'exit 0' TERM
while :; do sleep 0.02; done
EOF
cp "$work/bin/device" "$work/bin/bridge"
cp "$work/bin/device" "$work/bin/l4sd"
cat >"$work/bin/pkt-gen" <<'EOF'
#!/bin/sh
echo "$*" >>"$FAKE/pkt-gens"
role='' rate='' file=''
while [ $# -gt 0 ]; do
    case $1 in
    -f) role=$2 ;;
    -R) rate=$2 ;;
    -P) file=$2 ;;
    esac
    shift
done
sent=12000000
if [ -n "$rate" ] && [ "$rate" -lt $sent ]; then sent=$rate; fi
if [ "$role" = tx ]; then
    [ -z "$file" ] || [ -e "$file" ] || exit 1
    sleep 0.02
    echo "Sent $((sent / 10)) packets $((sent * 6)) bytes 9 events 60 bytes each in 0.10 seconds."
    echo "$((sent / 10))" >"$FAKE/sent"
else
    rm -f "$FAKE/sent"
    until [ -s "$FAKE/sent" ]; do sleep 0.01; done
    sent=$(cat "$FAKE/sent")
    most=$(($(cat "$FAKE/capacity") / 10))
    [ "$sent" -le "$most" ] || sent=$most
    echo "Received $sent packets $((sent * 60)) bytes 9 events 60 bytes each in 5.00 seconds."
fi
EOF
chmod +x "$work"/bin/*
FAKE=$work PAUSE=0.05
PKT_GEN=$work/bin/pkt-gen BRIDGE=$work/bin/bridge L4SD=$work/bin/l4sd
export FAKE PAUSE PKT_GEN BRIDGE L4SD
sweep() { "$here/sweep.sh" -t t -r r -L a -R b -w 0 -d 0.1 -o "$work/out.csv" "$@" 2>"$work/err"; }

table=$(sweep -s "64 1518" -c "pkt-gen ect1" -n 1) || cat "$work/err"
equal "ratios" "64 pkt-gen 12.0000 10.0000 8.0000 0.800
64 ect1 12.0000 10.0000 8.0000 0.800
1518 pkt-gen 12.0000 10.0000 8.0000 0.800
1518 ect1 12.0000 10.0000 8.0000 0.800" "$(echo "$table" | awk '$1 == "max" { print $2, $3, $4, $5, $6, $7 }')"
equal "rows of the CSV" "9" "$(wc -l <"$work/out.csv" | tr -d ' ')"
equal "a row" "max,64,pkt-gen,bridge,1,12000000,10000000,0.16666667" "$(sed -n 2p "$work/out.csv")"
equal "interleaved" "bridge l4sd bridge l4sd" "$(awk 'NR <= 4 { printf "%s%s", s, $1; s = " " }' "$work/devices")"
equal "how l4sd is run" "l4sd run --left a --right b --rate 400Gbit --policy dualpi2 --metrics off" \
    "$(sed -n '2s/ --out.*//p' "$work/devices")"
equal "sizes without FCS" "-l 60 -l 1514" \
    "$(grep -o -e '-l [0-9]*' "$work/pkt-gens" | sort -u | tr '\n' ' ' | sed 's/ $//;s/-l 1514 -l 60/-l 60 -l 1514/')"
equal "frames are made once" "2" "$(wc -l <"$work/frames" | tr -d ' ')"

: >"$work/devices"
table=$(sweep -N -s 64 -c pkt-gen -n 1 -e 1) || cat "$work/err"
# From below, to one percent.
equal "the rate without loss" "ok" "$(echo "$table" | awk '$1 == "ndr" {
    print ($5 <= 10 && $5 >= 9.89 && $6 <= 8 && $6 >= 7.91) ? "ok" : $0 }')"
equal "every step is a row" "ok" "$(awk -F , '$1 == "step" { n[$4]++ } END {
    print (n["bridge"] > 2 && n["l4sd"] > 2 && n["bridge"] < 15) ? "ok" : n["bridge"] " " n["l4sd"] }' "$work/out.csv")"

# refused CODE PART OPTIONS...
refused() {
    code=$1 part=$2
    shift 2
    found=0
    "$here/sweep.sh" "$@" >/dev/null 2>"$work/err" || found=$?
    equal "exit code of $*" "$code" "$found"
    grep -q -e "$part" "$work/err" || equal "message of $*" "$part" "$(cat "$work/err")"
}
refused 64 "all four ports" -t t
refused 64 "'63' is not a frame size" -t t -r r -L a -R b -s 63
refused 64 "'ect2' is not a codepoint" -t t -r r -L a -R b -c ect2
refused 64 "'vpp' is not a peer" -t t -r r -L a -R b -p vpp
refused 64 "no -N" -t t -r r -L a -R b -N -c ect1+not_ect
BRIDGE=/nonexistent
refused 69 "set BRIDGE" -t t -r r -L a -R b

[ $failures = 0 ] || exit 1
echo "bench/pktgen: all tests passed"
