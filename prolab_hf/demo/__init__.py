"""The web page of `prolab demo`: a server on this machine, a page that loads nothing else, and models behind them."""

from prolab_hf.demo.app import demo_app
from prolab_hf.demo.demo_model import DemoModel
from prolab_hf.demo.server import DemoServer, serve
from prolab_hf.demo.session import DemoSession

__all__ = ["DemoModel", "DemoServer", "DemoSession", "demo_app", "serve"]
