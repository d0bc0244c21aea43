"""Data sets of the Hugging Face Hub: their Parquet files, fetched into the Hub's own cache when they are read."""

import contextlib
import functools
import pathlib
import types

from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.parquet_source import SUFFIXES, ParquetSource
from tfpipeline.images.shards import Shard
from tfpipeline.system import FlagError, Stopped, UserError, end_by_signal

_CONVERTED = "refs/convert/parquet"  # where the Hub keeps Parquet files that it made of other files
_SECONDS = 10.0  # for the Hub to answer


def open_hub(place: str, flags: ImageFlags) -> ParquetSource:
    """The source of OWNER/NAME, or of OWNER/NAME/FOLDER for a folder in it.

    The Hub's latest revision is read, or, where it does not answer, the one that was fetched before.

    Raises:
        UserError: huggingface_hub is not installed, or there is no such data set, here or there, with Parquet files.
        FlagError: `place` is no such name.
    """
    owner, _, rest = place.partition("/")
    name, _, folder = rest.partition("/")
    if not (owner and name):
        raise FlagError(f"--images hf:{place} names no data set; give hf:OWNER/NAME, or hf:OWNER/NAME/FOLDER")
    hub, repository = _import_hub(place), f"{owner}/{name}"
    revision, files = _files_of(hub, repository, None)
    found = _parquet_files(files, folder)
    if not found:
        revision, converted = _files_of(hub, repository, _CONVERTED)
        found = _parquet_files(converted, folder)
    if not found:
        raise UserError(
            f"hf:{place} has no Parquet file, {repository} has {', '.join(files[:5])[:300]}; download it and give "
            "folder:DIR, archive:FILE or webdataset:DIR"
        )
    shards = [
        Shard(
            file.removeprefix(f"{folder}/").removesuffix(SUFFIXES[0]),
            functools.partial(_fetch, hub, repository, file, revision),
        )
        for file in found
    ]
    source = ParquetSource(f"hf:{place}", f"hf:{place}", shards, flags, {"revision": revision})
    source.version = revision
    return source


def _import_hub(place) -> types.ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(
            f"--images hf:{place} needs the package huggingface_hub ({error}): pip install huggingface_hub, or"
            " download the Parquet files and give parquet:DIR"
        ) from error
    return huggingface_hub


def _parquet_files(files, folder):
    return [file for file in files if file.lower().endswith(SUFFIXES) and file.startswith(folder and f"{folder}/")]


def _files_of(hub, repository, asked):
    """(revision, names of its files), as the Hub says, else as they were fetched before."""
    try:
        found = hub.HfApi().dataset_info(repository, revision=asked, timeout=_SECONDS)
        return found.sha, [file.rfilename for file in found.siblings]
    except Exception as error:  # What a server's answer makes the client raise is anything.
        fetched = _fetched_before(hub, repository)
        if fetched is None and asked is None:
            raise UserError(
                f"hf:{repository} could not be looked up ({_reason(error)}); check the name, and that the Hub can be "
                "reached and lets you in (hf auth login), or download its Parquet files and give --images parquet:DIR"
            ) from error
        return fetched or (None, [])


def _fetched_before(hub, repository):
    """The same of the revision in the Hub's cache that was fetched last, or None."""
    with contextlib.suppress(hub.CacheNotFound):
        for cached in hub.scan_cache_dir().repos:
            if (cached.repo_type, cached.repo_id) == ("dataset", repository) and cached.revisions:
                latest = max(cached.revisions, key=lambda revision: revision.last_modified)
                files = (file.file_path.relative_to(latest.snapshot_path).as_posix() for file in latest.files)
                return latest.commit_hash, sorted(files)
    return None


def _fetch(hub, repository, file, revision) -> pathlib.Path:
    """Where a file is, in the Hub's cache; a part of it is gone on with."""
    hub.utils.disable_progress_bars()
    try:
        with end_by_signal(
            f"stopped while hf:{repository} was fetched; what is there stays; run the same command again"
        ):
            return pathlib.Path(hub.hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except Stopped:
        raise
    except Exception as error:  # As above.
        raise UserError(
            f"hf:{repository}: {file} could not be fetched ({_reason(error)}); run the same command again, which goes"
            " on with what is there"
        ) from error


def _reason(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
