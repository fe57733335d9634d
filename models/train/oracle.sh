#!/bin/bash
# Searches the best constants of many links within a time, on all cores, and leaves small files: see ORACLE.md.
#
#   models/train/oracle.sh --out DIR [--from DIR] [--budget-s 540] [--jobs N] [--l4sd FILE] [--smoke] [--grid NAME]... \
#       [--feed-forward MODEL] SPLIT:DRAWS...
#
# dev:2 train:4 is two links near each point of the dev split, then four of the train split, each with what time is left.
# For each split DIR gets oracle-SPLIT.jsonl.gz (in parts of 14 MiB if it is larger), results-SPLIT.json.gz and
# table-SPLIT.md. What DIR, or the DIR of --from, has of an earlier run is not searched again.
set -euo pipefail

die() {
    echo "oracle.sh: $1" >&2
    exit 64
}

out= from= budget=540 l4sd= jobs=() smoke=() grids=() rule=() splits=()
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=(--smoke); shift; continue ;;
        --*) [ $# -gt 1 ] || die "$1 needs a value" ;;
    esac
    case $1 in
        --out) out=$2; shift 2 ;;
        --from) from=$2; shift 2 ;;
        --budget-s) budget=$2; shift 2 ;;
        --jobs) jobs=(--jobs "$2"); shift 2 ;;
        --l4sd) l4sd=$2; shift 2 ;;
        --grid) grids+=("$2"); shift 2 ;;
        --feed-forward) rule=(--feed-forward "$2"); shift 2 ;;
        train:* | low:* | dev:* | test:*) splits+=("$1"); shift ;;
        *) die "'$1' is neither an option nor SPLIT:DRAWS such as dev:2" ;;
    esac
done
[ -n "$out" ] || die "--out DIR is missing"
[ ${#splits[@]} -gt 0 ] || die "there is nothing to search; name splits and draws such as dev:2 train:4"
l4sd=${l4sd:-$(dirname "$0")/../../target/release/l4sd}
[ -x "$l4sd" ] || die "$l4sd: there is no such program; make build, or --l4sd FILE"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
end=$((SECONDS + budget))

for each in "${splits[@]}"; do
    split=${each%%:*} draws=${each#*:}
    mkdir -p "$work/$split"
    for dir in "$out" "$from"; do
        if [ -n "$dir" ] && ls "$dir/oracle-$split.jsonl.gz"* >/dev/null 2>&1; then
            cat "$dir/oracle-$split.jsonl.gz"* | gunzip >"$work/$split/oracle.jsonl"
            break
        fi
    done
    left=$((end - SECONDS))
    count=(--draws "$draws")
    [ ${#smoke[@]} -eq 0 ] || count=("${smoke[@]}")
    "$l4sd" eval ${grids[@]+"${grids[@]}"} --oracle --split "$split" "${count[@]}" --budget-s $((left > 0 ? left : 0)) \
        ${jobs[@]+"${jobs[@]}"} ${rule[@]+"${rule[@]}"} --out "$work/$split" >/dev/null
    [ -e "$work/$split/results.json" ] || continue
    rm -f "$out/oracle-$split.jsonl.gz"*
    gzip -6 -n <"$work/$split/oracle.jsonl" >"$work/$split/oracle.jsonl.gz"
    if [ "$(wc -c <"$work/$split/oracle.jsonl.gz")" -gt $((14 << 20)) ]; then
        split -b 14m -d "$work/$split/oracle.jsonl.gz" "$out/oracle-$split.jsonl.gz."
    else
        cp "$work/$split/oracle.jsonl.gz" "$out/oracle-$split.jsonl.gz"
    fi
    gzip -9 -n <"$work/$split/results.json" >"$out/results-$split.json.gz"
    cp "$work/$split/table.md" "$out/table-$split.md"
done
ls -l "$out" >&2
