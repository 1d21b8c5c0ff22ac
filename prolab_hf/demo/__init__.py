"""The web page of `prolab demo`: a server on this machine, a page that loads nothing else, and a model behind them."""

from prolab_hf.demo.server import DemoServer, serve
from prolab_hf.demo.session import DemoSession

__all__ = ["DemoServer", "DemoSession", "serve"]
