"""Upload of a folder to the Hub in one commit, with errors a person can act on."""

from pathlib import Path
from typing import Any


def upload_folder(
    folder: Path,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
    card: str | None = None,
) -> str:
    """Uploads a folder to a model repository in one commit.

    Args:
        folder: The folder.
        repo_id: `owner/name`; made if absent.
        commit_message: Title of the commit.
        private: Whether a newly made repository is private.
        revision: Branch to commit to; made if absent.
        create_pr: Whether to open a pull request instead of committing.
        token: Hub token; `None` takes the one that is logged in, `False` none.
        card: A file that stays here where the repository holds a model, whose own card it would replace.

    Returns:
        Address of the pull request or of the commit.

    Raises:
        PermissionError: No token, or one that may not write there.
        ValueError: The repository id is malformed, or an option contradicts another or the repository.
        RuntimeError: The Hub could not be reached, or broke off; nothing was committed.
    """
    from huggingface_hub import HfApi

    if create_pr and revision is not None:
        raise ValueError(
            f"A pull request always goes to the default branch: leave out the revision ({revision!r}), or commit "
            "to that branch without a pull request."
        )
    api = HfApi(token=token)
    step = "make or find"
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        is_public = bool(private) and not api.repo_info(repo_id).private
        if not is_public:
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            keeps_card = card is not None and api.file_exists(repo_id, "config.json")
            step = "upload to"
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                ignore_patterns=card if keeps_card else None,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
            )
    except Exception as error:  # the HTTP client's own errors, too, whose package varies with huggingface_hub
        raise _explained(error, repo_id, step, has_token=_has_token(token)) from error
    if is_public:
        raise ValueError(
            f"{repo_id!r} exists and is public, so nothing was uploaded: private repositories are made by "
            "their first upload. Choose another name, or make this one private in its settings on the Hub."
        )
    return str(commit.pr_url or commit.commit_url)


def _has_token(token: str | bool | None) -> bool:
    from huggingface_hub import get_token

    return bool(token) if token is not None else get_token() is not None


def _explained(error: Exception, repo_id: str, step: str, *, has_token: bool) -> Exception:
    """The error that says in one line what happened and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    refused = isinstance(error, HfHubHTTPError) and status in (401, 403)
    if isinstance(error, HFValidationError):
        return ValueError(f"{repo_id!r} is no valid repository id (owner/name): {_line(error)}")
    if isinstance(error, OfflineModeIsEnabled):
        return ValueError("The Hub cannot be reached in offline mode: unset HF_HUB_OFFLINE.")
    if isinstance(error, LocalTokenNotFoundError) or (refused and not has_token):
        return PermissionError(
            f"There is no Hub token, so nothing was uploaded to {repo_id!r}: log in with `hf auth login`, "
            "or set HF_TOKEN."
        )
    if isinstance(error, GatedRepoError):
        return PermissionError(f"{repo_id!r} is gated: ask its owner for access first.")
    if isinstance(error, RepositoryNotFoundError):
        return PermissionError(
            f"{repo_id!r} does not exist or your token may not see it; check the name and the token."
        )
    if refused:
        return PermissionError(
            f"The Hub refused the upload to {repo_id!r} (status {status}): the token may not write there."
        )
    if isinstance(error, HfHubHTTPError) or step == "upload to":
        what = f"The upload to {repo_id!r} broke off"
    else:
        what = f"The Hub could not be reached for {repo_id!r}"
    # huggingface_hub names the file, its cause says what happened to it.
    causes = dict.fromkeys(_line(cause) for cause in (error, error.__cause__) if cause is not None)
    return RuntimeError(f"{what} ({' '.join(causes)}). Nothing was committed; push again.")


def _line(error: Any) -> str:
    return " ".join(str(error).split())
