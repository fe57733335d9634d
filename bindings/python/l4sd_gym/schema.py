"""The feature and action schema, ``models/schema.toml``, as Python sees it.

The same file, the same SHA-256, names, widths and bins as ``src/telemetry/features/schema.rs``; the file itself says
what its keys mean. Nothing is measured here: that is done in Rust, once for all.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
KNOBS = ("target", "gain", "ramp_min", "feed_forward")
NORMS = ("linear", "log1p", "ln")

_FILE_KEYS = {"version", "horizons_s", "raw_windows", "step_s", "signal", "action"}
_SIGNAL_KEYS = {"name", "unit", "meaning", "source", "norm", "scale", "clip", "over_s", "raw"}
_ACTION_KEYS = {"period_s", "knob"}
_KNOB_KEYS = {"name", "unit", "meaning", "default", "slew_s", "hold"}
_SPACED, _LISTED = {"least", "most", "bins"}, {"values"}


class SchemaError(ValueError):
    """The file is no schema that can be used, or not the one that was asked for."""


@dataclass(frozen=True)
class Signal:
    """A signal and how it becomes features."""

    name: str
    unit: str
    meaning: str
    source: str
    norm: str
    scale: float
    clip: float
    over_s: tuple[float, ...]
    raw: bool


@dataclass(frozen=True)
class Knob:
    """Something that may be set: rising values, and which of them is RFC 9332's."""

    name: str
    unit: str
    meaning: str
    values: tuple[float, ...]
    default: int
    slew_s: float
    hold: bool

    def nearest(self, value: float) -> int:
        """The bin whose value is nearest to ``value`` in the logarithm."""
        return _nearest(self.values, value)


def _nearest(values: tuple[float, ...] | list[float], value: float) -> int:
    return min(range(len(values)), key=lambda n: abs(math.log(values[n] / value)))


def _keys(table: dict[str, Any], required: set[str], where: str) -> None:
    for key in sorted(table.keys() - required):
        raise SchemaError(f"{where}: unknown key '{key}'; remove it")
    for key in sorted(required - table.keys()):
        raise SchemaError(f"{where}: '{key}' is missing")


def _positive(x: Any, where: str) -> float:
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not (0 < x < math.inf):
        raise SchemaError(f"{where} must be more than 0 and finite")
    return float(x)


@dataclass(frozen=True)
class Schema:
    """A schema. ``hash`` is the SHA-256 of the file in hex."""

    hash: str
    horizons_s: tuple[float, ...]
    raw_windows: int
    step_s: float
    signals: tuple[Signal, ...]
    knobs: tuple[Knob, ...]
    period_s: float

    @property
    def width(self) -> int:
        """Length of the feature vector."""
        return len(self.names)

    @property
    def names(self) -> list[str]:
        """Names of the features, in order."""
        names = []
        for s in self.signals:
            names.append(s.name)
            for seconds in s.over_s:
                names += [f"{s.name}.{of}_{seconds:g}s" for of in ("mean", "std")]
        for s in self.signals:
            if s.raw:
                names += [f"{s.name}.raw_{age}" for age in reversed(range(self.raw_windows))]
        return names

    @property
    def default_bins(self) -> tuple[int, ...]:
        """The bins of RFC 9332's parameters."""
        return tuple(k.default for k in self.knobs)

    def action(self, bins: tuple[int, ...] | list[int]) -> dict[str, float]:
        """The value of each knob for a choice of bins."""
        if len(bins) != len(self.knobs):
            raise SchemaError(f"{len(bins)} bins for {len(self.knobs)} knobs")
        for knob, n in zip(self.knobs, bins):
            if not 0 <= n < len(knob.values):
                raise SchemaError(f"knob '{knob.name}' has no bin {n}")
        return {k.name: k.values[n] for k, n in zip(self.knobs, bins)}

    def require(self, sha256: str) -> None:
        """Raises unless ``sha256`` (of a model, a record, a program) is that of this schema."""
        if sha256 != self.hash:
            raise SchemaError(
                f"made with feature schema {sha256}, but this one is {self.hash}; "
                "use the program and the files of one version"
            )

    @classmethod
    def load(cls, path: str | Path | None = None, sha256: str | None = None) -> Schema:
        """Reads a file: ``path``, else the copy in this package, else ``models/schema.toml`` of the source tree."""
        if path is None:
            here = Path(__file__).resolve()
            places = [here.parent / "schema.toml", here.parents[3] / "models" / "schema.toml"]
            path = next((p for p in places if p.is_file()), None)
            if path is None:
                raise SchemaError("schema.toml is not in the package; give its path")
        schema = cls.parse(Path(path).read_bytes(), str(path))
        if sha256 is not None:
            schema.require(sha256)
        return schema

    @classmethod
    def parse(cls, data: bytes, name: str = "schema.toml") -> Schema:
        """Reads the bytes of a file that errors call ``name``."""
        try:
            file = tomllib.loads(data.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SchemaError(f"{name}: {error}") from None
        _keys(file, _FILE_KEYS, name)
        if file["version"] != VERSION:
            raise SchemaError(f"{name}: version {file['version']} is not {VERSION}, which this program knows")
        horizons = [_positive(x, f"{name}: horizons_s") for x in file["horizons_s"]]
        if not horizons or any(a >= b for a, b in zip(horizons, horizons[1:])):
            raise SchemaError(f"{name}: horizons_s must rise from above 0")
        raw_windows = file["raw_windows"]
        if not isinstance(raw_windows, int) or not 1 <= raw_windows <= 1024:
            raise SchemaError(f"{name}: raw_windows must be 1 to 1024")
        signals: list[Signal] = []
        for table in file["signal"]:
            signals.append(_signal(table, horizons, {s.name for s in signals}, name))
        action = file["action"]
        _keys(action, _ACTION_KEYS, f"{name}: action")
        if [k.get("name") for k in action["knob"]] != list(KNOBS):
            raise SchemaError(f"{name}: the knobs are {', '.join(KNOBS)}, in this order")
        return cls(
            hash=hashlib.sha256(data).hexdigest(),
            horizons_s=tuple(horizons),
            raw_windows=raw_windows,
            step_s=_positive(file["step_s"], f"{name}: step_s"),
            signals=tuple(signals),
            knobs=tuple(_knob(table, name) for table in action["knob"]),
            period_s=_positive(action["period_s"], f"{name}: period_s"),
        )


def _signal(table: dict[str, Any], horizons: list[float], before: set[str], file: str) -> Signal:
    where = f"{file}: signal '{table.get('name')}'"
    _keys(table, _SIGNAL_KEYS, where)
    if table["name"] in before:
        raise SchemaError(f"{where} is there twice; remove one")
    if table["norm"] not in NORMS:
        raise SchemaError(f"{where}: norm is one of {', '.join(NORMS)}")
    over = table["over_s"]
    if [h for h in horizons if h in over] != over:
        raise SchemaError(f"{where}: over_s is not in horizons_s, or not in their order")
    if table["norm"] == "ln" and (over or table["raw"]):
        raise SchemaError(f"{where} with norm = \"ln\" has no horizons and no raw values")
    numbers = {key: _positive(table[key], f"{where}: {key}") for key in ("scale", "clip")}
    return Signal(**{**table, **numbers, "over_s": tuple(over)})


def _knob(table: dict[str, Any], file: str) -> Knob:
    where = f"{file}: knob '{table['name']}'"
    spaced = "values" not in table
    _keys(table, _KNOB_KEYS | (_SPACED if spaced else _LISTED), where)
    default = _positive(table["default"], f"{where}: default")
    if spaced:
        least, most, bins = table["least"], table["most"], table["bins"]
        if not (0 < least < most and 2 <= bins <= 1024):
            raise SchemaError(f"{where} needs least < most and 2 to 1024 bins, or else values")
        step = math.log(most / least) / (bins - 1)
        values = [least * math.exp(step * n) for n in range(bins - 1)] + [most]
    else:
        values = [_positive(v, f"{where}: values") for v in table["values"]]
    rising = all(a < b for a, b in zip(values, values[1:]))
    if not values or not rising or not values[0] <= default <= values[-1]:
        raise SchemaError(f"{where}: values must rise from above 0, with the default between them")
    bin_of_default = _nearest(values, default)
    values[bin_of_default] = default
    return Knob(
        name=table["name"],
        unit=table["unit"],
        meaning=table["meaning"],
        values=tuple(values),
        default=bin_of_default,
        slew_s=_positive(table["slew_s"], f"{where}: slew_s"),
        hold=table["hold"],
    )
