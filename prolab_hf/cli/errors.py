"""Every error of a command as one line and an exit code: the only place where errors of the Hub's client are worded."""

import errno
import sys

# What a user can mend: bad values, paths and missing extras. Everything else is our failure or the machine's.
USER_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
    ImportError,
)
MISTAKE, FAILURE = 2, 1
_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3")


def explained(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code: 2 for a user's mistake, 1 for a failure.

    Args:
        error: The error that ended the command.
    """
    if hasattr(error, "format_message"):
        return _usage(error), MISTAKE
    # Nothing of the Hub can have gone wrong where its client is not loaded.
    hub = _hub_error(error) if "huggingface_hub.errors" in sys.modules else None
    if hub is not None:
        return hub
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full: {error}. Free some space and run the same command again.", FAILURE
    if isinstance(error, USER_ERRORS):
        return one_line(error), MISTAKE
    # A wrong model id comes as an OSError without a number.
    is_mistake = isinstance(error, OSError) and error.errno is None
    return one_line(error), MISTAKE if is_mistake else FAILURE


def one_line(error: object) -> str:
    """The text of an error without line breaks, or the name of its class where it has none.

    Args:
        error: The error.
    """
    return " ".join(str(error).split()) or type(error).__name__


def _usage(error: Exception) -> str:
    """A wrong word on the command line (typer and click have a class each for it), and where to read on."""
    text = " ".join(str(getattr(error, "format_message")()).split()).rstrip(".")  # noqa: B009
    command = getattr(getattr(error, "ctx", None), "command_path", None) or "prolab"
    return f"{text or 'Name a command'}. See `{command} --help`."  # without any word the help was shown


def _hub_error(error: Exception) -> tuple[str, int] | None:
    """An error of the Hub's client, or `None` where it is another one."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        StrictDataclassError,
    )

    text = one_line(error)
    if isinstance(error, StrictDataclassError):
        return text, MISTAKE
    if isinstance(error, HFValidationError):
        return f"That is no valid repository id (owner/name): {text}", MISTAKE
    if isinstance(error, OfflineModeIsEnabled) and not constants.HF_HUB_OFFLINE:
        return f"{text} {_AGAIN}", FAILURE
    if isinstance(error, OfflineModeIsEnabled):
        return f"The Hub cannot be reached in offline mode: unset HF_HUB_OFFLINE ({text}).", MISTAKE
    if isinstance(error, LocalTokenNotFoundError):
        return _NO_TOKEN, MISTAKE
    if isinstance(error, HfHubHTTPError) and (refused := _refusal(error)) is not None:
        return refused, MISTAKE
    if isinstance(error, HfHubHTTPError) or (_is_of_client(error) and not isinstance(error, USER_ERRORS)):
        return (
            f"The Hub could not be reached, or the exchange broke off ({_causes(error)}). {_AGAIN}",
            FAILURE,
        )
    if isinstance(error, RuntimeError) and _is_of_client(error.__cause__):
        # The client wraps what happens to a single file, and names the file.
        return f"The exchange with the Hub broke off ({_causes(error)}). {_AGAIN}", FAILURE
    return None


def _refusal(error: Exception) -> str | None:
    """What the Hub does not allow, or `None` where it failed itself."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) and not _has_token():
        return _NO_TOKEN
    text = one_line(error)
    if isinstance(error, GatedRepoError):
        return f"The repository is gated: ask its owner for access first ({text})."
    if isinstance(error, RepositoryNotFoundError):
        return f"The repository does not exist or your token may not see it: {text}"
    if status in (401, 403):
        return f"The Hub refused this (status {status}): the token may not do that ({text})."
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return f"The Hub refused this (status {status}): {text}"
    return None


_AGAIN = "Nothing was committed; run the same command again."
_NO_TOKEN = "There is no Hub token: log in with `hf auth login`, or set HF_TOKEN."


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _is_of_client(error: BaseException | None) -> bool:
    """Whether it comes from the HTTP client, whose package varies with huggingface_hub."""
    if error is None:
        return False
    modules = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(modules & set(_CLIENTS)) or "huggingface_hub" in modules


def _causes(error: Exception) -> str:
    # The client names the file, its cause says what happened to it.
    return " ".join(dict.fromkeys(one_line(cause) for cause in (error, error.__cause__) if cause is not None))
