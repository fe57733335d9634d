#!/usr/bin/env python3
"""Speculative sampling of a large policy in the simulator, without loss: what is executed has the large policy's distribution.

    speculate.py STUDENT.onnx TARGET.onnx|TEACHER.safetensors [--links N] [--envs N] [--steps S] [--k K] [--temperature T] [--target-ms MS]

The draft policy (q) takes K steps, and sees what the simulator really answers. The target policy (p) judges all of them in one call.
Each action is kept with probability min(1, p/q). At the first that is not, the simulator goes back to that step and an action from
norm(max(0, p - q)) takes its place; if all are kept, one more is drawn from p. The command measures calls of the target, and time,
against sampling the target alone (which is K = 0) on the same links.

`rollout` needs no simulator of its own: a vector of environments is anything with what `Links` has. This is for training only: a live link
cannot go back, so there nothing like it is lossless.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import values

STEP_S = 0.128
# That of student.py, which needs torch.
TAU = 0.03
# Grids of train that links are drawn from when none are named.
GRIDS = "rfc9332,flows,rtt,steps,overload,bursty,lowrate,switch,impaired"
DRAWS = 10_000


@dataclasses.dataclass(frozen=True)
class Asked:
    """Places at which a policy is asked for probabilities: row r is step `time[r]` of episode `episode[r]`.

    `observations` (episodes, steps + 1, ...) and `actions` (episodes, steps) are those of all episodes. Of row r count observations up to
    `time[r]` and actions before it; what lies behind is of no meaning. Rows of one episode follow each other with rising time, so a
    causal model reads each episode once, up to its last row.
    """

    observations: np.ndarray
    actions: np.ndarray
    episode: np.ndarray
    time: np.ndarray

    def now(self):
        """The observation of each row, for a policy without memory."""
        return self.observations[self.episode, self.time]


@dataclasses.dataclass
class Counts:
    """What a rollout took. Steps are of single environments; seconds are of the wall clock."""

    executed: int = 0
    drafted: int = 0
    judged: int = 0
    """Drafts up to the first that was not kept, and this one."""
    accepted: int = 0
    idle: int = 0
    """Steps of environments that waited for others, at the end of their episode or after the last."""
    calls: int = 0
    """Calls of the target, each for all environments."""
    verifications: int = 0
    """The same, an episode's part in a call being one."""
    positions: int = 0
    """Rows of these calls."""
    draft_s: float = 0.0
    verify_s: float = 0.0
    simulate_s: float = 0.0

    @property
    def thrown_away(self):
        """Steps that were simulated for a draft and are not part of what was executed."""
        return self.drafted - self.accepted


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What was executed: `observations` (episodes, steps + 1, ...), `actions` and `rewards` (episodes, steps), and the target's
    probabilities at each of the steps (episodes, steps, actions), which cost no call more."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    probabilities: np.ndarray
    counts: Counts


def pick(p, u):
    """An action of each row of probabilities `p`, which need not sum to 1; `u` is uniform in [0, 1)."""
    total = np.cumsum(p, 1)
    # Rounding must not reach the end, where an action of probability 0 may be.
    x = np.minimum(u * total[:, -1], np.nextafter(total[:, -1], 0))
    return (total <= x[:, None]).sum(1)


def keeps(p, q, u):
    """Whether a drafted action of probability `q` stays when the target gives it `p`."""
    return u < p / q


def residual(p, q):
    """Weights of the action that takes a rejected one's place."""
    left = np.maximum(p - q, 0)
    # Without anything left, p and q differ by rounding only.
    return np.where(left.sum(1, keepdims=True) > 0, left, p)


def rollout(env, draft, target, k, rng, steps, episodes=None):
    """Runs `episodes` episodes of `steps` steps each in a vector of environments, one in each unless told otherwise. An environment that
    comes to the end of its episode begins the next that is left.

    `draft` and `target` map `Asked` to probabilities of shape (rows, actions). With k = 0, `draft` is not used and `target` is sampled
    step by step. Random numbers belong to episode and step, so nothing depends on which environment runs an episode, or when.
    Raises ValueError if an environment ends before, or if what a policy returns is no distribution.
    """
    n = env.num_envs
    total = n if episodes is None else episodes
    if total < n:
        raise ValueError(f"{total} episodes are fewer than the {n} environments")
    observations = env.begin(np.arange(n), np.arange(n))
    seen = np.zeros((total, steps + 1, *observations.shape[1:]), observations.dtype)
    seen[:n, 0] = observations
    taken, rewards, probabilities = np.zeros((total, steps), np.int64), np.zeros((total, steps)), None
    # A step that is drafted again has its old numbers. Nothing that was decided before it depends on them.
    to_pick, to_keep, to_correct = rng.random((3, total, steps))
    # Of each environment.
    episode, position = np.arange(n), np.zeros(n, np.int64)
    begun, counts = n, Counts(executed=total * steps)

    def step(who, when):
        actions = np.zeros(n, np.int64)
        actions[who] = taken[episode[who], when]
        answer, reward, over = env.step(actions)
        if (over[who] & (when + 1 < steps)).any():
            raise ValueError(f"an environment ends before {steps} steps are over")
        seen[episode[who], when + 1], rewards[episode[who], when] = answer[who], reward[who]
        counts.idle += n - len(who)

    while (position < steps).any():
        depth = np.minimum(k, steps - position)
        snapshots, drafts = [], []
        for j in range(depth.max()):
            who = np.flatnonzero(depth > j)
            at = episode[who], position[who] + j
            begin = time.perf_counter()
            q = _distributions(draft(Asked(seen, taken, *at)), len(who))
            taken[at] = pick(q, to_pick[at])
            drafts.append((who, q))
            then = time.perf_counter()
            snapshots.append(env.snapshot(who))
            step(who, at[1])
            counts.draft_s += then - begin
            counts.simulate_s += time.perf_counter() - then

        begin = time.perf_counter()
        asked = np.minimum(depth + 1, steps - position)
        row_env = np.repeat(np.arange(n), asked)
        row_place = np.arange(len(row_env)) - np.repeat(np.cumsum(asked) - asked, asked)
        row_at = episode[row_env], position[row_env] + row_place
        rows = _distributions(target(Asked(seen, taken, *row_at)), len(row_env))
        counts.calls += 1
        counts.verifications += int((asked > 0).sum())
        counts.positions += len(rows)
        p = np.zeros((n, k + 1, rows.shape[1]))
        p[row_env, row_place] = rows
        q, stays = np.zeros((n, k, rows.shape[1])), np.zeros((n, k), bool)
        for j, (who, drawn_from) in enumerate(drafts):
            at = episode[who], position[who] + j
            q[who, j] = drawn_from
            stays[who, j] = keeps(p[who, j, taken[at]], q[who, j, taken[at]], to_keep[at])
        kept = np.cumprod(stays, 1).sum(1)
        rejected = kept < depth
        counts.drafted += int(depth.sum())
        counts.judged += int((kept + rejected).sum())
        counts.accepted += int(kept.sum())
        if probabilities is None:
            probabilities = np.zeros((total, steps, rows.shape[1]))
        executed = row_place <= kept[row_env]
        probabilities[row_at[0][executed], row_at[1][executed]] = rows[executed]

        # One action more for each that has not come to its end.
        more = np.flatnonzero(position + kept < steps)
        at = episode[more], position[more] + kept[more]
        fresh, to_draw = p[more, kept[more]], to_pick[at]
        wrong = rejected[more]
        fresh[wrong] = residual(fresh[wrong], q[more[wrong], kept[more[wrong]]])
        to_draw[wrong] = to_correct[at][wrong]
        taken[at] = pick(fresh, to_draw)
        then = time.perf_counter()
        counts.verify_s += then - begin

        for j, snapshot in enumerate(snapshots):
            back = np.flatnonzero(rejected & (kept == j))
            if len(back):
                env.restore(snapshot, back)
        if len(more):
            step(more, at[1])
        position += kept
        position[more] += 1
        free = np.flatnonzero((position == steps) & (asked > 0))[: total - begun]
        if len(free):
            episode[free], position[free] = np.arange(begun, begun + len(free)), 0
            seen[episode[free], 0] = env.begin(free, episode[free])[free]
            begun += len(free)
        counts.simulate_s += time.perf_counter() - then
    return Rollout(seen, taken, rewards, probabilities, counts)


def _distributions(p, rows):
    p = np.asarray(p, np.float64)
    if p.ndim != 2 or len(p) != rows or not (p >= 0).all() or not np.allclose(p.sum(1), 1, atol=1e-6):
        raise ValueError(f"a policy returns a distribution for each of {rows} rows")
    return p


class Links:
    """Links of l4sd_gym as `rollout` takes them. Episode i is scenario i; actions are places in values.CANDIDATES, one each 128 ms."""

    def __init__(self, num_envs, scenarios, steps, seed, threads=1, twin=True):
        from l4sd_gym import L4sdVectorEnv

        # An environment that waits for others goes on with an episode that nobody looks at.
        self.env = L4sdVectorEnv(num_envs, scenarios, threads=threads, hold=8, twin=twin, episode_s=steps * STEP_S, autoreset_mode="NextStep")
        self.table = np.array(values.CANDIDATES)
        self.num_envs, self.count, self.seed = num_envs, len(scenarios), int(seed) * 100003 + 2**20

    def begin(self, indices, episodes):
        """Begins these episodes in these environments, and returns what all environments show."""
        for i, episode in zip(indices, episodes, strict=True):
            mask = np.zeros(self.num_envs, bool)
            mask[i] = True
            # Environment i gets seed + i: the episode's, wherever it runs.
            seed = self.seed + int(episode) - int(i)
            observations, _ = self.env.reset(seed=seed, options={"scenario": int(episode) % self.count, "reset_mask": mask})
        return observations

    def step(self, actions):
        """Lets 128 ms pass: observations, rewards, and which episodes are over."""
        full = np.column_stack([self.table[actions], np.full(len(actions), 2)])
        observations, rewards, _, over, _ = self.env.step(full)
        return observations, rewards, over

    def snapshot(self, indices):
        """Those of `indices`, to go back to together or one by one."""
        return {int(i): self.env.snapshot([i]) for i in indices}

    def restore(self, snapshot, indices):
        """Puts those of `indices` back and leaves the others."""
        for i in indices:
            self.env.restore(snapshot[int(i)])


def policy(score, feasible, threshold, tau):
    """The distribution over candidates of student.py: softmax(-score / tau) over those taken for feasible, and the first."""
    eligible = feasible >= np.log(threshold / (1 - threshold))
    eligible[:, 0] = True
    x = np.where(eligible, -np.asarray(score, np.float64) / tau, -np.inf)
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


class Model:
    """A model file (docs/model.md) as a policy. Graphs of batch 1 are run row by row, others at once."""

    def __init__(self, path, tau, added_s=0.0):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.single = self.session.get_inputs()[0].shape[0] == 1
        told = self.session.get_modelmeta().custom_metadata_map
        self.threshold, self.placed = float(told["l4sd.threshold"]), values.as_candidates(told, path)
        self.tau, self.added_s = tau, added_s

    def __call__(self, asked):
        x = asked.now()
        parts = np.split(x, len(x)) if self.single else [x]
        answers = [self.session.run(["score", "feasible"], {"features": part}) for part in parts]
        if self.added_s:
            time.sleep(self.added_s)
        score, feasible = self.placed(*(np.concatenate(a) for a in zip(*answers, strict=True)))
        return policy(score, feasible, self.threshold, self.tau)


def target_of(args):
    """The policy that is sampled."""
    if args.target.suffix != ".safetensors":
        return Model(args.target, args.temperature, args.target_ms / 1e3)
    import context
    import teacher
    import teacher_target
    import torch

    if args.target_ms:
        sys.exit("--target-ms is for a model file: a teacher takes the time that it takes")
    if args.steps > teacher_target.MOST_STEPS:
        sys.exit(f"--steps {args.steps}: a teacher remembers {teacher_target.MOST_STEPS} steps of an episode")
    torch.set_num_threads(args.threads)
    net, saved = teacher.load(args.target, args.device, args.weights)
    return teacher_target.TeacherTarget(net.settled(), "" if saved["text"] == "none" else context.neutral(), args.device, tau=args.temperature)


def interval(x, rng):
    """Mean of one number per link and its 95 % bootstrap interval over links."""
    means = x[rng.integers(len(x), size=(DRAWS, len(x)))].mean(1)
    return x.mean(), *np.percentile(means, [2.5, 97.5])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("student", type=Path, help="model file that drafts")
    parser.add_argument("target", type=Path, help="what is sampled: a model file, or a teacher of teacher.py")
    parser.add_argument("--weights", type=Path, help="of a teacher: folder of the base weights; that of the installed package")
    parser.add_argument("--device", default="cpu", help="of a teacher")
    parser.add_argument("--links", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2, help="episodes of each link, with other seeds")
    parser.add_argument("--envs", type=int, default=16, help="episodes that run at a time, and share a call of the target")
    parser.add_argument("--steps", type=int, default=100, help="of 128 ms, in an episode")
    parser.add_argument("--k", type=int, default=8, help="steps drafted before a call of the target")
    parser.add_argument("--temperature", type=float, default=TAU, help="of both policies, in ln S")
    parser.add_argument("--draft-temperature", type=float, help="of the draft alone")
    parser.add_argument("--target-ms", type=float, default=0.0, help="waited in each call of the target, as if it were a larger model")
    parser.add_argument("--grids", default=GRIDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if min(args.links, args.repeats, args.envs, args.steps, args.k) < 1:
        sys.exit("--links, --repeats, --envs, --steps and --k are 1 or more")
    import l4sd_gym

    rng = np.random.default_rng(args.seed)
    pool = [s for grid in args.grids.split(",") for s in l4sd_gym.grid_scenarios(grid, "train")]
    if args.links > len(pool):
        sys.exit(f"--links {args.links}: these grids have {len(pool)}")
    scenarios = [pool[i] for i in rng.choice(len(pool), args.links, replace=False)]
    episodes = args.links * args.repeats
    envs = min(args.envs, episodes)
    links = Links(envs, scenarios, args.steps, args.seed, args.threads)
    own = args.temperature if args.draft_temperature is None else args.draft_temperature
    draft, target = Model(args.student, own), target_of(args)

    print(f"{args.links} links of train, {args.repeats} episodes of {args.steps} steps of 128 ms on each, {envs} at a time; temperature {args.temperature:g}, of the draft {own:g}")
    print(f"draft {args.student}, target {args.target}; {args.target_ms:g} ms waited in each call of the target")
    heads = "K", "calls of the target per step of all", "verifications per step of a link", "positions scored per step", "drafts kept %"
    heads += "of those judged %", "steps thrown away, idle %", "drafting s", "verifying s", "simulating s", "wall s"
    print(f"| {' | '.join(heads)} |\n|{'--:|' * len(heads)}")
    walls, calls, means = [], [], []
    for k in (0, args.k):
        begin = time.perf_counter()
        done = rollout(links, draft, target, k, rng, args.steps, episodes)
        walls.append(time.perf_counter() - begin)
        means.append(done.rewards.mean(1).reshape(args.repeats, args.links).mean(0))
        c = done.counts
        calls.append(c.calls)
        share = [f"{100 * c.accepted / d:.1f}" if d else "-" for d in (c.drafted, c.judged)]
        calls_per_step = f"{c.calls * envs / c.executed:.3f} | {c.verifications / c.executed:.3f} | {c.positions / c.executed:.2f}"
        lost = f"{100 * c.thrown_away / c.executed:.1f}, {100 * c.idle / c.executed:.1f}"
        seconds = " | ".join(f"{x:.2f}" for x in (c.draft_s, c.verify_s, c.simulate_s, walls[-1]))
        print(f"| {k} | {calls_per_step} | {share[0]} | {share[1]} | {lost} | {seconds} |", flush=True)
    for name, x in (("plain", means[0]), (f"K = {args.k}", means[1]), ("difference", means[1] - means[0])):
        print("mean reward, {}: {:.4f} ({:.4f} to {:.4f})".format(name, *interval(x, rng)))
    saved, added = calls[0] - calls[1], walls[1] - walls[0]
    print(f"wall time {'saved' if added < 0 else 'lost'}: {abs(added):.2f} s of {walls[0]:.2f} s, for {saved} of {calls[0]} calls of the target")
    if saved > 0:
        even = max(args.target_ms + 1e3 * added / saved, 0)
        print(f"even when {even:.1f} ms are waited in each call (worked out, for a target that takes as long whatever it scores)")


if __name__ == "__main__":
    main()
