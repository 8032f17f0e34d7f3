"""Models on the Hugging Face Hub: the files that are needed, and nothing that could run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import errors, snapshot_download

from readwrite_edit.errors import ModelError
from readwrite_edit.models.folder import INDEX, SINGLE, shard_files
from readwrite_edit.models.source import ModelSource

_TEXT_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]


def fetch_description(source: ModelSource) -> Path:
    """Download configuration and tokenizer of a model, or find them in the Hub's cache.

    Returns:
        The folder of this revision in the cache.
    """
    with _reported(source):
        return _snapshot(source, _TEXT_FILES)


def fetch_model(source: ModelSource) -> Path:
    """Download configuration, tokenizer and safetensors of a model, or find them in the Hub's cache.

    Pickled weights and code are never downloaded.
    """
    folder = fetch_description(source)
    wanted = shard_files(folder / INDEX) if (folder / INDEX).is_file() else [SINGLE]
    with _reported(source):
        folder = _snapshot(source, [*_TEXT_FILES, *wanted])
    if not any((folder / name).is_file() for name in wanted):
        raise ModelError(
            f"{source}: no safetensors weights here, and pickled ones are never loaded; use a converted copy"
        )
    return folder


def _snapshot(source: ModelSource, patterns: list[str]) -> Path:
    # Patterns match across folders: without the second list, copies in other formats would come along.
    return Path(
        snapshot_download(source.location, revision=source.revision, allow_patterns=patterns, ignore_patterns=["*/*"])
    )


@contextmanager
def _reported(source: ModelSource) -> Iterator[None]:
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(f"{source}: access is gated; accept its terms on the Hub, then run `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"{source}: no such folder and no such Hub repository (or private: `hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{source}: the repository has no revision {source.revision!r}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"{source}: no such folder, not in the Hub's cache, and the Hub can not be reached (network, or "
            "HF_HUB_OFFLINE set); connect, or name a local folder, or use bundled:smollm2-135m-instruct"
        ) from error
    except ModelError:
        raise
    except Exception as error:  # whatever the HTTP client raises: its kinds change between releases
        raise ModelError(f"{source}: the download failed ({_first_line(error)}); run again to go on with it") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
