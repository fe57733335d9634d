"""The canonical run: what its options change in the commands, when a job is run again, what its record holds. Trains nothing."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import figures  # noqa: E402
import run  # noqa: E402

COPY = "import os, sys; open(sys.argv[2], 'w').write(open(sys.argv[1]).read() + os.environ.get('CUDA_VISIBLE_DEVICES', '-')); print('round 3: 2 updates of 8, loss 0.25')"


def parsed(out: Path, *words: str) -> object:
    return run.arguments().parse_args([str(out), *words])


def commands(out: Path, *words: str) -> dict[str, str]:
    args = parsed(out, *words)
    return {job.title: run.said(job, args.out) for job in run.plan(args)}


def copier(out: Path, stage: str = "distill", name: str = "seed-1", code: str = COPY) -> run.Job:
    folder = out / stage / name
    return run.Job(stage, name, folder, [sys.executable, "-c", code, str(out / "in.txt"), str(folder / "out.txt")], [out / "in.txt"], [folder / "out.txt"], 1)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "in.txt").write_text("a")
    return tmp_path


def test_each_option_changes_what_it_is_named_after(tmp_path: Path) -> None:
    plain = commands(tmp_path)
    taught, alone = ([f"members {name}-{seed}" for seed in (101, 102, 103)] for name in ("seed-1", "alone"))
    members = [*taught, *alone]
    assert [t for t in plain if t.startswith("members")] == members and all(" --dagger 0 " in plain[m] and f" --seed {m[-3:]} " in plain[m] for m in members)
    assert all("--histories OUT/teacher/seed-1/teacher.npz --dagger" in plain[m] for m in taught) and all("--histories OUT/histories/drawn" in plain[m] for m in alone)
    assert all(" OUT/teacher/seed-1/teacher.safetensors " in plain[m] and "--share 0.7 " in plain[m] for m in taught) and all("--share 0 " in plain[m] and "teacher.safetensors" not in plain[m] for m in alone)
    for name, of in (("seed-1", taught), ("alone", alone)):
        assert all(f"OUT/{m.replace(' ', '/')}/student.safetensors " in plain[f"ensemble {name}"] for m in of) and f"OUT/export/{name}-ensemble/student.onnx" in plain[f"judge {name}-ensemble"]
        assert f"OUT/ensemble/{name}/student.safetensors" in plain[f"export {name}-ensemble-wider-int8"] and f"OUT/export/{name}-ensemble-wider/student.onnx" in plain[f"export {name}-ensemble-wider-int8"] and f"OUT/export/{name}-ensemble-held/student.onnx" in plain[f"export {name}-ensemble"] and f"OUT/export/{name}-ensemble-plain/student.onnx" in plain[f"export {name}-ensemble-held"]
    assert [t for t in commands(tmp_path, "--members", "1") if t.startswith("members")] == [taught[0], alone[0]]
    assert [title.split()[0] for title in plain] == sorted((t.split()[0] for t in plain), key=run.STAGES.index), "in the order of the stages"
    assert set(run.STAGES) == {t.split()[0] for t in plain}
    assert "--budget-s 540 dev:1 train:4 low:1" in plain["oracle"] and "--minutes 5 " in plain["teacher seed-1"] and "--seconds 480 " in plain["rl seed-1"]
    assert "--passes 4 " in plain["histories drawn"] and "OUT/histories/drawn/histories.npz OUT/histories/model/histories.npz" in plain["teacher seed-1"]
    for words, change in (
        (["--minutes", "2"], {"oracle": "--budget-s 108 ", "teacher seed-1": "--minutes 1 ", "rl seed-1": "--seconds 96 "}),
        (["--backbone", "scratch"], {"teacher seed-1": "--backbone scratch "}),
        (["--device", "cuda"], {t: "--device cuda" for t in (*members, "ensemble seed-1", "ensemble alone", "ablate part-1", "teacher seed-1", "judge-teacher seed-1", "distill seed-1", "distill seed-1-alone", "rl seed-1")}),
        (["--weights", "/base/smollm2"], {t: "--weights smollm2" for t in (*taught, "ablate part-1", "teacher seed-1", "judge-teacher seed-1", "distill seed-1")}),
        (["--l4sd", "/opt/other"], {"oracle": "--l4sd other "} | {t: "other eval" for t in plain if t.startswith("judge ")}),
        (["--ranks", "4", "--gpus", "1"], {"teacher seed-1": "python -m torch.distributed.run --standalone --nproc-per-node 4 models/train/teacher.py "}),
    ):
        changed = commands(tmp_path, *words)
        assert {t for t in plain if plain[t] != changed[t]} == set(change), words
        assert all(part in changed[t] for t, part in change.items()), words
    model = commands(tmp_path, "--model", str(run.ROOT / "models/trees.onnx"))
    assert "--model models/trees.onnx" in model["histories model"] and "--model" not in model["histories drawn"] and "--behaviour models/trees.onnx" in model["fewshot data"] and "model:models/trees.onnx" in model["judge shipped"]
    given = commands(tmp_path, "--oracle", "/data/found")
    assert "oracle" not in given and "histories.py found " in given["histories drawn"]
    two = commands(tmp_path, "--seeds", "1,7")
    together = {t for t in two if " teachers" in t}
    assert "--seed 7 " in two["teacher seed-7"] and "seed-7/student.safetensors" in two["export seed-7-distilled"] and len(two) - len(together) == 2 * len(plain) - 21, "of each seed all but oracle, two histories, the data of few-shot, ablation, what is without a teacher (three members, their mean, its seven files, three judgements), what ships and the card"
    assert together == {"ensemble teachers", *(f"export teachers-ensemble{part}" for part in ("", "-plain", "-held", "-wider", "-wider-plain", "-wider-held", "-wider-int8")), *(f"judge teachers-ensemble{part}" for part in ("", "-wider", "-wider-int8"))}
    of = " ".join(f"OUT/members/seed-{t}-{m}/student.safetensors" for t in (1, 7) for m in (101, 102, 103))
    assert f"/student.safetensors {of} --histories " in two["ensemble teachers"], "of all students with a teacher, and of them alone"
    assert all(("--threshold 0.45" in command) == (title.endswith(("-ensemble-plain", "-ensemble-wider-plain")) or title.startswith("ensemble ")) for title, command in two.items())
    assert all(("--wider --bolder 0.5" in command) == title.endswith("-ensemble-wider-plain") for title, command in two.items())
    assert "OUT/export/seed-1-ensemble-wider-plain/student.onnx" in plain["export seed-1-ensemble-wider-held"] and "OUT/export/seed-1-ensemble-wider-held/student.onnx" in plain["export seed-1-ensemble-wider"] and "OUT/export/seed-1-ensemble-wider/student.onnx" in plain["judge seed-1-ensemble-wider"]
    assert two["fewshot seed-7"].endswith(" --seed 7") and two["fewshot data"] == plain["fewshot data"] and "OUT/fewshot/seed-7/fewshot.safetensors OUT/fewshot/seed-7-eval/eval.json flows rtt steps bursty" in two["fewshot seed-7-eval"]
    assert all(f"--hold-out {grid} " in plain["fewshot seed-1"] for grid in plain["fewshot seed-1-eval"].split()[-4:]), "tried on what it was not trained on"
    assert "--share 0 " in plain["distill seed-1-alone"] and "--share" not in plain["distill seed-1"]
    split = commands(tmp_path, "--gpus", "2")
    assert set(split) - set(plain) == {"ablate part-2"} and "--part 0/2 " in split["ablate part-1"] and "--part 1/2 " in split["ablate part-2"]
    tiny = commands(tmp_path, "--tiny")
    assert set(tiny) == set(plain) - {taught[2], alone[2]} and "--backbone tiny" in tiny["teacher seed-1"] and all("--smoke" in tiny[t] for t in tiny if t.split()[0] in ("oracle", "judge") or t.endswith("-eval"))


def test_threads_and_machines_are_not_part_of_what_a_job_is(tmp_path: Path) -> None:
    assert commands(tmp_path, "--ray") == commands(tmp_path)
    assert {j.stage for j in run.plan(parsed(tmp_path, "--ray")) if "--ray" in j.command} == {"histories"}
    assert commands(tmp_path, "--threads", "3") == commands(tmp_path, "--threads", "5")
    assert "3" in next(j.command for j in run.plan(parsed(tmp_path, "--threads", "3")) if j.stage == "teacher")


def test_only_the_stages_that_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(tmp_path / "x"), "--stage", "rl", "--stage", "card", "--dry-run"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["rl seed-1", "card"]
    assert not (tmp_path / "x").exists(), "nothing is run"


def test_a_job_is_run_again_only_for_a_reason(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = parsed(out)

    def ran(job: run.Job) -> bool:
        assert run.stage([job], args)
        return "skipped" not in capsys.readouterr().out

    left = out / "distill/seed-1/out.txt"
    assert ran(copier(out)) and left.read_text() == "a-"
    assert not ran(copier(out))
    (out / "in.txt").write_text("b")
    assert ran(copier(out)) and left.read_text() == "b-"
    left.write_text("spoilt")
    assert ran(copier(out)) and left.read_text() == "b-"
    left.unlink()
    assert ran(copier(out))
    assert ran(copier(out, code=COPY + "; print()")), "another command"
    assert not ran(copier(out, code=COPY + "; print()"))
    lines = run.records(out)
    assert len(lines) == 5
    assert lines[0]["reads"] == {"OUT/in.txt": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"}, "SHA-256 of 'a', FIPS 180"
    assert lines[0]["writes"]["OUT/distill/seed-1/out.txt"]["bytes"] == 2
    assert lines[0]["scalars"] == {"loss": [[3, 0.25]]} and lines[0]["seed"] == 1 and str(out) not in json.dumps(lines)


def test_a_job_that_fails_is_told_of_and_is_not_taken_for_done(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = parsed(out)
    later = copier(out, name="seed-2")
    for code, status, said in (("print('no luck'); raise SystemExit(3)", 3, "no luck"), ("pass", 1, "it left nothing of out.txt")):
        assert not run.stage([copier(out, code=code), later], args)
        assert said in (err := capfd.readouterr().err) and f"distill seed-1: failed with status {status}" in err
        assert not later.writes[0].exists(), "nothing is begun after a failure"
    assert run.stage([copier(out)], args) and [r["status"] for r in run.records(out)] == [3, 1, 0]


def test_what_goes_on_keeps_what_it_has_of_the_same_inputs(out: Path) -> None:
    more = "import sys; open(sys.argv[2], 'a').write('.')"
    args, left = parsed(out), out / "oracle/x/out.txt"

    def after(code: str) -> str:
        job = copier(out, "oracle", "x", code)
        job.keep = True
        assert run.stage([job], args)
        return left.read_text()

    left.parent.mkdir(parents=True)
    left.write_text("whose?")
    assert after(more) == "."
    (out / "run.jsonl").unlink()
    assert after(more) == "..", "what was interrupted has no line"
    assert after(more + "; 1") == "...", "another budget"
    (out / "in.txt").write_text("b")
    assert after(more) == ".", "another program"


def test_what_is_missing_is_named(out: Path) -> None:
    (out / "in.txt").unlink()
    with pytest.raises(SystemExit, match="distill seed-1: OUT/in.txt is missing; run the stage that makes it first"):
        run.stage([copier(out)], parsed(out))


def test_jobs_share_the_gpus(out: Path) -> None:
    """Two jobs of two that wait for each other end only if both run at once, each on a GPU of its own."""
    meet = "import os, sys, time; open(sys.argv[2], 'w').write(os.environ['CUDA_VISIBLE_DEVICES']); other = sys.argv[2].replace('seed-1', '@').replace('seed-2', 'seed-1').replace('@', 'seed-2')\nfor _ in range(200):\n    time.sleep(0.05)\n    if os.path.exists(other): sys.exit(0)\nsys.exit(4)"
    jobs = [copier(out, name=f"seed-{s}", code=meet) for s in (1, 2)]
    assert run.stage(jobs, parsed(out, "--device", "cuda", "--gpus", "2"))
    assert sorted(j.writes[0].read_text() for j in jobs) == ["0", "1"]
    alone = [copier(out, name=f"seed-{s}") for s in (3, 4)]
    assert run.stage(alone, parsed(out, "--device", "cuda"))
    assert [j.writes[0].read_text() for j in alone] == ["a0", "a0"]
    assert run.stage([copier(out, stage="judge")], parsed(out, "--device", "cuda")) and (out / "judge/seed-1/out.txt").read_text() == "a-", "a stage that needs none gets none"


def test_a_job_of_several_ranks_has_several_gpus(out: Path) -> None:
    """Of three GPUs two go to the first job; the second, of two as well, has to wait for them, and the third, of one, for the second."""
    wait = COPY.replace("import os, sys;", "import os, sys, time; time.sleep(0.5);")
    jobs = [copier(out, name=f"seed-{s}", code=wait) for s in (1, 2, 3)]
    jobs[0].gpus = jobs[1].gpus = 2
    assert run.stage(jobs, parsed(out, "--device", "cuda", "--gpus", "3"))
    visible = [j.writes[0].read_text()[1:] for j in jobs]
    assert visible == ["0,1", "2,0", "1"], "those that are free longest first"
    assert [r["host"]["gpu"] for r in sorted(run.records(out), key=lambda r: r["job"])] == [[0, 1], [2, 0], 1]
    planned = {j.title: j.gpus for j in run.plan(parsed(out, "--device", "cuda", "--gpus", "3", "--ranks", "2"))}
    assert {title: n for title, n in planned.items() if n != 1} == {"teacher seed-1": 2}
    (tmp := copier(out, name="seed-4")).gpus = 2
    assert run.stage([tmp], parsed(out)) and tmp.writes[0].read_text() == "a-", "on the CPU it takes none"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--ranks", "0"], "--ranks 0 is not 1 or more"),
        (["--gpus", "0"], "--gpus 0 is not 1 or more"),
        (["--members", "0"], "--members 0 is not 1 or more"),
        (["--ranks", "2", "--device", "cuda"], "--ranks 2 is more than the GPUs, --gpus 1, and each rank has one of its own: --gpus 2, or fewer ranks"),
        (["--ray", "--l4sd", sys.executable], "ray is not installed: pip install ray, or leave out --ray"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(out: Path, words: list[str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=why):
        run.main([str(out / "x"), *words])
    assert not (out / "x").exists()


def test_what_is_running_has_ended_when_a_stage_is_broken_off(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first job takes half a second to end; the second, which has no input, breaks the stage off."""
    slow = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), open(sys.argv[2], 'w').write('ended'), sys.exit()))\nopen(sys.argv[1] + '.ready', 'w')\ntime.sleep(60)"
    jobs, describe = [copier(out, name="seed-1", code=slow), copier(out, name="seed-2")], run.describe

    def broken(job: run.Job, folder: Path) -> dict[str, object]:
        if job is jobs[1]:
            while not (out / "in.txt.ready").exists():
                run.time.sleep(0.02)
            raise SystemExit("no input")
        return describe(job, folder)

    monkeypatch.setattr(run, "describe", broken)
    with pytest.raises(SystemExit, match="no input"):
        run.stage(jobs, parsed(out, "--device", "cuda", "--gpus", "2"))
    assert jobs[0].writes[0].read_text() == "ended"


def test_one_run_at_a_time_has_a_folder_and_its_jobs_with_it(out: Path) -> None:
    job = copier(out, code="import time; time.sleep(60)")
    lock = run.hold(out)
    process = run.start(job, [None], run.describe(job, out), lock)
    lock.close()
    with pytest.raises(SystemExit, match="another run.py is at work there, or a job of one that was killed"):
        run.main([str(out), "--stage", "card", "--l4sd", sys.executable])
    process.kill()
    process.wait()
    run.hold(out).close()


def test_the_card_is_made_again_when_what_it_shows_is_another(tmp_path: Path) -> None:
    *jobs, card = run.plan(parsed(tmp_path))
    shown = {str(w.relative_to(tmp_path)) for w in (*card.reads, *card.maybe) if w.is_relative_to(tmp_path)}
    assert {"fewshot/seed-1-eval/eval.json", "ablate/part-1/runs.jsonl", "judge/seed-1-rl/results.json"} <= shown
    assert not [w for w in shown if w.endswith((".npz", ".onnx", ".safetensors"))], "what is large is not read again for it"


def test_scripts_count_with_what_they_import(tmp_path: Path) -> None:
    jobs = {j.title: {p.name for p in run.scripts_of(j)} for j in run.plan(parsed(tmp_path))}
    assert {"teacher.py", "replay.py", "ranks.py"} <= jobs["teacher seed-1"] and {"fewshot_eval.py", "fewshot.py"} <= jobs["fewshot seed-1-eval"]
    assert {"distill.py", "teacher.py", "networks.py", "context.py", "values.py"} <= jobs["distill seed-1"]
    assert "teacher.py" not in jobs["export seed-1-distilled"] and jobs["oracle"] == {"oracle.sh"}


def test_figures_are_those_of_the_results(tmp_path: Path) -> None:
    row = lambda policy, name, s: {"scope": "grid" if name else "overall", "name": name, "policy": policy, "against": "dualpi2", "role": "baseline", "cells": 4, "s_score": {"value": s, "lo": s - 0.1, "hi": s + 0.1}, "feasible_share": {"value": 0.75}}  # noqa: E731
    summary = [row("model", None, 0.7), row("model", "web", 0.9), row("dualpi2", None, 0.99), row("dualpi2", "web", 1.01), row("model", None, 0.1) | {"role": "rival"}]
    (tmp_path / "judge/shipped").mkdir(parents=True)
    (tmp_path / "judge/shipped/results.json").write_text(json.dumps({"summary": summary}))
    line = {"stage": "judge", "job": "shipped", "status": 0, "command": "l4sd eval --policy model:models/student.onnx --out x", "reads": {"models/student.onnx": "ab" * 32}, "began": "then", "seconds": 3.2, "seed": None, "host": {"device": "cpu", "threads": 2}}
    results = json.dumps({"cells": [{"grid": "web", "cell": "a", "policy": p, "s_score": s} for p, s in (("oracle", 0.25), ("model", 0.5))], "summary": []})
    (tmp_path / "run.jsonl").write_text("\n".join(json.dumps(x) for x in (line, line | {"status": 1, "job": "other"})))
    found = figures.collect(tmp_path)
    assert found["policies"]["shipped"]["grids"]["overall"]["s"] == 0.7 and set(found["policies"]) == {"shipped"}
    text = figures.text(found)
    assert "| shipped | abababababababab | 4 | 0.700 (0.600 to 0.800) | 75 |" in text
    # ln .5 is half of ln .25, the oracle's; the gate asks for .45.
    for folder in (tmp_path / "judge/shipped", tmp_path / "o"):
        folder.mkdir(exist_ok=True)
        (folder / "results.json").write_text(results)
    assert figures.gates_of(tmp_path, ["shipped"]) == {}
    found["gates"] = figures.gates_of(tmp_path, ["shipped"], tmp_path / "o")
    told = found["gates"]["shipped"]
    assert told[0].startswith("PASS G2 0.500 (") and told[1].startswith("- G4 not judged: ") and f"| shipped | {told[0]} |" in figures.text(found)
    assert "| shipped | 0.900, 75 |" in text and "| DualPI2, other seeds | 1.010, 75 |" in text


def test_teachers_are_judged_by_their_students(tmp_path: Path) -> None:
    """Teacher ln .4 = -.916; alone ln .5 = -.693, ratio .8; distilled keeps .693 / .916 = .756, under the .9 wanted; RL makes .5 to .6, 1.2 times. A mean of
    students keeps ln .45 = -.799, .871; without a teacher it has .6, of which the teacher's is .667."""
    for name, policy, s in (("judge-teacher/seed-1/results-teacher", "teacher", 0.4), ("judge/seed-1-alone/results", "model", 0.5), ("judge/seed-1-distilled/results", "model", 0.5), ("judge/seed-1-rl/results", "model", 0.6), ("judge/seed-1-ensemble/results", "model", 0.45), ("judge/alone-ensemble/results", "model", 0.6)):
        file = tmp_path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"cells": [{"grid": "web", "cell": "a", "policy": policy, "s_score": s}]}))
    packed = tmp_path / "judge-teacher/seed-1/results-teacher.json.gz"
    packed.write_bytes(gzip.compress(packed.with_suffix("").read_bytes()))
    told = figures.gates_of(tmp_path, ["seed-1-teacher"])
    said = {name: [line.split(" (")[0] for line in lines] for name, lines in told.items()}
    assert said["seed-1-teacher"] == ["PASS G6 S of the teacher 0.800", "FAIL G7 0.756", "FAIL G7 web: S after RL 1.200"]
    assert said["seed-1-teacher, means of students"] == ["PASS G6 S of the teacher 0.667", "FAIL G7 0.871"]
    packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()).replace(b"0.4", b"1.0")))
    told = figures.gates_of(tmp_path, ["seed-1-teacher"])["seed-1-teacher"]
    assert told[1].startswith("- G7 not judged: what is compared with gains nothing"), "ln 1 = 0"


def test_the_card_shows_what_few_shot_came_to(tmp_path: Path) -> None:
    file = tmp_path / "fewshot/seed-1-eval/eval.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"grids": ["rtt", "web"], "split": "dev", "seeds": 3, "columns": {"S": {"k = 0": ".9", "k = 4": ".8"}, "after": {"k = 4": ".7"}}, "said": ["no: it does not"]}))
    found = figures.demonstrations(tmp_path)
    assert list(found) == ["seed-1"]
    lines = figures.text({"policies": {}, "dualpi2": {}, "stages": {}, "demonstrations": found}).splitlines()
    at = lines.index("## Demonstrations, seed-1: rtt, web (dev), never trained on")
    assert lines[at + 2 : at + 8] == ["| demonstrations | S | after |", "|---|--:|--:|", "| k = 0 | .9 |  |", "| k = 4 | .8 | .7 |", "", "- no: it does not"]


def test_figures_of_rounds_go_to_tensorboard_where_it_is(out: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    pytest.importorskip("torch", reason="pip install torch")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run.stage([copier(out)], parsed(out))
    (events,) = (out / "tensorboard/distill-seed-1").iterdir()
    read = EventAccumulator(str(events)).Reload()
    assert {"seconds", "loss"} == set(read.Tags()["scalars"])
    assert [(e.step, e.value) for e in read.Scalars("loss")] == [(3, 0.25)]
