# Reads what pkt-gen printed and writes "PACKETS SECONDS PPS":
# packets and seconds of its last line ("Sent ..." or "Received ..."; 0 if it said "nothing"), and the median of its
# lines a second in which anything moved, without the first and the last two of them, which are of starting and stopping
# (0 if there are fewer than four).
# Knows the units with a prefix ("14.881 Mpps", "14.88Mpps") and without (-N: "14880952 pps").
function rate(text,    number) {
    number = text + 0
    if (text ~ /[0-9] *K/) return number * 1e3
    if (text ~ /[0-9] *M/) return number * 1e6
    if (text ~ /[0-9] *G/) return number * 1e9
    return number
}

/ main_thread / {
    line = $0
    sub(/.*main_thread *\[[0-9]+\] */, "", line)
    if (line ~ /^[0-9.]+ *[KMG]?pps/) {
        match(line, /^[0-9.]+ *[KMG]?pps/)
        x = rate(substr(line, 1, RLENGTH))
        if (x > 0) pps[++n] = x
    }
}

/^(Sent|Received) [0-9]+ packets/ {
    packets = $2
    for (i = 3; i < NF; i++) if ($i == "in") seconds = $(i + 1)
}

END {
    first = 2
    last = n - 2
    count = last - first + 1
    median = 0
    if (count > 0) {
        for (i = first; i <= last; i++) {
            x = pps[i]
            for (j = i - 1; j >= first && pps[j] > x; j--) pps[j + 1] = pps[j]
            pps[j + 1] = x
        }
        middle = first + int(count / 2)
        median = count % 2 ? pps[middle] : (pps[middle - 1] + pps[middle]) / 2
    }
    printf "%.0f %.2f %.0f\n", packets, seconds, median
}
