"""Models on the Hugging Face Hub: the files that are needed, and nothing that could run.

One request with a time limit tells whether the Hub answers; if not, only its
cache is looked at. Left to themselves, the download functions retry for minutes,
and ``snapshot_download`` waits for ever for a server that accepts and stays silent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, errors, hf_hub_download

from readwrite_edit.errors import ModelError
from readwrite_edit.models.folder import INDEX, PICKLED, SINGLE, shard_files
from readwrite_edit.models.source import ModelSource

_TEXT_FILES = (".json", ".txt", ".model", ".jinja")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_TIMEOUT_S = 10.0
_log = logging.getLogger(__name__)


def fetch_description(source: ModelSource) -> Path:
    """Download configuration and tokenizer of a model, or find them in the Hub's cache.

    Returns:
        The folder of this revision in the cache; its name is the commit.

    Raises:
        ModelError: No such repository or revision, no access, or no connection.
    """
    with _reported(source):
        return _fetch_description(source)[0]


def fetch_model(source: ModelSource) -> Path:
    """Download configuration, tokenizer and safetensors of a model, or find them in the Hub's cache.

    Pickled weights and code are never downloaded.
    """
    with _reported(source):
        folder, names, online = _fetch_description(source)
        if SINGLE not in names and INDEX not in names:
            raise ModelError(f"{source}: {_why_no_weights(names)}")
        for name in [SINGLE] if SINGLE in names else shard_files(folder / INDEX):
            _download(source, name, folder.name, online)
    return folder


def fetch_adapter(source: ModelSource) -> Path | None:
    """Download an adapter's two files, or find them in the Hub's cache.

    Returns:
        Their folder in the cache; None where the repository holds no adapter.

    Raises:
        ModelError: No such repository or revision, no access, or no connection and nothing in the cache.
    """
    with _reported(source):
        names = _listing(source)
        try:
            if names is not None and _ADAPTER[0] not in names:
                return None
            folder = _download(source, _ADAPTER[0], source.revision, names is not None).parent
        except errors.LocalEntryNotFoundError:
            return None
        for name in _ADAPTER[1:]:
            _download(source, name, folder.name, names is not None)
    return folder


def _fetch_description(source: ModelSource) -> tuple[Path, list[str], bool]:
    """Folder in the cache, names of the repository's files, and whether the Hub answers."""
    listed = _listing(source)
    online = listed is not None
    folder = _download(source, "config.json", source.revision, online).parent
    names = sorted(path.name for path in folder.iterdir()) if listed is None else listed
    for name in names:
        if name.endswith(_TEXT_FILES) and "/" not in name:
            _download(source, name, folder.name, online)
    return folder, names, online


def _listing(source: ModelSource) -> list[str] | None:
    """Names of the repository's files; None where the Hub does not answer."""
    try:
        info = HfApi().model_info(source.location, revision=source.revision, timeout=_TIMEOUT_S)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except Exception as error:  # no connection, by whatever name; what the cache lacks is reported from there
        _log.info("%s: only the Hub's cache (%s)", source, error)
        return None
    return sorted(file.rfilename for file in info.siblings or [])


def _download(source: ModelSource, name: str, revision: str | None, online: bool) -> Path:
    return Path(hf_hub_download(source.location, name, revision=revision, local_files_only=not online))


def _why_no_weights(names: list[str]) -> str:
    pickled = [name for name in names if name.endswith(PICKLED)]
    if pickled:
        return f"only pickled weights ({pickled[0]}), which can run code and are never loaded; use a converted copy"
    return f"no safetensors weights here ({SINGLE} or {INDEX})"


@contextmanager
def _reported(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except errors.GatedRepoError as error:
        raise ModelError(f"{source}: access is gated; accept its terms on the Hub, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{source}: no such folder and no such Hub repository (or private: `hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{source}: the repository has no revision {source.revision!r}") from error
    except errors.RemoteEntryNotFoundError as error:
        raise ModelError(f"{source}: the repository has no config.json; expected a transformers model") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"{source}: no such folder, not in the Hub's cache, and the Hub can not be reached (network, or "
            "HF_HUB_OFFLINE set); connect, or name a local folder, or use bundled:smollm2-135m-instruct"
        ) from error
    except Exception as error:  # whatever the HTTP client raises: its kinds change between releases
        raise ModelError(f"{source}: the download failed ({_first_line(error)}); run again to go on with it") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
