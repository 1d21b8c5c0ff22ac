"""Who uses the page: a session for every visitor within a bound of memory, and whose turn at the model it is."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

import anyio.to_thread
from starlette.exceptions import HTTPException

from prolab_hf.demo.session import DemoSession

Answer = TypeVar("Answer")

MAX_VISITORS = 64
MAX_BYTES = 2**30
"""Of the images and edits of all visitors together."""


class Visitors:
    """Sessions by token. Who left nothing behind is forgotten first, then who was away for longest.

    So somebody who asks a thousand times without a token does not push out those who work here.

    Args:
        new_session: Makes a session for somebody new.
        max_visitors: How many sessions are kept.
        max_bytes: Of all sessions together; the present visitor's stays in any case.
    """

    def __init__(
        self,
        new_session: Callable[[], DemoSession],
        *,
        max_visitors: int = MAX_VISITORS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._new_session = new_session
        self.max_visitors, self.max_bytes = max_visitors, max_bytes
        self._sessions: OrderedDict[str, DemoSession] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def nbytes(self) -> int:
        """Bytes that the sessions hold."""
        return sum(session.nbytes for session in self._sessions.values())

    def session(self, token: str | None) -> tuple[str, DemoSession]:
        """The session of a visitor, a new one for who comes without a token or with one that is not known.

        Args:
            token: What the visitor was given before.

        Returns:
            The token to come back with, and the session.
        """
        if token is None or token not in self._sessions:
            token = secrets.token_hex(16)
            self._sessions[token] = self._new_session()
        self._sessions.move_to_end(token)
        while len(self) > 1 and (len(self) > self.max_visitors or self.nbytes > self.max_bytes):
            others = [one for one in self._sessions if one != token]
            del self._sessions[next((one for one in others if self._sessions[one].is_untouched), others[0])]
        return token, self._sessions[token]


class WorkQueue:
    """Work for the model, one piece at a time in a thread of its own.

    Each visitor waits in a row of their own and the first of each row in a common one, so that whoever asks much
    keeps nobody waiting for more than one piece.

    Args:
        max_waiting: Pieces that wait in the common row.
        max_per_visitor: Pieces that wait in the row of one visitor.
    """

    def __init__(self, *, max_waiting: int = 64, max_per_visitor: int = 8) -> None:
        self.max_waiting, self.max_per_visitor = max_waiting, max_per_visitor
        self._common = anyio.CapacityLimiter(1)
        self._rows: WeakValueDictionary[str, anyio.CapacityLimiter] = WeakValueDictionary()

    async def run(self, visitor: str, work: Callable[[], Answer]) -> Answer:
        """What `work` returns.

        Args:
            visitor: Whose work it is.
            work: Called in a thread.

        Raises:
            HTTPException: 503 if too much is waiting.
        """
        row = self._rows.setdefault(visitor, anyio.CapacityLimiter(1))
        limits = ((row, self.max_per_visitor), (self._common, self.max_waiting))
        if any(limiter.statistics().tasks_waiting >= most for limiter, most in limits):
            raise HTTPException(503, "Too much is being asked at once; try again.", {"Retry-After": "2"})
        async with row:
            return await anyio.to_thread.run_sync(work, limiter=self._common)


__all__ = ["Visitors", "WorkQueue"]
