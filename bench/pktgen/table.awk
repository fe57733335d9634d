# Turns CSV lines "mode,bytes,codepoints,peer,round,offered_pps,received_pps,loss" into a table of medians over the
# rounds, with the ratio of l4sd to netmap's bridge.
BEGIN { FS = "," }

NR > 1 && ($1 == "max" || $1 == "ndr") {
    row = $1 "," $2 "," $3
    if (!(row in seen)) { seen[row] = 1; order[++rows] = row }
    key = row "," $4
    n = ++count[key]
    value[key, n] = $7
    offered[key, n] = $6
}

function median(values, key,    i, j, x, s, n) {
    n = count[key]
    if (!n) return -1
    split("", s)
    for (i = 1; i <= n; i++) {
        x = values[key, i]
        for (j = i - 1; j > 0 && s[j] > x; j--) s[j + 1] = s[j]
        s[j + 1] = x
    }
    return n % 2 ? s[(n + 1) / 2] : (s[n / 2] + s[n / 2 + 1]) / 2
}

function mpps(x) { return x < 0 ? "-" : sprintf("%.4f", x / 1e6) }

END {
    printf "%-4s %6s %-16s %10s %10s %10s %11s\n", "", "bytes", "codepoints", "offered", "bridge", "l4sd", "l4sd/bridge"
    for (r = 1; r <= rows; r++) {
        row = order[r]
        split(row, name, ",")
        b = median(value, row ",bridge")
        l = median(value, row ",l4sd")
        o = median(offered, row ",bridge")
        if (o < 0) o = median(offered, row ",l4sd")
        ratio = b > 0 && l >= 0 ? sprintf("%.3f", l / b) : "-"
        printf "%-4s %6d %-16s %10s %10s %10s %11s\n", name[1], name[2], name[3], mpps(o), mpps(b), mpps(l), ratio
    }
    print "Mpps, medians; max: received while as much as possible is offered; ndr: the highest rate without loss"
}
