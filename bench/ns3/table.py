"""What run.py found, as Markdown."""

import datetime
import os
import pathlib


def machine():
    """Kind and number of processors."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else 'unknown processor'}, {os.cpu_count()} processors"


def cells(row):
    """A line of the table."""
    ours, theirs, off = row["l4sd"], row["ns3"], row["off"]
    return [
        row["scenario"],
        row["variant"],
        f"{ours['mbps']:.2f}",
        f"{theirs['mbps']:.2f}",
        f"{off['mbps']:+.1%}",
        f"{ours['delay_ms']:.3f}",
        f"{theirs['delay_ms']:.3f}",
        f"{off['delay_ms']:+.1%}",
        f"{ours['signals']:.3%}",
        f"{theirs['signals']:.3%}",
        f"{row['cpu'][0] * 1e3:.1f}",
        f"{row['cpu'][1]:.2f}",
        f"{row['cpu'][1] / row['cpu'][0]:.0f}",
        row["verdict"],
    ]


def markdown(tables, seeds, version):
    """The file results.md."""
    rows = [row for _, rows in tables for row in rows]
    judged = [row for row in rows if row["verdict"] != "-"]
    passed = [row for row in judged if row["verdict"] == "PASS"]
    processor, wall = (sorted(row[key][1] / row[key][0] for row in rows) for key in ("cpu", "wall"))
    out = [
        "# The simulator beside ns-3: results",
        "",
        f"`run.py --seeds {seeds}`, {datetime.date.today()}, {version}, ns3 3.44.post0 from PyPI; {machine()}; mean of {seeds} seeds."
        " README.md says how it is measured and what the variants are.",
        "",
        f"{len(passed)} of {len(judged)} judged rows within 15 % in throughput and mean queue delay; the worst are"
        f" {max((r['off']['mbps'] for r in judged), key=abs):+.1%} and"
        f" {max((r['off']['delay_ms'] for r in judged), key=abs):+.1%}.",
        f"{len(rows) - len(judged)} rows are for information (last column -), of which"
        f" {sum(max(map(abs, r['off'].values())) > 0.15 for r in rows if r['verdict'] == '-')} are off by more than 15 %:"
        " README.md says why they are not judged.",
        f"ns-3 takes {processor[len(rows) // 2]:.0f} times as long (median; {processor[0]:.0f} to {processor[-1]:.0f}) in"
        f" processor time, {wall[len(rows) // 2]:.0f} times ({wall[0]:.0f} to {wall[-1]:.0f}) by the wall clock.",
        "",
    ]
    for group, rows in tables:
        out += [
            f"## {group['title']}",
            "",
            "| scenario | ns-3 variant | Mb/s | ns-3 | off | delay, ms | ns-3 | off | signals | ns-3 | run, ms | ns-3, s | times | |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
            *(f"| {' | '.join(cells(row))} |" for row in rows),
            "",
        ]
    return "\n".join(out).rstrip() + "\n"
