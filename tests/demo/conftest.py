"""The tiny models of the explanation's tests, and visitors of a page that shows one."""

import importlib.util
import sys
from pathlib import Path

import pytest

from prolab_hf.demo import DemoModel, demo_app

sys.path.insert(0, str(Path(__file__).parent))
from page_visitors import Visitor

_FILE = Path(__file__).resolve().parents[1] / "explanation" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("explanation_fixtures", _FILE)
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
make_model, processor, image = _FIXTURES.make_model, _FIXTURES.processor, _FIXTURES.image
solved, scenes_processor = _FIXTURES.solved, _FIXTURES.scenes_processor


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def app(model, processor):
    return demo_app([DemoModel(model, processor, name="tiny")], hosts=["localhost"])


@pytest.fixture
def visitor(app):
    return Visitor(app)


@pytest.fixture(scope="module")
def refusing(make_model, processor):
    """A visitor whose requests are all refused, so that one application serves them."""
    return Visitor(demo_app([DemoModel(make_model(), processor)], hosts=["localhost"]))
