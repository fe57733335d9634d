"""What an operator tells the teacher in words before it sees states: access type, goal, known traffic.

A goal moves the room within the bounds of src/eval/score.rs, so the text says what no telemetry does. Access type and traffic are
drawn among those that the link's scenario allows. Words for training and words held out have nothing in common; some access types
are never trained on. A text says only what an operator could know: never a setting of a knob, nor how a link was scored.

It does not simulate, and knows nothing of settings, scores or the model that reads the text.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Goal:
    """`slack`: margins added to the room within a bound, by its name in values.py; more than 0 is lenient. A margin of
    utilisation is one percentage point. Wordings follow "to"."""

    name: str
    slack: dict
    train: tuple
    held_out: tuple


_GOALS = (
    Goal("balanced", {},
         ("balance delay and throughput", "steer a middle course between delay and throughput",
          "treat delay, throughput and fairness alike"),
         ("weigh latency and speed evenly", "make no special trade between latency and speed")),
    Goal("low_delay", {"utilization": 2.0},
         ("keep delay low even at 3 % less throughput", "put low delay first and let a few percent of throughput go",
          "cut queueing delay although throughput drops by 3 %"),
         ("minimise latency and give up some speed for it", "shrink the queue even if that costs three percent of the speed")),
    Goal("throughput", {"utilization": -0.5},
         ("keep the link full", "lose no throughput and lower delay only where that is free", "put throughput first and delay second"),
         ("use every bit of capacity", "guard the speed that people pay for")),
    Goal("calls", {"p99_l": -0.3, "p99_c": -0.3},
         ("keep calls free of delay spikes", "watch the worst delays so that calls do not stutter",
          "hold down the delay tail for voice and video"),
         ("avoid latency peaks so that meetings run smoothly", "make even the rarest waits short for people in conversation")),
    Goal("fair", {"ratio": -0.5},
         ("share the link fairly between all flows", "let no kind of flow push out another", "keep old and new senders at equal shares"),
         ("give everybody an even split", "stop one class of sender from crowding out the rest")),
    Goal("web", {"mice": -0.3},
         ("load web pages fast", "let short flows finish quickly", "keep pages snappy while bulk traffic runs"),
         ("make small requests complete soon", "give browsing a quick response")),
)  # fmt: skip
GOALS: dict[str, Goal] = {g.name: g for g in _GOALS}


@dataclass(frozen=True)
class Link:
    """What of a scenario decides which access types fit. Mbit/s (None: unknown) and ms; `rtt` is that of the nearest server."""

    rate: float | None
    rtt: float
    hidden: bool = False
    stepped: bool = False
    batched: bool = False
    orbit: bool = False

    @property
    def steady(self):
        return not (self.varies or self.batched)

    @property
    def varies(self):
        return self.hidden or self.stepped

    @property
    def radio(self):
        return (self.varies or self.batched) and not self.orbit

    def within(self, rate=(0, float("inf")), rtt=(0, 150)):
        return (self.rate is None or rate[0] <= self.rate <= rate[1]) and rtt[0] <= self.rtt <= rtt[1]


@dataclass(frozen=True)
class Access:
    fits: object
    train: tuple
    held_out: tuple = ()


ANY = float("inf")
ACCESS = {
    "fibre": Access(lambda x: x.steady and x.within((20, ANY)), ("a fibre line", "fibre to the home"), ("an optical subscriber connection",)),
    "cable": Access(lambda x: not x.varies and x.within((10, 400), (8, 150)), ("a cable modem", "a cable TV network"), ("a coax subscription",)),
    "vdsl": Access(lambda x: x.steady and x.within((5, 100), (8, 150)), ("a VDSL line", "VDSL over a short loop"), ("street cabinet copper",)),
    "adsl": Access(lambda x: x.steady and x.within((0, 16), (10, 150)), ("an ADSL line", "old DSL"), ("a long copper phone pair",)),
    "lte": Access(lambda x: x.radio and x.within((0, 100), (18, 200)), ("an LTE uplink", "LTE"), ("4G mobile data",)),
    "5g": Access(lambda x: x.radio and x.within((20, ANY), (8, 150)), ("a 5G modem", "5G"), ("an NR cell",)),
    "satellite": Access(lambda x: x.orbit or x.within((0, 200), (110, ANY)), ("a satellite link", "satellite internet"), ("a dish to the sky",)),
    "wifi": Access(lambda x: x.radio and x.within((5, 300)), ("a Wi-Fi backhaul", "a Wi-Fi bridge"), ("wireless LAN between buildings",)),
    "leased": Access(lambda x: x.steady and x.within(), ("a leased line", "a business leased line"), ("a dedicated circuit",)),
    "ethernet": Access(lambda x: x.steady and x.within((10, ANY), (0, 100)), ("an Ethernet handoff", "metro Ethernet"), ("a switched city net",)),
}
UNSEEN_ACCESS = {
    "gpon": Access(lambda x: x.steady and x.within((20, ANY)), ("a GPON tree", "GPON")),
    "docsis31": Access(lambda x: not x.varies and x.within((20, ANY), (8, 150)), ("DOCSIS 3.1", "a DOCSIS 3.1 segment")),
    "fwa": Access(lambda x: not x.orbit and x.within((0, 400), (10, 150)), ("fixed wireless", "a fixed wireless terminal")),
    "microwave": Access(lambda x: not (x.orbit or x.batched) and x.within((0, 400)), ("a microwave hop", "a microwave relay")),
    "leo": Access(lambda x: x.orbit or (x.hidden and x.within((10, ANY), (20, 100))), ("a LEO constellation", "a low-orbit constellation")),
}

# Rates as people say them.
STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
RATE = {False: ("{} with about {} Mbit/s down", "{} at roughly {} Mbit/s"), True: ("{} giving some {} megabits", "{} near {} Mbps")}

# By held_out or not: how many; of what, to which several add an s; what has no number.
COUNT = {False: ("a single", "a couple of", "a few", "many"), True: ("just one", "two", "several", "lots of")}
FLOWS = {
    "l": {False: ("L4S download", "low-latency TCP flow"), True: ("scalable sender",)},
    "c": {False: ("ordinary download", "classic TCP flow"), True: ("legacy sender",)},
    "bbr": {False: ("BBR download",), True: ("BBR sender",)},
    "bulk": {False: ("download", "bulk transfer"), True: ("heavy file pull",)},
    "limited": {False: ("app-limited stream",), True: ("self-paced client",)},
    "video": {False: ("game stream", "live video feed"), True: ("cloud gaming session",)},
}
MASS = {
    "light_web": {False: ("light web browsing", "a little web use"), True: ("the odd page view",)},
    "heavy_web": {False: ("heavy web browsing", "plenty of web use"), True: ("constant page views",)},
    "calls": {False: ("calls", "voice calls"), True: ("telephony",)},
    "udp": {False: ("UDP that does not back off", "unresponsive UDP"), True: ("datagrams deaf to congestion",)},
    "bursts": {False: ("short bursts",), True: ("spiky machine data",)},
    "unknown": {False: ("an unknown mix", "unknown traffic"), True: ("who knows what",)},
}
MOSTLY = {False: "mostly", True: "mainly"}
CHANGING = {False: "coming and going", True: "varying by the minute"}
CC = {"prague": "l", "dctcp": "l", "cubic": "c", "reno": "c", "bbr": "bbr"}
BULK = ("l", "c", "bbr")

TRAIN_TEMPLATES = (
    "{access}, {traffic}; {goal}.", "This is {access}. It carries {traffic}. Please {goal}.",
    "Access: {access}. Traffic: {traffic}. Goal: {goal}.", "Goal: {goal}. Access: {access}. Traffic: {traffic}.",
    "We run {access} and see {traffic}. We want to {goal}.", "{goal}. The link is {access} and carries {traffic}.",
    "On {access} with {traffic}, {goal}.", "Our customers use {access} for {traffic}; {goal}.",
    "Behind this queue is {access}, used for {traffic}. Try to {goal}.",
    "The bottleneck is {access}. Expect {traffic}. The aim is to {goal}.",
    "Known traffic: {traffic}. Link: {access}. Task: {goal}.", "For {traffic} over {access}, {goal}.",
    "Site with {access}. Users bring {traffic}. Policy: {goal}.", "I have {access} here and expect {traffic}. You should {goal}.",
    "What matters is to {goal}. It is {access}, with {traffic}.", "The operator wants to {goal} on {access}; load is {traffic}.",
    "Edge router on {access}, typical load {traffic}; {goal}.", "Type {access}; load {traffic}; priority: {goal}.",
    "Most of the day {access} carries {traffic} here. Always {goal}.",
    "Please {goal}: this is {access} and people use it for {traffic}.",
    "Uplink is {access}, flows are {traffic}, intent is to {goal}.", "{traffic} on {access}. {goal}.", "{access}; {goal}.",
    "This link is {access}. {goal}.", "We operate {access}. Our goal is to {goal}.", "{goal}, on {access}.",
    "The line is {access}, so {goal}.", "Link type: {access}. What we ask: {goal}.",
    "Behind the box there is {access}. The wish is to {goal}.", "Please {goal}. The access is {access}.",
    "Traffic is {traffic}. {goal}.", "Load: {traffic}. Objective: {goal}.", "We see {traffic}; {goal}.",
    "Users run {traffic}. Please {goal}.", "{goal}. Usual traffic: {traffic}.", "With {traffic} in the queue, {goal}.",
    "Goal: {goal}.", "{goal}.", "We want to {goal}.", "Please {goal}.",
)  # fmt: skip
HELD_OUT_TEMPLATES = (
    "I need you to {goal}. Beneath lies {access}. Passing through: {traffic}.",
    "Hi, at our place you find {traffic} crossing {access}. Could you {goal}?",
    "Your job today is to {goal}, given {traffic} and {access} below.",
    "Mission statement: {goal}. Medium: {access}. Workload: {traffic}.",
    "Subscribers reach us through {access}, producing {traffic}. Management asks us to {goal}.",
    "Because of {traffic} across {access}, kindly {goal}.", "In everything, {goal}; bear in mind {access} plus {traffic}.",
    "A ticket says: {goal}! Customer connected by {access}, habits: {traffic}.", "Last mile: {access}. Be sure to {goal}.",
    "Connected via {access}, one would like to {goal}.", "Above all else {goal}, considering the medium: {access}.",
    "Workload consists of {traffic}. Make sure to {goal}.", "Given {traffic}, your duty is to {goal}.",
    "Nothing counts more here than to {goal}.", "Instruction from the network owner: {goal}.",
)  # fmt: skip


UNITS = {"bit": 1e-6, "kbit": 1e-3, "Kbit": 1e-3, "Mbit": 1.0, "Gbit": 1e3, "us": 1e-3, "ms": 1.0, "s": 1e3}


def _value(text):
    """Mbit/s or ms."""
    found = re.fullmatch(r"([0-9.]+)\s*([A-Za-z]+)", text)
    return float(found[1]) * UNITS[found[2]]


@lru_cache(maxsize=4096)
def _parsed(scenario):
    """(Link, {kind of traffic: most flows at a time, or load}, whether flows come and go)."""
    s = tomllib.loads(scenario)
    link, flows = s["link"], s["flow"]
    kind = (generator := link.get("generator", {})).get("kind")
    rates = [_value(x["rate"]) for x in (link, *link.get("steps", ())) if "rate" in x]
    if kind == "walk":
        rates = [(_value(generator["min"]) * _value(generator["max"])) ** 0.5]
    rates += [_value(generator[k]) for k in ("high", "good", "mean") if k in generator]
    rate = max(rates, default=None)
    truth = Link(
        rate,
        min((_value(f["rtt"]) for f in flows if "rtt" in f), default=0.0),
        hidden="trace" in link or (kind is not None and kind != "square"),
        stepped="steps" in link or kind == "square",
        batched=any(_value(f.get("aggregate", "0ms")) >= 2 for f in flows),
        orbit=kind == "starlink",
    )
    end = _value(s["duration"])
    spans = [(_value(f.get("start", "0ms")), _value(f["stop"]) if "stop" in f else end) for f in flows]
    seen = {}
    for now in sorted({begin for begin, _ in spans}):
        at = {}
        for f, (begin, stop) in zip(flows, spans, strict=True):
            if begin <= now < stop:
                name, amount = _kind(f, rate)
                for k in (name, "bulk") if name in BULK else (name,):
                    at[k] = at.get(k, 0) + amount
        seen = {k: max(seen.get(k, 0), at.get(k, 0)) for k in seen | at}
    warm = _value(s.get("warmup", "0ms"))
    return truth, seen, any(begin > warm or stop < end for begin, stop in spans)


def _kind(flow, rate):
    """(kind of traffic, number of flows or load) of a `[[flow]]`."""
    kind, count = flow.get("kind"), flow.get("count", 1)
    load = flow.get("load", _value(flow["rate"]) / rate if rate and "rate" in flow else 1.0)
    if kind is None:
        return ("limited" if "load" in flow or "rate" in flow else CC[flow["cc"]]), count
    if kind == "cbr":
        return ("udp" if load * count > 0.2 else "calls"), count
    return {"web": ("web", load * count), "video": ("video", count), "burst": ("bursts", count)}[kind]


def _pick(rng, options):
    return options[int(rng.integers(len(options)))]


def fitting(record, unseen=False):
    """Names of the access types that the link may be."""
    return [name for name, a in (UNSEEN_ACCESS if unseen else ACCESS).items() if a.fits(_parsed(record["scenario"])[0])]


def _access(record, rng, held_out, unseen):
    access = (UNSEEN_ACCESS if unseen else ACCESS)[_pick(rng, fitting(record, unseen))]
    words = _pick(rng, (access.held_out or access.train) if held_out else access.train)
    rate = _parsed(record["scenario"])[0].rate
    if rng.random() < 0.5 or not rate:
        return words
    return _pick(rng, RATE[held_out]).format(words, f"{rough(rate):g}")


def rough(rate):
    """The nearest of the rates that people say, by ratio."""
    return min((s * 10.0**e for e in range(-2, 5) for s in STEPS), key=lambda x: max(x / rate, rate / x))


def _traffic(record, rng, held_out):
    _, seen, changing = _parsed(record["scenario"])
    if rng.random() < 0.125 or not seen:
        return _pick(rng, MASS["unknown"][held_out])
    kinds = {k: seen[k] for k in BULK if k in seen}
    rest = {k: v for k, v in seen.items() if k not in (*BULK, "bulk")}
    if kinds and (len(kinds) + len(rest) > 3 or rng.random() < 0.5):
        kinds = {"bulk": seen["bulk"]}
    parts = []
    for kind, n in (kinds | rest).items():
        if kind in FLOWS:
            step = 0 if n == 1 else 1 if n == 2 else 2 if n < 7 else 3
            parts.append(f"{COUNT[held_out][step]} {_pick(rng, FLOWS[kind][held_out])}{'s' if step else ''}")
        else:
            parts.append(_pick(rng, MASS[("heavy_web" if n >= 0.2 else "light_web") if kind == "web" else kind][held_out]))
    text = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    if not kinds and len(parts) == 1 and "calls" in rest:
        text = f"{MOSTLY[held_out]} {text}"
    return f"{text} {CHANGING[held_out]}" if changing else text


def _filled(template, **words):
    text = template.format(**words)
    return re.sub(r"(^|[.!?] )([a-z])", lambda m: m[1] + m[2].upper(), text)


def draw(record, rng, goal=None, held_out=False, unseen=False):
    """(text, goal's name) for a record of values.records. Access types of `unseen` have the same words held out or not, and are
    in every text of links that may be one."""
    goal = GOALS[goal or _pick(rng, list(GOALS))]
    templates, known = HELD_OUT_TEMPLATES if held_out else TRAIN_TEMPLATES, bool(fitting(record, unseen))
    # Where no type fits, the text is silent about it; where the type is what is tested, it is there.
    template = _pick(rng, [t for t in templates if (known if "{access}" in t else not (known and unseen))])
    words = {"goal": _pick(rng, goal.held_out if held_out else goal.train)}
    if "{access}" in template:
        words["access"] = _access(record, rng, held_out, unseen)
    if "{traffic}" in template:
        words["traffic"] = _traffic(record, rng, held_out)
    return _filled(template, **words), goal.name


def neutral(goal="balanced"):
    """A text that says the goal alone."""
    return _filled("Goal: {goal}.", goal=GOALS[goal].train[0])


def shuffled(texts, rng):
    """Each text in the place of another."""
    order, out = rng.permutation(len(texts)), list(texts)
    for i, at in enumerate(order):
        out[at] = texts[order[i - 1]]
    return out
