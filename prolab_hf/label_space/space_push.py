"""Upload of a saved property space to the Hub, with errors a person can act on."""

from pathlib import Path
from typing import Any

from prolab_hf.label_space.space_files import CARD_NAME, JSON_NAME, TENSORS_NAME


def push_folder(
    folder: Path,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> str:
    """Uploads the files of a space in one commit; a model's README.md in the same repository is left alone.

    Args:
        folder: A folder written by `save_pretrained`.
        repo_id: `owner/name`; made if absent.
        commit_message: Title of the commit.
        private: Whether a newly made repository is private.
        revision: Branch to commit to; made if absent.
        create_pr: Whether to open a pull request instead of committing.
        token: Hub token.

    Returns:
        Address of the pull request or of the commit.

    Raises:
        PermissionError: No token, or one that may not write there.
        ValueError: The repository id is malformed.
        RuntimeError: The Hub could not be reached or refused for another reason.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = HfApi(token=token)
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not create_pr:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        names = [JSON_NAME, TENSORS_NAME]
        if not api.file_exists(repo_id, "config.json"):
            names.append(CARD_NAME)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            allow_patterns=names,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except HFValidationError as error:
        raise ValueError(f"{repo_id!r} is no valid repository id (owner/name): {_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise PermissionError("No Hub token: log in with `hf auth login` or pass token=.") from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            raise PermissionError(
                f"The Hub refused the upload to {repo_id!r} (status {status}): check that the token may "
                "write there."
            ) from error
        raise RuntimeError(f"The upload to {repo_id!r} failed: {_line(error)}") from error
    except Exception as error:  # the HTTP client's own errors, whose package varies with huggingface_hub
        raise RuntimeError(f"The Hub could not be reached for {repo_id!r}: {_line(error)}") from error
    return str(commit.pr_url or commit.commit_url)


def _line(error: Any) -> str:
    return " ".join(str(error).split())
