"""What the demo answers at each address: reads the request, asks the visitor's session in its turn, sends JSON."""

import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import anyio
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from prolab_hf.demo.downloads import Attachment
from prolab_hf.demo.fields import read_arguments
from prolab_hf.demo.gallery import ImageGoneError
from prolab_hf.demo.session import DemoSession
from prolab_hf.demo.uploads import MAX_UPLOAD_BYTES

logger = logging.getLogger(__name__)

MAX_JSON_BYTES = 64 * 2**10
BODY_SECONDS = 60.0
"""For a whole body, however many pieces it comes in."""
MAX_HELD_BYTES = 8 * MAX_UPLOAD_BYTES
"""Of bodies in memory, of all requests together; what would exceed it is refused."""

Answer: TypeAlias = dict[str, Any] | Attachment

QUESTIONS: dict[str, Callable[..., Answer]] = {
    "state": DemoSession.state,
    "sample": DemoSession.add_sample,
    "image": DemoSession.shown,
    "forget": DemoSession.remove_image,
    "result": DemoSession.result,
    "explain": DemoSession.explain,
    "intervene": DemoSession.intervene,
    "property": DemoSession.property_map,
    "download": DemoSession.download,
    "edit": DemoSession.edit,
    "preview": DemoSession.preview,
    "edited": DemoSession.edited_model,
}
"""What can be asked with a JSON object, by the last part of the address."""


async def _asked(request: Request, question: Callable[[DemoSession], Answer]) -> Response:
    """What the visitor's session answers, in its turn."""
    state = request.app.state
    token, session = state.visitors.session(request.session.get("token"))
    request.session["token"] = token
    try:
        answer = await state.queue.run(token, lambda: question(session))
    except ImageGoneError as error:
        raise HTTPException(410, str(error)) from error
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise HTTPException(400, _one_line(error)) from error
    except HTTPException:
        raise
    except Exception as error:
        logger.exception("the demo could not answer %s", request.url.path)
        raise HTTPException(500, _failure(error)) from error
    if isinstance(answer, Attachment):
        headers = {"Content-Disposition": f'attachment; filename="{answer.name}"'}
        if isinstance(answer.content, Path):
            gone = BackgroundTask(shutil.rmtree, answer.content.parent, ignore_errors=True)
            return FileResponse(answer.content, media_type=answer.kind, headers=headers, background=gone)
        return Response(answer.content, media_type=answer.kind, headers=headers)
    return JSONResponse(answer)


async def _body(request: Request) -> bytes:
    """The body, counted as it comes: a slow sender holds little memory and no place, and is ended."""
    state, parts, own = request.app.state, [], 0
    try:
        with anyio.fail_after(BODY_SECONDS):
            async for part in request.stream():
                if state.held_bytes + len(part) > MAX_HELD_BYTES:
                    raise HTTPException(
                        503, "Too much is being sent at once; try again.", {"Retry-After": "5"}
                    )
                state.held_bytes += len(part)
                own += len(part)
                parts.append(part)
    except TimeoutError:
        message = f"The content did not arrive within {BODY_SECONDS:g} seconds; send it again."
        raise HTTPException(408, message, {"Connection": "close"}) from None
    finally:
        state.held_bytes -= own
    return b"".join(parts)


def _require_type(request: Request, *kinds: str) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith(kinds):
        raise HTTPException(415, f"The content must be {' or '.join(kinds)}.")


async def _upload(request: Request) -> Response:
    _require_type(request, "image/", "application/octet-stream")
    content = await _body(request)
    name = " ".join(unquote(request.headers.get("x-file-name", "")).split())[:120]  # to be read, never opened
    return await _asked(request, lambda session: session.add_upload(content, name))


def _endpoint(question: Callable[..., Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        _require_type(request, "application/json")
        arguments = read_arguments(question, await _body(request))
        return await _asked(request, lambda session: question(session, **arguments))

    return answer


API = [
    Route("/api/upload", _upload, methods=["POST"], max_body_size=MAX_UPLOAD_BYTES),
    *(
        Route(f"/api/{name}", _endpoint(question), methods=["POST"], max_body_size=MAX_JSON_BYTES)
        for name, question in QUESTIONS.items()
    ),
]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _failure(error: Exception) -> str:
    if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
        return "The image does not fit into memory; use a smaller one, or start the demo with --max-side."
    return f"The model failed: {_one_line(error)[:300]}"


__all__ = ["API"]
