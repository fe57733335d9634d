"""The l4sd simulator beside ns-3: the same dumbbells in both, throughput and mean queue delay within 15 %.

    run.py --l4sd BINARY --ns3 DUMBBELL [--only GLOB] [--seeds N] [--reuse FILE] [--out FILE.md]
    run.py --ns3 DUMBBELL --signals FILE.csv [--reuse FILE]

Scenario files are l4sd's; this file reads the part of them that ns-3 is given. Both are averaged over seeds, which draw
when the flows start. Ends with 1 if a judged row is outside the tolerance.

With --signals, ns-3's part of the windows under random marks and losses: the last column of the file is written again,
and tests/sim_laws.rs compares it with l4sd.
"""

import argparse
import csv
import fnmatch
import hashlib
import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib

from table import markdown

HERE = pathlib.Path(__file__).parent
TOLERANCE = 0.15
FRAME = 1514  # Bytes of a full Ethernet frame, as l4sd counts them.
HEADERS = 66  # Ethernet, IPv4, TCP with timestamps.
PPP_SAVES = 12  # Ethernet's 14 bytes less PPP's 2.
DEFAULT_BUFFER = "250ms"
CC = {"cubic": "TcpCubic", "reno": "TcpLinuxReno", "dctcp": "TcpDctcp"}
ECN = {"cubic": "off", "reno": "off", "dctcp": "ect1"}
# Runs of l4sd in a process: the difference is what the time of one is taken from.
FEW, MANY = 3, 23


def number(text, units):
    """`"40Mbit"` to a number, by the table of units."""
    value, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text).groups()
    return float(value) * units[unit]


def seconds(text):
    return number(text, {"s": 1.0, "ms": 1e-3, "us": 1e-6})


def bits(text):
    return number(text, {"kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9})


def buffer_bytes(text, rate):
    if text.endswith("B"):
        return number(text, {"B": 1, "kB": 1e3, "MB": 1e6})
    return rate * seconds(text) / 8


def ns3_arguments(scenario, queue, variant, seed):
    """Arguments of dumbbell.cc for a scenario."""
    allowed = {"name", "duration", "warmup", "link", "flow"}, {"rate", "buffer"}, {"cc", "count", "rtt", "ecn", "frame", "delayed_acks"}
    unknown = set(scenario) - allowed[0] | set(scenario["link"]) - allowed[1]
    unknown |= {key for flow in scenario["flow"] for key in flow} - allowed[2]
    kinds = {
        (f["cc"], f.get("ecn", ECN[f["cc"]]), f.get("frame", FRAME), f.get("delayed_acks", True))
        for f in scenario["flow"]
    }
    if unknown or len(kinds) != 1:
        sys.exit(f"{scenario['name']}: run.py gives ns-3 one kind of flow and no {', '.join(unknown) or 'mixture'}")
    cc, ecn, frame, delayed = kinds.pop()
    rate = bits(scenario["link"]["rate"])
    rtts = [seconds(f["rtt"]) for f in scenario["flow"] for _ in range(f.get("count", 1))]
    return [
        f"--cc={CC[cc]}",
        f"--recovery={variant.get('recovery', 'ns3::TcpClassicRecovery')}",
        f"--hystart={str(variant.get('hystart', False)).lower()}",
        f"--queue={queue}",
        f"--ecn={ecn}",
        f"--rate={round(rate * (frame - PPP_SAVES) / frame)}bps",
        f"--packets={int(buffer_bytes(scenario['link'].get('buffer', DEFAULT_BUFFER), rate) // frame)}",
        f"--payload={frame - HEADERS}",
        f"--acks={2 if delayed else 1}",
        f"--rtts={','.join(map(str, rtts))}",
        f"--duration={seconds(scenario['duration'])}",
        f"--warmup={seconds(scenario['warmup'])}",
        f"--seed={seed}",
    ]


class Ns3:
    """ns-3, with a memory of what was run: its runs take minutes and say the same each time."""

    def __init__(self, program, memory):
        self.program, self.path = program, memory
        self.source = hashlib.sha256((HERE / "dumbbell.cc").read_bytes()).hexdigest()[:16]
        self.known = json.loads(memory.read_text()) if memory and memory.exists() else {}

    def run(self, arguments):
        key = " ".join([self.source, *arguments])
        if key not in self.known:
            done = subprocess.run([self.program, *arguments], check=True, stdout=subprocess.PIPE, text=True)
            self.known[key] = json.loads(done.stdout)
            if self.path:
                self.path.write_text(json.dumps(self.known, indent=0))
        return self.known[key]


class L4sd:
    """l4sd's simulator through its command line."""

    def __init__(self, program):
        self.program = program

    def process(self, path, policy, seeds):
        """The result object, and wall and processor seconds of the process."""
        with tempfile.TemporaryDirectory() as out:
            command = [self.program, "sim", path, "--policy", policy, "--seeds", str(seeds), "--json", "--out", out]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return json.loads(done.stdout)["runs"], wall, cpu

    def run(self, path, policy, seeds):
        """One record per seed, in the form of dumbbell.cc."""
        return [
            {
                "mbps": [flow["goodput_mbps"] for flow in run["flows"]],
                "delay_ms": run["queues"]["all"]["delay_ms"]["mean"],
                "forwarded": run["queues"]["all"]["packets"],
                "marked": run["queues"]["all"]["marked"],
                "dropped": sum(run["queues"]["all"]["dropped"].values()),
            }
            for run in self.process(path, policy, seeds)[0]
        ]

    def times(self, path, policy):
        """Wall and processor seconds of one run, without the process's start."""
        _, few_wall, few_cpu = self.process(path, policy, FEW)
        _, many_wall, many_cpu = self.process(path, policy, MANY)
        return (many_wall - few_wall) / (MANY - FEW), (many_cpu - few_cpu) / (MANY - FEW)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def summary(runs):
    """What a row shows of the runs of one simulator."""
    packets = mean(r["forwarded"] + r["dropped"] for r in runs)
    return {
        "mbps": mean(sum(r["mbps"]) for r in runs),
        "delay_ms": mean(r["delay_ms"] for r in runs),
        "signals": mean(r["marked"] + r["dropped"] for r in runs) / packets,
        "spread_ms": (min(r["delay_ms"] for r in runs), max(r["delay_ms"] for r in runs)),
    }


def compare(group, options, ns3, l4sd):
    """A row per scenario and variant of a group."""
    for path in sorted((HERE / "scenarios").glob("*.toml")):
        if not fnmatch.fnmatch(path.stem, group["scenarios"]) or not fnmatch.fnmatch(path.stem, options.only):
            continue
        scenario = tomllib.loads(path.read_text())
        ours = summary(l4sd.run(path, group["policy"], options.seeds))
        wall, cpu = l4sd.times(path, group["policy"])
        for variant in group["variant"]:
            if not fnmatch.fnmatch(path.stem, variant.get("scenarios", "*")):
                continue
            runs = [
                ns3.run(ns3_arguments(scenario, group["queue"], variant, seed))
                for seed in range(1, options.seeds + 1)
            ]
            theirs = summary(runs)
            off = {key: ours[key] / theirs[key] - 1 for key in ("mbps", "delay_ms")}
            judged = variant.get("judged", True)
            row = {
                "scenario": path.stem,
                "variant": variant.get("name", ""),
                "l4sd": ours,
                "ns3": theirs,
                "off": off,
                "verdict": ("PASS" if max(map(abs, off.values())) <= TOLERANCE else "FAIL") if judged else "-",
                "wall": (wall, mean(r["wall"] for r in runs)),
                "cpu": (cpu, mean(r["cpu"] for r in runs)),
            }
            print(
                f"{path.stem:<36}{row['variant']:<25}"
                f"{ours['mbps']:8.2f} {theirs['mbps']:8.2f} {off['mbps']:+7.1%}  "
                f"{ours['delay_ms']:8.3f} {theirs['delay_ms']:8.3f} {off['delay_ms']:+7.1%}  "
                f"{ours['signals']:8.3%} {theirs['signals']:8.3%} {row['cpu'][1] / cpu:6.0f}x  {row['verdict']}",
                flush=True,
            )
            yield row


def signals(path, ns3):
    """Mean window of one flow that nothing but random signals holds back, for each row of the file."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cc, rtt, period = row["cc"], float(row["rtt_ms"]) / 1e3, int(row["period"])
        # In round trips: 2000 signals or more; 2/p is the time constant of DCTCP, whose window is about that too.
        settle, measure = 6 * period + 200, 3 * period + 300
        if cc != "dctcp":
            window = max(1.22 * period**0.5, 1.054 * (rtt * period) ** 0.75 if cc == "cubic" else 0)
            settle, measure = 200, int(2000 * period / window)
        arguments = [
            f"--cc={CC[cc]}",
            "--queue=signals",
            "--rate=10Gbps",
            f"--rtts={rtt}",
            f"--ecn={row['ecn']}",
            f"--acks={row['acks']}",
            "--hystart=false",
            f"--duration={rtt * (settle + measure)}",
            f"--warmup={rtt * settle}",
            f"--probability={1 / period}",
            "--seed=1",
        ]
        row["window"] = f"{sum(ns3.run(arguments)['mbps']) * 1e6 * rtt / 8 / (FRAME - HEADERS):.2f}"
        print(*row.values(), flush=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description="The l4sd simulator beside ns-3")
    parser.add_argument("--l4sd", help="the release binary")
    parser.add_argument("--ns3", required=True, help="the program that build.sh makes")
    parser.add_argument("--only", default="*", help="scenarios, as a glob")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--reuse", type=pathlib.Path, help="file that keeps ns-3's results from run to run")
    parser.add_argument("--out", type=pathlib.Path, help="file for the table, Markdown")
    parser.add_argument("--signals", type=pathlib.Path, help="only the windows under random signals, in this file")
    options = parser.parse_args()
    if options.signals:
        signals(options.signals, Ns3(options.ns3, options.reuse))
        return
    if not options.l4sd:
        parser.error("--l4sd is needed without --signals")
    ns3, l4sd = Ns3(options.ns3, options.reuse), L4sd(options.l4sd)
    groups = tomllib.loads((HERE / "cases.toml").read_text())["group"]
    print(f"{'':61}{'Mbit/s':>8} {'ns-3':>8} {'off':>7}  {'delay ms':>8} {'ns-3':>8} {'off':>7}  {'signals':>8} {'ns-3':>8}")
    tables = [(group, list(compare(group, options, ns3, l4sd))) for group in groups]
    if not any(rows for _, rows in tables):
        sys.exit(f"no scenario is called '{options.only}'; see bench/ns3/scenarios")
    if options.out:
        version = subprocess.run([options.l4sd, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        options.out.write_text(markdown(tables, options.seeds, version))
    failed = [row for _, rows in tables for row in rows if row["verdict"] == "FAIL"]
    sys.exit(f"{len(failed)} rows are off by more than {TOLERANCE:.0%}" if failed else 0)


if __name__ == "__main__":
    main()
