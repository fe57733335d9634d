# Turns lines "PEER LOAD FORWARDED OFFERED" (frames a second) into a table and a JSON file of medians. The last column
# is the ratio of medians to DPDK testpmd over the same kind of socket under the same load.
{
    key = $1 " " $2
    if (!(key in count)) order[++keys] = key
    n = ++count[key]
    forwarded[key, n] = $3
    offered[key, n] = $4
}

function sorted(values, key, into,    i, j, x) {
    for (i = 1; i <= count[key]; i++) {
        x = values[key, i]
        for (j = i - 1; j > 0 && into[j] > x; j--) into[j + 1] = into[j]
        into[j + 1] = x
    }
}

function median(values, key,    s, n) {
    split("", s)
    sorted(values, key, s)
    n = count[key]
    return n % 2 ? s[(n + 1) / 2] : (s[n / 2] + s[n / 2 + 1]) / 2
}

END {
    for (k = 1; k <= keys; k++) {
        key = order[k]
        mid[key] = median(forwarded, key)
    }
    printf "%-16s %-5s %9s %9s %9s %9s %11s\n", "peer", "load", "Mpps", "min", "max", "offered", "vs testpmd"
    printf "{\"schema\": 1, \"frame_bytes\": %d, \"seconds\": %s, \"rounds\": %d, \"cpu\": \"%s\", \"kernel\": \"%s\", \"results\": [", \
        bytes, seconds, rounds, cpu, kernel >json
    for (k = 1; k <= keys; k++) {
        key = order[k]
        split(key, name, " ")
        split("", s)
        sorted(forwarded, key, s)
        rival = "testpmd_" (name[1] ~ /_packet$/ ? "packet" : "xdp") " " name[2]
        ratio = (rival in mid) && mid[rival] > 0 && name[1] != "bridge" ? sprintf("%.2f", mid[key] / mid[rival]) : "-"
        printf "%-16s %-5s %9.3f %9.3f %9.3f %9.3f %11s\n", name[1], name[2], mid[key] / 1e6, s[1] / 1e6, \
            s[count[key]] / 1e6, median(offered, key) / 1e6, ratio
        printf "%s\n  {\"peer\": \"%s\", \"load\": \"%s\", \"median_mpps\": %.4f, \"offered_median_mpps\": %.4f, \"ratio_to_testpmd\": %s, \"mpps\": [", \
            (k > 1 ? "," : ""), name[1], name[2], mid[key] / 1e6, median(offered, key) / 1e6, \
            ratio == "-" ? "null" : ratio >json
        for (i = 1; i <= count[key]; i++) printf "%s%.4f", (i > 1 ? ", " : ""), forwarded[key, i] / 1e6 >json
        printf "]}" >json
    }
    printf "\n]}\n" >json
}
