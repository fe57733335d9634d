"""The Python twin of the feature schema. Runs with pytest, or by itself: ``python test_schema.py``.

``schema.py`` is loaded by its path, so that neither the package nor its compiled part need be there.
"""

import hashlib
import importlib.util
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE.parents[2] / "models" / "schema.toml"
_spec = importlib.util.spec_from_file_location("l4sd_schema", HERE.parent / "l4sd_gym" / "schema.py")
schema = importlib.util.module_from_spec(_spec)
sys.modules["l4sd_schema"] = schema
_spec.loader.exec_module(schema)

DATA = FILE.read_bytes()


def refused(data: bytes, part: str) -> None:
    try:
        schema.Schema.parse(data)
    except schema.SchemaError as error:
        assert part in str(error), error
    else:
        raise AssertionError(f"accepted, expected: {part}")


def test_hash_names_and_width() -> None:
    s = schema.Schema.load(FILE)
    assert s.hash == hashlib.sha256(DATA).hexdigest()
    # The width that src/telemetry/features says; its test holds both to it.
    assert s.width == len(s.names) == len(set(s.names)) == 388
    assert len(s.signals) == 54
    assert s.names[0] == "dt" and s.names[-1] == "arrival_c.raw_0"
    assert "delay_mean_c.std_0.064s" in s.names and "delay_mean_c.mean_4s" in s.names
    assert schema.Schema.load() == s


def test_defaults_are_among_the_bins() -> None:
    s = schema.Schema.load(FILE)
    assert s.default_bins == (9, 2, 4, 2)
    rfc = {"target": 0.015, "gain": 1.0, "ramp_min": 0.0008, "feed_forward": 1.0}
    assert s.action(s.default_bins) == rfc
    assert abs(s.knobs[0].values[8] * 1e3 - 10.3926) < 1e-3
    assert s.knobs[0].nearest(0.0142) == 9


def test_a_changed_byte_is_another_schema() -> None:
    s, other = schema.Schema.load(FILE), schema.Schema.parse(DATA + b"#")
    assert other.hash != s.hash and other.names == s.names
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        Path(file.name).write_bytes(DATA + b"#")
        try:
            schema.Schema.load(file.name, sha256=s.hash)
        except schema.SchemaError as error:
            assert s.hash in str(error) and other.hash in str(error)
        else:
            raise AssertionError("a mismatch was accepted")


def test_faults_are_named() -> None:
    for old, new, part in [
        (b"version = 1", b"version = 0", "version 0 is not 1"),
        (b'name = "idle"', b'name = "dt"', "there twice"),
        (b'name = "idle"', b'name = "idle"\ncolour = 1', "unknown key 'colour'"),
        (b'unit = "s"\n', b"", "'unit' is missing"),
        (b'name = "gain"', b'name = "target"', "in this order"),
        (b'norm = "ln"', b'norm = "log"', "norm is one of"),
        (b"horizons_s = [0.064", b"horizons_s = [0.7", "must rise"),
    ]:
        refused(DATA.replace(old, new, 1), part)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: ok")
