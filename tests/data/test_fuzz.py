"""A few thousand damaged inputs: each is read, or refused in one sentence that names it.

`python benchmarks/fuzz_readers.py --rounds 20000` runs more of them and prints the counts.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[2] / "benchmarks" / "fuzz_readers.py"
_spec = importlib.util.spec_from_file_location("fuzz_readers", _FILE)
fuzz_readers = importlib.util.module_from_spec(_spec)
sys.modules["fuzz_readers"] = fuzz_readers  # dataclasses look their module up
_spec.loader.exec_module(fuzz_readers)


@pytest.mark.parametrize("reader", fuzz_readers.READERS)
def test_damaged_inputs_are_read_or_refused_by_name(tmp_path, reader):
    rounds = fuzz_readers.READERS[reader].rounds
    counts = fuzz_readers.fuzz(reader, tmp_path, rounds=rounds, seed=1)
    assert counts.total == rounds
    assert not counts.raw and not counts.unnamed and not counts.silent, counts.examples
