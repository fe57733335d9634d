#!/usr/bin/env python3
"""The canonical run of training, stage by stage, from nothing to a model file and its figures: run.py OUT [--tiny] [--stage NAME]...

    oracle -> histories -> fewshot, ablate, teacher -> judge-teacher, members -> ensemble, distill -> rl -> export -> judge -> card

Each stage has a folder of OUT, each of its jobs (a seed, a model file) one line in OUT/run.jsonl: command, seconds, host, and the SHA-256 of
all that it read and wrote. A job whose line is there for the same command, the same inputs and the same scripts, and whose outputs are as
it left them, is not run again. What is said while a job runs is in log.txt of its folder.

A teacher has --members students, whose mean is put into one, `ensemble`, and with several --seeds that of all teachers' students into one more, `teachers-ensemble`; `alone-ensemble` is the mean of --members without a teacher. Each mean is judged as it is and with every gain at every target, `-wider`, in 8 bits too. What ships is `teachers-ensemble-wider`. A student on the teacher's states too is `distilled`, then `rl`; its `alone` is the same student on the same states without a teacher. Training itself is in the scripts of each stage, and their arguments are here and nowhere else. Several GPUs: --gpus; a process a seed (--seeds), or
a part of the ablation's runs, each on a GPU of its own. With --ranks a teacher is trained by several processes of torchrun, on as many of
the GPUs; nothing else is, and nothing over several hosts. With --ray the episodes of histories go to the machines of a Ray cluster.
"""

import argparse
import ast
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import parent

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STAGES = ("oracle", "histories", "fewshot", "ablate", "teacher", "judge-teacher", "members", "ensemble", "distill", "rl", "export", "judge", "card")
# Stages of which --gpus jobs run at a time.
ON_GPU = ("ablate", "teacher", "judge-teacher", "members", "ensemble", "distill", "rl")
# Options that say where a job runs, not what it does.
PLACE, PLACE_FLAGS = ("--threads", "--jobs"), ("--ray",)
SHIPPED = ROOT / "models" / "student.onnx"
WEIGHTS = "safetensors"
# What values.records reads for train: that split and low.
OF_TRAIN = "oracle-[tl][ro]*.jsonl.gz*"
TAIL = 20
# torchrun gives its processes 30 s to end, and they are of its group no more.
GRACE_S = 40
# Seeds of an ensemble's members begin here, far from those of --seeds, and alike for all teachers.
MEMBERS_SEED = 101
# Far from those of training, from which teachers and students draw the seeds of their own episodes.
HISTORIES_SEED = 91
# Of the means of several students, in their rounds too: P(feasible) from which a setting is eligible, chosen on dev.
THRESHOLD = "0.45"
# Of the same means with every gain at every target: what their logits are raised by, chosen on dev and unseen links of train (LOG.md).
BOLDER = "0.5"
# Grids that few-shot is not trained on and is tried on, and the share of the other links that is not trained on either.
HELD_OUT, HELD_LINKS = ("flows", "rtt", "steps", "bursty"), "0.1"
# A line of a stage that has figures, those with a point: "round 1: 30 updates, loss 0.52".
ROUND = re.compile(r"(?:\s*\d+ s  )?(round|rollout) (\d+)[:,] (.*)")
FIGURE = re.compile(r"([A-Za-z][\w -]*?)[ :]+(-?\d*\.\d+)")


@dataclass
class Job:
    """One process of a stage. `reads` and `writes` are files, folders or patterns; `folder` is where its log goes. With `keep` it goes on from
    what it left before, unless that was made from other inputs or by other scripts."""

    stage: str
    name: str
    folder: Path
    command: list
    reads: list
    writes: list
    seed: int | None = None
    keep: bool = False
    # GPUs that it takes, in a stage that has them.
    gpus: int = 1
    # Read if they are there.
    maybe: tuple = ()

    @property
    def title(self):
        return f"{self.stage} {self.name}".strip()


@dataclass
class Sizes:
    """What --tiny changes: arguments of each stage, by its name."""

    oracle: list
    histories: list = field(default_factory=list)
    members: list = field(default_factory=list)
    ensemble: list = field(default_factory=list)
    fewshot: list = field(default_factory=list)
    fewshot_eval: list = field(default_factory=list)
    ablate: list = field(default_factory=list)
    teacher: list = field(default_factory=list)
    judge_teacher: list = field(default_factory=list)
    distill: list = field(default_factory=list)
    rl: list = field(default_factory=list)
    judge: list = field(default_factory=list)


def sizes(args):
    minutes = args.minutes
    if args.tiny:
        return Sizes(
            oracle=["--smoke", "--budget-s", "60", "train:1"],
            histories=["--passes", "1"],
            members=["--epochs", "1", "--dagger", "0"],
            ensemble=["--epochs", "1", "--dagger", "1", "--dagger-passes", "1"],
            fewshot=["--epochs", "1", "--dagger", "1"],
            fewshot_eval=["--smoke", "--seeds", "1", "--bootstrap", "200"],
            ablate=["--arms", "tiny", "--shares", "1", "--seeds", "1", "--updates", "4", "--batch", "8"],
            teacher=["--backbone", "tiny", "--minutes", "0.1", "--dagger", "1", "--batch", "8", "--held-out", "0.1"],
            judge_teacher=["--smoke", "--seeds", "1", "--grid", "rfc9332"],
            distill=["--epochs", "1", "--dagger", "1", "--dagger-passes", "1"],
            rl=["--steps", "256", "--envs", "4", "--head-start", "1", "--seconds", "60"],
            judge=["--smoke", "--seeds", "1"],
        )
    # Of the minutes that a stage may take, what it may train: the rest is for the simulation around it.
    return Sizes(
        oracle=["--budget-s", f"{54 * minutes:g}", "dev:1", "train:4", "low:1"],
        histories=["--passes", "4"],
        members=["--dagger", "0"],
        ensemble=["--dagger-passes", "1"],
        teacher=["--backbone", args.backbone, "--minutes", f"{minutes / 2:g}"],
        rl=["--seconds", f"{48 * minutes:g}"],
        judge=["--split", "dev"],
    )


def plan(args):
    """Jobs of all stages in order."""
    size, out, jobs = sizes(args), args.out, []
    python, threads = [sys.executable], ["--threads", str(args.threads)]
    torchrun = [*python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", args.ranks] if args.ranks > 1 else python
    device = ["--device", args.device]
    weights = ["--weights", str(args.weights)] if args.weights else []
    script = lambda name: str(HERE / name)  # noqa: E731

    def add(stage, name, command, reads, writes, seed=None, keep=False, gpus=1):
        folder = out / stage / name if name else out / stage
        jobs.append(Job(stage, name, folder, [str(c) for c in command], reads, [folder / w for w in writes], seed, keep, gpus))
        return jobs[-1].writes

    if args.oracle:
        oracle = args.oracle
    else:
        oracle = out / "oracle"
        add("oracle", "", [script("oracle.sh"), "--l4sd", args.l4sd, "--out", oracle, "--jobs", str(args.threads), *size.oracle], [args.l4sd], [OF_TRAIN], keep=True)
    links, model = oracle / OF_TRAIN, args.model
    seen = []
    for seed, (name, follow) in enumerate({"drawn": None, "model": model}.items(), HISTORIES_SEED):
        followed = ["--model", follow] if follow else []
        seen += add("histories", name, [*python, script("histories.py"), oracle, out / "histories" / name / "histories.npz", *followed, *size.histories, "--seed", seed, *threads, *(["--ray"] if args.ray else [])], [links, *([follow] if follow else [])], ["histories.npz"], seed)
    few, drawn = [*python, script("fewshot.py"), oracle], HISTORIES_SEED + len(seen)
    bank = add("fewshot", "data", [*few, "--gather-only", "--data", out / "fewshot" / "data" / "fewshot.npz", "--behaviour", model, "--seed", drawn, *threads], [links, model], ["fewshot.npz"], drawn)
    held_out = [word for grid in HELD_OUT for word in ("--hold-out", grid)]
    for seed in args.seeds:
        name = f"seed-{seed}"
        made = add("fewshot", name, [*few, out / "fewshot" / name / f"fewshot.{WEIGHTS}", "--data", *bank, *held_out, "--hold-links", HELD_LINKS, *size.fewshot, "--seed", seed, *threads], [links, *bank], [f"fewshot.{WEIGHTS}", "fewshot.onnx", "fewshot.context.onnx"], seed)
        add("fewshot", f"{name}-eval", [*python, script("fewshot_eval.py"), made[0], out / "fewshot" / f"{name}-eval" / "eval.json", *HELD_OUT, *size.fewshot_eval, *threads], made[:1], ["eval.json"], seed)
    for part in range(args.gpus):
        name = f"part-{part + 1}"
        add("ablate", name, [*python, script("ablate.py"), oracle, out / "ablate" / name / "runs.jsonl", "--histories", *seen, *size.ablate, "--part", f"{part}/{args.gpus}", *weights, *threads, *device], [links, *seen], ["runs.jsonl"], keep=True)
    shown = [("shipped", model)]
    teachers = {}
    for seed in args.seeds:
        name = f"seed-{seed}"
        teachers[name] = seed, *add("teacher", name, [*torchrun, script("teacher.py"), oracle, out / "teacher" / name / f"teacher.{WEIGHTS}", "--histories", *seen, *size.teacher, *weights, *threads, "--seed", seed, *device], [links, *seen], [f"teacher.{WEIGHTS}", "teacher.npz"], seed, gpus=args.ranks)
        add("judge-teacher", name, [*python, script("judge.py"), teachers[name][1], out / "judge-teacher" / name, *size.judge_teacher, *weights, *device], teachers[name][1:2], ["results-teacher.json.gz"], seed)
    members = {}
    for name, (_, taught, told) in (teachers | {"alone": (None, None, None)}).items():
        of_teacher = [taught, "--share", "0.7", *weights] if taught else ["none", "--share", "0"]
        states = [told] if told else seen
        for seed in range(MEMBERS_SEED, MEMBERS_SEED + (2 if args.tiny else args.members)):
            made = add("members", f"{name}-{seed}", [*python, script("distill.py"), oracle, of_teacher[0], out / "members" / f"{name}-{seed}" / f"student.{WEIGHTS}", *of_teacher[1:], "--histories", *states, *size.members, *threads, "--seed", seed, *device], [links, *states, *([taught] if taught else [])], [f"student.{WEIGHTS}"], seed)
            members.setdefault(name, []).extend(made)
    mean_of = lambda name, of: add("ensemble", name, [*python, script("ensemble.py"), oracle, out / "ensemble" / name / f"student.{WEIGHTS}", *of, "--histories", *seen, *size.ensemble, "--share", "0.8", "--threshold", THRESHOLD, *threads, *device], [links, *seen, *of], [f"student.{WEIGHTS}"])[0]  # noqa: E731
    means = {name: mean_of(name, of) for name, of in members.items()}
    if len(teachers) > 1:
        means["teachers"] = mean_of("teachers", [of for name in teachers for of in members[name]])
    for name, (seed, taught, all_seen) in teachers.items():
        seeded = ["--seed", seed, *device]
        of = lambda stage, file, name=name: out / stage / name / file  # noqa: E731
        (pupil,) = add("distill", name, [*python, script("distill.py"), oracle, taught, of("distill", f"student.{WEIGHTS}"), "--histories", all_seen, *size.distill, *weights, *threads, *seeded], [links, taught, all_seen], [f"student.{WEIGHTS}"], seed)
        (alone,) = add("distill", f"{name}-alone", [*python, script("distill.py"), oracle, taught, out / "distill" / f"{name}-alone" / f"student.{WEIGHTS}", "--histories", all_seen, "--share", "0", *size.distill, *threads, *seeded], [links, all_seen], [f"student.{WEIGHTS}"], seed)
        (better,) = add("rl", name, [*python, script("rl.py"), oracle, pupil, of("rl", "rl.onnx"), *size.rl, *threads, *seeded], [links, pupil], ["rl.onnx"], seed)
        files = {"rl": better}
        for kind, weights_of in (("distilled", pupil), ("alone", alone)):
            (files[kind],) = add("export", f"{name}-{kind}", [*python, script("export.py"), weights_of, out / "export" / f"{name}-{kind}" / "student.onnx"], [weights_of], ["student.onnx"], seed)
        for kind, file in [(k, files[k]) for k in ("distilled", "rl")]:
            (files[f"{kind}-int8"],) = add("export", f"{name}-{kind}-int8", [*python, script("quantize.py"), file, out / "export" / f"{name}-{kind}-int8" / "student.onnx", "--states", pupil], [file, pupil], ["student.onnx"], seed)
        shown += [(f"{name}-{kind}", file) for kind, file in files.items()]
    for name, mean in means.items():
        ruled = {}
        for kind, more in (("", []), ("-wider", ["--wider", "--bolder", BOLDER])):
            of = f"{name}-ensemble{kind}"
            (plain,) = add("export", f"{of}-plain", [*python, script("export.py"), mean, out / "export" / f"{of}-plain" / "student.onnx", "--threshold", THRESHOLD, *more], [mean], ["student.onnx"])
            (held,) = add("export", f"{of}-held", [*python, script("early_marks.py"), plain, out / "export" / f"{of}-held" / "student.onnx"], [plain], ["student.onnx"])
            (ruled[kind],) = add("export", of, [*python, script("feed_forward.py"), held, out / "export" / of / "student.onnx"], [held], ["student.onnx"])
        wide, of = ruled["-wider"], f"{name}-ensemble-wider-int8"
        (small,) = add("export", of, [*python, script("quantize.py"), wide, out / "export" / of / "student.onnx", "--states", mean], [wide, mean], ["student.onnx"])
        shown += [(f"{name}-ensemble", ruled[""]), (f"{name}-ensemble-wider", wide), (of, small)]
    judged = []
    for name, file in shown:
        folder = out / "judge" / name
        judged += add("judge", name, [args.l4sd, "eval", *size.judge, "--fresh", "--policy", f"model:{file}", "--jobs", str(args.threads), "--out", folder], [args.l4sd, file], ["results.json", "cells.csv"])[:1]
    add("card", "", [*python, script("figures.py"), out, "--oracle", oracle], [j.writes[0] for j in jobs if j.stage in ("judge", "judge-teacher")], ["figures.md", "figures.json"])
    jobs[-1].maybe = (oracle / "oracle-dev.jsonl.gz*", oracle / "results-dev.json.gz", *(w for j in jobs if j.stage in ("ablate", "fewshot") for w in j.writes if w.suffix in (".json", ".jsonl")), *(j.folder / "records.jsonl" for j in jobs if j.stage == "judge"))
    return jobs


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_of(paths):
    """Files behind paths, folders and patterns."""
    for path in paths:
        if path.is_dir():
            yield from sorted(f for f in path.iterdir() if f.is_file() and f.name not in ("log.txt", "made-from.json"))
        elif "*" in path.name:
            yield from sorted(path.parent.glob(path.name))
        else:
            yield path


def short(path, out):
    """A path as the record has it: of OUT, of the repository, or only a name."""
    path = Path(path)
    for base, mark in ((out, "OUT"), (ROOT, "")):
        if path.is_absolute() and path.resolve().is_relative_to(base.resolve()):
            return str(Path(mark) / path.resolve().relative_to(base.resolve()))
    return path.name if path.is_absolute() else str(path)


def said(job, out):
    """The command as the record has it, without what differs from host to host."""
    words, skip = [], False
    for word in job.command:
        if skip or word in PLACE:
            skip = word in PLACE
            continue
        if word in PLACE_FLAGS:
            continue
        if word == sys.executable:
            word = "python"
        elif word.startswith("model:"):
            word = f"model:{short(word.removeprefix('model:'), out)}"
        elif word.startswith("/"):
            word = short(word, out)
        words.append(word)
    return shlex.join(words)


def scripts_of(job):
    """The scripts of a job: what its command names, and what those import of this folder."""
    found, todo = {}, [Path(w) for w in job.command if w.endswith((".py", ".sh")) and Path(w).parent == HERE]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found[path] = sha256(path)
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
                todo += [HERE / f"{n}.py" for n in names if n and (HERE / f"{n}.py").exists()]
    return found


def describe(job, out):
    """What makes a job what it is."""
    missing = [short(p, out) for p in job.reads if not any(f.exists() for f in files_of([p]))]
    if missing:
        raise SystemExit(f"{job.title}: {missing[0]} is missing; run the stage that makes it first")
    hashes = lambda paths: {short(f, out): sha256(f) for f in paths}  # noqa: E731
    return {"command": said(job, out), "reads": hashes([f for f in files_of([*job.reads, *job.maybe]) if f.exists()]), "scripts": hashes(scripts_of(job))}


def written(job, out):
    """SHA-256 and size of what a job left, or nothing if something lacks."""
    files = list(files_of(job.writes))
    if not files or any(not f.exists() for f in files):
        return None
    return {short(f, out): {"sha256": sha256(f), "bytes": f.stat().st_size} for f in files}


def records(out):
    path = out / "run.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def done(job, out, what):
    """The line of an earlier run of the same job whose outputs are still there."""
    of = [r for r in records(out) if (r["stage"], r["job"]) == (job.stage, job.name) and r["status"] == 0]
    if of and all(of[-1][k] == what[k] for k in what) and of[-1]["writes"] == written(job, out):
        return of[-1]
    return None


def scalars(text):
    """Figures of the rounds that a log tells of: {name: [[round, value], ...]}."""
    found = {}
    for line in text.splitlines():
        if match := ROUND.match(line):
            for name, value in FIGURE.findall(match[3]):
                found.setdefault(name.strip(), []).append([int(match[2]), float(value)])
    return found


def hold(out):
    """OUT for this run and the jobs that it starts, which have the file too: what outlives a killed run would write beside the next one."""
    lock = (out / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        sys.exit(f"{out}: another run.py is at work there, or a job of one that was killed; wait for it or end it, fuser {out / 'lock'} has its number")
    return lock


def start(job, gpus, what, lock=None):
    job.folder.mkdir(parents=True, exist_ok=True)
    made_from = job.folder / "made-from.json"
    now = json.dumps({k: what[k] for k in ("reads", "scripts")})
    if not job.keep or not made_from.exists() or made_from.read_text() != now:
        for path in files_of(job.writes):
            path.unlink(missing_ok=True)
    if job.keep:
        made_from.write_text(now)
    for path in job.writes:
        path.parent.mkdir(parents=True, exist_ok=True)
    place = {} if gpus == [None] else {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    with (job.folder / "log.txt").open("w") as log:
        return subprocess.Popen(parent.started_by(os.getpid(), job.command), stdout=log, stderr=subprocess.STDOUT, env=os.environ | place, start_new_session=True, pass_fds=[lock.fileno()] if lock else [])


def finish(job, args, what, began, seconds, status, gpus):
    """Writes the line of a job that ended, and says so."""
    out, log = args.out, (job.folder / "log.txt").read_text(errors="replace")
    left = written(job, out)
    if status == 0 and left is None:
        status = 1
        log += f"it left nothing of {', '.join(w.name for w in job.writes)}\n"
    line = {"stage": job.stage, "job": job.name, "began": began, "seconds": round(seconds, 1), "status": status, "seed": job.seed, "host": {"cores": os.cpu_count(), "threads": args.threads, "device": args.device, "gpu": gpus[0] if len(gpus) == 1 else gpus}}
    line |= what | {"writes": left or {}, "scalars": scalars(log)}
    with (out / "run.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    if status:
        print("\n".join(log.splitlines()[-TAIL:]), file=sys.stderr)
        print(f"{job.title}: failed with status {status} after {seconds:.0f} s; all that it said: {job.folder / 'log.txt'}", file=sys.stderr)
    else:
        print(f"{job.title}: {seconds:.0f} s", flush=True)
        tensorboard(args, job, line)
    return status == 0


def tensorboard(args, job, line):
    """Seconds and figures of rounds for TensorBoard, where it is installed; run.jsonl has the same."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return
    with SummaryWriter(str(args.out / "tensorboard" / job.title.replace(" ", "-"))) as writer:
        writer.add_scalar("seconds", line["seconds"])
        for name, points in line["scalars"].items():
            for step, value in points:
                writer.add_scalar(name, value, step)


def stage(jobs, args):
    """Runs the jobs of a stage, as many at a time as there are GPUs for it; whether all went well."""
    out, running, todo, fine = args.out, {}, list(jobs), True
    several = args.device != "cpu" and jobs[0].stage in ON_GPU
    free = list(range(args.gpus)) if several else [None]
    try:
        while running or (todo and fine):
            while todo and fine and len(free) >= (need := todo[0].gpus if several else 1):
                job = todo.pop(0)
                what = describe(job, out)
                if earlier := done(job, out, what):
                    print(f"{job.title}: skipped, done {earlier['began']} in {earlier['seconds']:.0f} s with the same inputs, arguments and scripts", flush=True)
                    continue
                gpus, free = free[:need], free[need:]
                print(f"{job.title}: {what['command']}", flush=True)
                running[start(job, gpus, what, args.lock)] = (job, what, datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), gpus)
            time.sleep(0.2)
            for process in [p for p in running if p.poll() is not None]:
                job, what, began, clock, gpus = running.pop(process)
                free += gpus
                fine &= finish(job, args, what, began, time.monotonic() - clock, process.returncode, gpus)
    finally:
        end(running)
    return fine


def end(processes):
    """Ends what still runs, and waits until it has: a job that outlives this would write beside the one that takes its place."""
    for process in processes:
        os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=lambda p: Path(p).resolve(), metavar="OUT")
    parser.add_argument("--tiny", action="store_true", help="every stage on a few links and a tiny backbone, on the CPU, in minutes: that the stages fit together")
    parser.add_argument("--stage", action="append", choices=STAGES, metavar="NAME", help=f"this one only, again and again for several: {', '.join(STAGES)}")
    parser.add_argument("--seeds", type=lambda s: [int(x) for x in s.split(",")], default=[1], metavar="1,2", help="training seeds, each a chain of jobs of its own from the teacher on; what ships is of two")
    parser.add_argument("--members", type=int, default=3, help="students of each teacher whose mean is put into one; with --tiny two")
    parser.add_argument("--gpus", type=int, default=1, help="jobs of a stage that run at a time, each on a GPU of its own, with --device cuda; and parts of the ablation")
    parser.add_argument("--ranks", type=int, default=1, help="processes of torchrun that train one teacher; with --device cuda each on one of the --gpus")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=10.0, help="that a stage may take: sets the oracle's budget and how long teacher and RL train; the others have no clock")
    parser.add_argument("--backbone", default="pretrained", help="of the teacher (backbone.py)")
    parser.add_argument("--weights", type=Path, help="folder of the base weights; that of the installed package")
    parser.add_argument("--oracle", type=lambda p: Path(p).resolve(), metavar="DIR", help="take up this oracle; there is no stage oracle then")
    parser.add_argument("--model", type=lambda p: Path(p).resolve(), default=SHIPPED, metavar="FILE", help="model file whose policy half of the episodes follow, and that is judged beside the new ones")
    parser.add_argument("--l4sd", type=lambda p: Path(p).resolve(), default=ROOT / "target" / "release" / "l4sd", metavar="FILE")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--ray", action="store_true", help="histories as tasks of Ray, at RAY_ADDRESS or here (pip install ray); what comes of it is the same")
    parser.set_defaults(lock=None)
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run nothing")
    return parser


def main(argv=None):
    args = arguments().parse_args(argv)
    for name, number in (("--gpus", args.gpus), ("--ranks", args.ranks), ("--members", args.members)):
        if number < 1:
            sys.exit(f"{name} {number} is not 1 or more")
    if args.device != "cpu" and args.ranks > args.gpus:
        sys.exit(f"--ranks {args.ranks} is more than the GPUs, --gpus {args.gpus}, and each rank has one of its own: --gpus {args.ranks}, or fewer ranks")
    jobs = [j for j in plan(args) if not args.stage or j.stage in args.stage]
    if args.dry_run:
        for job in jobs:
            print(f"{job.title}: {said(job, args.out)}")
        return 0
    if not args.l4sd.exists():
        sys.exit(f"{args.l4sd}: there is no such program; make build, or --l4sd FILE")
    if any("--ray" in j.command for j in jobs) and importlib.util.find_spec("ray") is None:
        sys.exit("ray is not installed: pip install ray, or leave out --ray")
    args.out.mkdir(parents=True, exist_ok=True)
    # So that what runs is ended with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begin = time.monotonic()
    with hold(args.out) as args.lock:
        for name in STAGES:
            if (of := [j for j in jobs if j.stage == name]) and not stage(of, args):
                return 1
    print(f"{len(jobs)} jobs, {time.monotonic() - begin:.0f} s; {args.out / 'run.jsonl'} has what each read and wrote")
    return 0


if __name__ == "__main__":
    sys.exit(main())
