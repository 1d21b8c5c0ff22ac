"""Upload of a folder to the Hub in one commit; the errors of its client come as they are."""

from pathlib import Path


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
    space_sdk: str | None = None,
) -> str:
    """Uploads a folder to a model repository, or to a Space, in one commit.

    Args:
        folder: The folder.
        repo_id: `owner/name`; made if absent.
        commit_message: Title of the commit.
        private: Whether a newly made repository is private.
        revision: Branch to commit to; made if absent.
        create_pr: Whether to open a pull request instead of committing.
        token: Hub token; `None` takes the one that is logged in, `False` none.
        space_sdk: What runs the Space that the folder goes to (`"docker"`); `None` for a model repository.
        card: A file that stays here where the repository holds a model, whose own card it would replace.

    Returns:
        Address of the pull request or of the commit.

    Raises:
        ValueError: An option contradicts another or the repository (`private` of a public one).
        huggingface_hub.errors.HfHubHTTPError: The Hub refused; nothing was committed. Its client's other errors
            (malformed id, no token, offline, no connection) come as they are, too.
    """
    from huggingface_hub import HfApi

    if create_pr and revision is not None:
        raise ValueError(
            f"A pull request always goes to the default branch: leave out the revision ({revision!r}), or commit "
            "to that branch without a pull request."
        )
    api = HfApi(token=token)
    kind = "model" if space_sdk is None else "space"
    repo_id = api.create_repo(
        repo_id, private=private, exist_ok=True, repo_type=kind, space_sdk=space_sdk
    ).repo_id
    if private and not api.repo_info(repo_id, repo_type=kind).private:
        raise ValueError(
            f"{repo_id!r} exists and is public, so nothing was uploaded: private repositories are made by "
            "their first upload. Choose another name, or make this one private in its settings on the Hub."
        )
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True, repo_type=kind)
    keeps_card = card is not None and api.file_exists(repo_id, "config.json")
    commit = api.upload_folder(
        repo_id=repo_id,
        repo_type=kind,
        folder_path=folder,
        ignore_patterns=card if keeps_card else None,
        commit_message=commit_message,
        revision=revision,
        create_pr=create_pr,
    )
    return str(commit.pr_url or commit.commit_url)
