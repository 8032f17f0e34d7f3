"""Uploading an export to the Hugging Face Hub, or to what HF_ENDPOINT names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from readwrite_edit.adapter.save import METADATA
from readwrite_edit.errors import ExportError

_COMMIT = "Upload with readwrite-edit"
_REFUSALS = {
    401: "the token was refused: run `hf auth login`, or set HF_TOKEN to a valid one",
    403: "the token may not write there: use one with write access, or another owner",
    404: "no such repository, or the token may not see it: check the owner's name and the token's rights",
}


def check_upload(repo_id: str) -> None:
    """Check what can be known before anything is written or sent.

    Raises:
        ExportError: The name is no repository's, there is no token, or the Hub is switched off.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ExportError(f"{repo_id!r} is no repository name ({_first_line(error)}): expected owner/name") from error
    if repo_id.count("/") != 1:
        raise ExportError(f"{repo_id!r} is no repository name: expected owner/name")
    if constants.HF_HUB_OFFLINE:
        raise ExportError(f"{repo_id}: HF_HUB_OFFLINE is set: unset it to upload")
    if not get_token():
        raise ExportError(f"{repo_id}: no Hub token found: run `hf auth login`, or set HF_TOKEN")


def push(folder: Path, repo_id: str, private: bool = False, revision: str | None = None) -> str:
    """Upload an export in one commit; the repository is made where it does not exist.

    Args:
        folder: Folder that ``export_run`` wrote.
        repo_id: ``owner/name``.
        private: Make the repository private. One that exists and is public is
            refused: its visibility is not this function's to change.
        revision: Branch to commit to, made where it does not exist; the default branch if None.

    Returns:
        Address of the repository.

    Raises:
        ExportError: Not an export, no token, no network, or the Hub refuses.
    """
    check_upload(repo_id)
    if not (folder / METADATA).is_file():
        raise ExportError(f"{folder} is not an export (no {METADATA}): write one with readwrite-edit export first")
    api = HfApi()
    with _reported(folder, repo_id, api.endpoint):
        api.create_repo(repo_id, private=private or None, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ExportError(f"{repo_id} exists and is public: make it private on the Hub, or drop --private")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repo_id, revision=revision, commit_message=_COMMIT)
    return f"{api.endpoint}/{repo_id}"


@contextmanager
def _reported(folder: Path, repo_id: str, endpoint: str) -> Iterator[None]:
    try:
        yield
    except ExportError:
        raise
    except OfflineModeIsEnabled as error:
        raise ExportError(f"{repo_id}: HF_HUB_OFFLINE is set: unset it to upload") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        reason = _REFUSALS.get(status) or f"{_first_line(error)}: try again later"
        raise ExportError(
            f"{repo_id} was not uploaded, {endpoint} answered {status}: {reason}; {_kept(folder)}"
        ) from error
    except Exception as error:  # whatever the HTTP or storage client raises: its kinds change between releases
        reason = _first_line(error)
        hint = " (HF_HUB_DISABLE_XET=1 for one without xet)" if "xet" in reason else ""
        raise ExportError(
            f"{repo_id} was not uploaded to {endpoint} ({type(error).__name__}: {reason}):"
            f" check the network and HF_ENDPOINT{hint}, then push again; {_kept(folder)}"
        ) from error


def _kept(folder: Path) -> str:
    return f"{folder} is whole and stays"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
