"""The demo as a web application: its addresses, its limits, and whom it answers.

Images and names come from outside, and any page in the visitor's browser can talk to a local port. So: no path from a
request reaches the disk, bodies are limited and have a deadline, and requests of other pages are refused.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prolab_hf.demo.demo_model import DemoModel
from prolab_hf.demo.endpoints import API
from prolab_hf.demo.session import DemoSession
from prolab_hf.demo.visitors import Visitors, WorkQueue

NOBODY = "'none'"
PAGE = Path(__file__).parent / "page"


def demo_app(
    models: Sequence[DemoModel],
    *,
    max_side: int = 1024,
    hosts: Sequence[str] = ("*",),
    cookie: str = "prolab_demo",
    embed_in: str = "",
    visitors: Visitors | None = None,
    queue: WorkQueue | None = None,
) -> Starlette:
    """The demo of some models as an ASGI application.

    Args:
        models: What the page shows.
        max_side: Larger images are shown reduced to this many pixels on their longer side.
        hosts: Host names that requests may name; `"*"` allows all.
        cookie: Name of the session's cookie; several demos on one host need different ones.
        embed_in: Origin of a site that may show the page in a frame.
        visitors: Sessions; by default with the usual limits.
        queue: Work; by default with the usual limits.
    """
    site = (
        {"same_site": "none", "https_only": True, "partitioned": True}
        if embed_in
        else {"same_site": "strict"}
    )
    app = Starlette(
        routes=[
            Route("/", lambda request: FileResponse(PAGE / "page.html", media_type="text/html")),
            Mount("/page", StaticFiles(directory=PAGE)),
            *API,
        ],
        middleware=[
            Middleware(Guard, embed_in=embed_in),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            # For as long as the browser runs, out of reach of scripts and other sites.
            Middleware(
                SessionMiddleware, secret_key=secrets.token_hex(), session_cookie=cookie, max_age=None, **site
            ),
        ],
        exception_handlers={HTTPException: _answer_error},
    )
    app.router.redirect_slashes = False
    if visitors is None:
        visitors = Visitors(lambda: DemoSession(models, max_side=max_side))
    app.state.visitors = visitors
    app.state.queue = WorkQueue() if queue is None else queue
    app.state.held_bytes = 0
    return app


class Guard:
    """Tells the browser what it may do with answers, and refuses what other web pages in the same browser send.

    An answer may load nothing else, be shown in no frame and not be kept. A link from elsewhere may open the page.

    Args:
        app: What answers.
        embed_in: Origin of a site that may show the page in a frame.
    """

    def __init__(self, app: ASGIApp, embed_in: str = "") -> None:
        self.app = app
        self.headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self'; "
                f"base-uri 'none'; form-action 'none'; frame-ancestors {embed_in or NOBODY}"
            ),
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        } | ({} if embed_in else {"X-Frame-Options": "DENY"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        app = FOREIGN if _is_foreign(scope) else self.app
        await app(scope, receive, send_safely)


FOREIGN = JSONResponse({"error": "Requests of other web pages are not answered."}, 403)


def _is_foreign(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None:
        return origin is not None and _netloc(origin) != headers.get("host")
    followed = (
        scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
    )
    return site not in ("same-origin", "none") and not followed


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


async def _answer_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for these
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


__all__ = ["demo_app"]
