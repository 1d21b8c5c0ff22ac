"""The tiny model of the explanation's tests."""

import importlib.util
from pathlib import Path

_FILE = Path(__file__).resolve().parents[1] / "explanation" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("explanation_fixtures", _FILE)
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
make_model, processor, image = _FIXTURES.make_model, _FIXTURES.processor, _FIXTURES.image
