"""Laws of demonstrations, prompts, the context encoder and the few-shot experiment, against numbers worked out by hand."""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
pytest.importorskip("l4sd_gym")
torch = pytest.importorskip("torch")
import demonstrations as demo  # noqa: E402
import fewshot  # noqa: E402
import fewshot_eval  # noqa: E402
import networks  # noqa: E402
from l4sd_gym import FEATURES  # noqa: E402

NAMES = list(FEATURES)
OUTCOMES = len(demo.OUTCOMES)


def record(delay_c=14.5, delay_l=0.8, utilisation=1.0):
    """One record of a link on which two flows in L have .6 of it and one in C .4."""
    features = np.zeros((1, len(NAMES)), np.float32)
    for name, value in {"departure_l.mean_4s": 0.6, "departure_c.mean_4s": 0.4, "flows_l.mean_4s": math.log(3), "flows_c.mean_4s": math.log(2)}.items():
        features[0, NAMES.index(name)] = value
    each = (np.array([x], float) for x in (7.5, 2.0, 1.6, delay_c, delay_l, utilisation))
    return demo.records(features, NAMES, *each)[0]


def shot(**outcome):
    return np.tile(record(**outcome), (demo.RECORDS, 1))


def test_a_record_has_the_action_and_what_came_of_it():
    # .6 / 2 flows against .4 / 1 is .75; target 7.5 of 15 ms, ramp 1.6 of .8 ms; 14.5 + .5 and .8 + .2 ms.
    r = record()
    assert len(r) == demo.width(NAMES) == demo.slow(NAMES) + 3 + OUTCOMES
    assert r[demo.slow(NAMES) :] == pytest.approx([-math.log(2), math.log(2), math.log(2), 1, math.log(15), 1, 0, 1, 1, math.log2(0.75)], abs=1e-6)
    quiet = record(delay_l=math.nan)
    assert quiet[-5:-3].tolist() == [0, 0]


def test_a_prompt_is_in_order_of_rising_return():
    # -(ln 15 + ln 1) / 2, then half the delay of C, then half the delay of C at half the utilisation: worse by ln 2 of the whole.
    shots = np.array([shot(), shot(delay_c=7.0), shot(delay_c=7.0, utilisation=0.5)])
    assert demo.returns(shots) == pytest.approx([-math.log(15) / 2, -math.log(7.5) / 2, -math.log(7.5) / 2 - math.log(2)], abs=1e-6)
    shown, mask = demo.prompt(shots)
    assert mask.tolist() == [1, 1, 1, 0]
    assert np.array_equal(shown[:3], shots[[2, 0, 1]]) and not shown[3].any()
    # Without packets in L it is C's delay whole.
    assert demo.returns(shot(delay_l=math.nan)) == pytest.approx(-math.log(15), abs=1e-6)


def test_permuted_outcomes_are_dealt_out_and_nothing_else():
    shots = np.array([shot(delay_c=c) for c in (1.0, 2.0, 3.0)])
    dealt = demo.permuted(shots, np.random.default_rng(1))
    assert np.array_equal(dealt[..., :-OUTCOMES], shots[..., :-OUTCOMES])
    assert not np.array_equal(dealt, shots)
    assert np.array_equal(np.sort(dealt[..., -6].ravel()), np.sort(shots[..., -6].ravel()))


def bank():
    """Two demonstrations of each of two episodes on each of three links."""
    rows = np.array([shot(delay_c=1 + i) for i in range(12)], np.float16)
    return demo.Bank(rows, np.repeat(np.arange(3), 4), np.tile([0, 0, 1, 1], 3))


def test_what_is_shown_beside_a_state_is_of_other_episodes():
    b, rng = bank(), np.random.default_rng(1)
    for _ in range(20):
        some = b.draw(1, 4, rng, but=1)
        assert sorted(some) == [4, 5] and b.return_[some[0]] <= b.return_[some[1]]
    prompts = fewshot.Prompts(b, range(3))
    assert {prompts.other(1, rng) for _ in range(50)} == {0, 2}
    with pytest.raises(SystemExit, match="none can be shown as the wrong one"):
        fewshot.Prompts(b, [1]).other(1, rng)


def test_the_context_says_nothing_of_what_is_masked_and_is_zero_for_no_demonstration():
    torch.manual_seed(1)
    n = demo.width(NAMES)
    encoder = networks.Encoder((demo.MOST, demo.RECORDS, n), np.zeros(n), np.ones(n), dropout=0.0).eval()
    shown = torch.randn(2, demo.MOST, demo.RECORDS, n)
    other = shown.clone()
    other[:, 2:] += 1
    mask = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]])
    with torch.no_grad():
        a, b, c = encoder(shown, mask), encoder(other, mask), encoder(other, torch.ones(2, demo.MOST))
    assert torch.allclose(a, b, atol=1e-6) and not torch.allclose(a[0], c[0], atol=1e-3)
    assert a.shape == (2, 4, 64) and not a[1].any()


def test_what_demonstrations_came_to_is_said_as_it_is(tmp_path):
    """ln S overall of k = 0, k = 4 and a wrong link on two links: a wrong link costs the mean of ln 1 and ln 1.05, which is 2.5 %."""
    args = argparse.Namespace(out=tmp_path / "eval.json", grids=["rtt"], split="dev", seeds=1, bootstrap=50)

    def said(wrong):
        s, share = {"value": 0.8, "lo": 0.7, "hi": 0.9}, {"value": 1.0}
        verdicts = {arm: (s, share, {("rtt", "a"): 0.8, ("rtt", "b"): 0.8 * worse}) for arm, worse in ((fewshot_eval.ZERO, 1), (fewshot_eval.RIGHT, 0.9), (fewshot_eval.WRONG, wrong))}
        fewshot_eval.report(args, ["", ""], None, {}, verdicts)
        return json.loads(args.out.read_text())["said"]

    assert said(1.05)[-1] == "yes: a wrong link costs at most 3 % overall; it costs +2.5 %"
    assert said(1.10)[-1] == "no: a wrong link costs at most 3 % overall; it costs +4.9 %"
    assert said(1.0)[0].startswith("k = 4 over k = 0: overall 0.949 ("), "the root of .9"


def test_early_windows_follow_changes_that_leave_them_room():
    text = 'duration = "60s"\n[link]\nrate = "1Mbit"\nsteps = [{at = "20000ms", rate = "2Mbit"}, {at = "22s", rate = "1Mbit"}]\n[[flow]]\nstart = "57s"\n'
    # 20 s is followed by 22 s, and 57 s by the end; so is 55 s, at whose end nothing is seen any more.
    assert fewshot_eval.changes(text) == [0.0, 22.0]
    assert fewshot_eval.changes(text.replace("57s", "55s")) == [0.0, 22.0]


def test_the_score_of_a_window_is_that_of_the_design():
    # dC (14.5 + .5)/(29.5 + .5) = 1/2, dL (.8 + .2)/(1.8 + .2) = 1/2, u_ref/u = 1/.8.
    reference = np.array([1.8, 29.5, 1.0])
    assert fewshot_eval.ln_score(np.array([0.8, 14.5, 0.8]), reference) == pytest.approx(math.log(0.5 / 0.8))
    assert fewshot_eval.ln_score(np.array([np.nan, 14.5, 1.0]), reference) == pytest.approx(math.log(0.5))
    table = {"half": np.array([[[0.8, 14.5, 1.0]] * 2] * 3), "same": np.array([[reference] * 2] * 3)}
    scores = fewshot_eval.early_scores(table, (np.array([0, 0, 1]), np.array([[reference] * 2] * 3)), 50)
    assert scores["half"][0] == pytest.approx(math.log(0.5)) and np.allclose(scores["half"][1], math.log(0.5))
    assert scores["same"][0] == 0 and not scores["same"][1].any()
