"""Preparing a TensorFlow dataset with its own builder, from archives at hand or by a download, without long waits."""

import contextlib
import dataclasses
import inspect
import logging
import pathlib
import sys
import threading
import typing
from collections.abc import Iterator

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, resource

from tfpipeline.images.archives import Images
from tfpipeline.system import Stopped, UserError, end_by_signal, publish_directory, scratch_directory, write_file

# Their hosts took the files away: nobody needs to wait for an answer.
_GONE = {"downsampled_imagenet": "its host took the archives away (tensorflow/datasets#4662)"}
_SECONDS_TO_ANSWER = 4


def prepare(builder: tfds.core.DatasetBuilder, archives: pathlib.Path | None) -> list[str]:
    """Prepares a dataset from the archives at hand, else by a download, if that answers.

    Args:
        builder: of a dataset that is not prepared.
        archives: a folder with the files that the builder would download, or None.

    Returns:
        Notes for the person, one line each.

    Raises:
        UserError: the files are neither at hand nor to be had, or TFDS could not use them.
        Stopped: SIGTERM or SIGINT came. Nothing is left behind.
    """
    if archives is not None and not archives.is_dir():
        raise UserError(f"no such folder: {archives}; check --archives")
    manual = bool(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)
    urls = [] if manual else _urls_of(builder)
    if archives is None:
        reason = "it wants files from you" if manual else _GONE.get(builder.name) or _unreachable(urls)
        if reason:
            raise UserError(_ways_out(builder, f"is not prepared and cannot be downloaded: {reason}", urls))
    missing = [] if archives is None else [url for url in urls if not (archives / _file_name(builder, url)).is_file()]
    if missing:
        problem = f"is not prepared, and {archives} has no {_file_name(builder, missing[0])}"
        raise UserError(_ways_out(builder, problem, urls))
    root = pathlib.Path(builder.data_dir_root)
    # Beside the dataset, as large as it is. TFDS's own directories have no mark: nobody knows whose a left one is.
    with scratch_directory(root, builder.name) as place:
        notes, downloads = [], place / "downloads"
        downloads.mkdir()
        if archives is not None:
            notes = [_put_into_cache(builder, url, archives, downloads) for url in urls]
        _run_builder(builder, place, downloads, None if urls else archives)
        _publish(place, root, pathlib.Path(builder.data_dir))
    return [note for note in notes if note]


def _run_builder(builder, place, download_dir, manual_dir):
    """Prepares the dataset below another directory than its own."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    saved = f"stopped while {builder.info.full_name} was prepared; nothing of it is kept; run the same command again"
    try:
        with quiet_tfds(), end_by_signal(saved):
            there = type(builder)(
                data_dir=place,
                config=builder.builder_config,
                version=str(builder.version),
                file_format=builder.info.file_format,
            )
            there.download_and_prepare(download_dir=download_dir, download_config=config)
    except Stopped:
        raise
    except Exception as error:
        # TFDS and each dataset's own code raise nearly anything over files that are damaged or missing.
        line = " ".join(str(error).split())[:300]
        raise UserError(f"{builder.info.full_name} could not be prepared ({type(error).__name__}: {line})") from error


def _publish(place, root, directory):
    """Moves a prepared dataset to its own directory, and beside it what TFDS says of all its configurations."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    for described in place.glob("*/.config/*"):
        path = root / described.relative_to(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, described.read_bytes())
    try:
        publish_directory(place / directory.relative_to(root), directory)
    except OSError:
        if not directory.exists():  # Or another process was first.
            raise


def _put_into_cache(builder, url, archives, downloads):
    """Lays a link to an archive where the builder looks for its download; it takes it without hashing it again."""
    archive = (archives / _file_name(builder, url)).resolve()
    if archive.suffix == ".tar":
        Images(archive).close()  # Names damage that TFDS would take for the end of the archive.
    published = builder.url_infos.get(url)
    folder = downloads / builder.name
    folder.mkdir(exist_ok=True)
    link = folder / resource.get_dl_fname(url, published.checksum if published else None)
    link.symlink_to(archive)
    size = archive.stat().st_size
    stated = published or checksums.UrlInfo(size=tfds.core.units.Size(size), checksum="", filename=archive.name)
    resource.write_info_file(
        url=url, path=link, dataset_name=builder.name, original_fname=archive.name, url_info=stated
    )
    if published and size != published.size:
        return f"{archive.name} has {size:,} bytes, the published one {int(published.size):,}: it is taken as it is"
    return None


def _file_name(builder, url):
    published = builder.url_infos.get(url)
    return (published and published.filename) or url.rsplit("/", 1)[-1]


@dataclasses.dataclass
class _Asked(Exception):
    urls: list


class _Asker:
    """Stands in for a download manager, to learn which files a builder asks for first."""

    def download(self, urls: typing.Any) -> typing.NoReturn:
        raise _Asked(list(_leaves(urls)))

    download_and_extract = download

    def __getattr__(self, name):
        raise _Asked([])  # It asks for something else first, so nobody knows.


def _leaves(urls):
    if isinstance(urls, dict):
        urls = list(urls.values())
    if isinstance(urls, (list, tuple)):
        for part in urls:
            yield from _leaves(part)
    else:
        yield getattr(urls, "url", urls)


def _urls_of(builder):
    """The URLs that a builder asks for first; empty where it does not ask for URLs."""
    needs_pipeline = "pipeline" in inspect.signature(builder._split_generators).parameters
    try:
        builder._split_generators(_Asker(), **({"pipeline": None} if needs_pipeline else {}))
    except _Asked as asked:
        return asked.urls
    return []


def _unreachable(urls):
    """Why one of the URLs cannot be downloaded, or None. TFDS itself would retry for minutes before it says so."""
    for url in urls:
        answers = []
        # A thread, because looking up a host's name has no timeout.
        thread = threading.Thread(target=lambda url=url, answers=answers: answers.append(_ask(url)), daemon=True)
        thread.start()
        thread.join(_SECONDS_TO_ANSWER)
        if answers != [None]:
            return answers[0] if answers else f"{url} does not answer"
    return None


def _ask(url):
    try:
        status = requests.head(url, timeout=_SECONDS_TO_ANSWER, allow_redirects=True).status_code
    except requests.RequestException as error:
        return f"{url} does not answer ({type(error).__name__})"
    return f"{url} answers {status}" if status in (404, 410) else None


def _ways_out(builder, problem, urls):
    names = [_file_name(builder, url) for url in urls]
    tars = [name for name in names if name.endswith(".tar")]
    full_name = builder.info.full_name
    ways = [
        f"--data-dir DIR, a TFDS directory with {full_name} prepared in it",
        f"--archives DIR, a folder with {' and '.join(names) or 'the files that its page names'}",
        *(f"--images archive:DIR/{tar}, which reads the images of that archive alone" for tar in tars[:1]),
        "other images, such as --images shapes or --images folder:DIR",
    ]
    return f"{full_name} {problem}. Ways out: {'; '.join(f'({i}) {way}' for i, way in enumerate(ways, 1))}"


@contextlib.contextmanager
def quiet_tfds() -> Iterator[None]:
    """A context in which TFDS keeps to itself what is no news here.

    It warns of every directory where a dataset is not prepared yet and of deprecations in its own code, and it prints
    to standard output, which is for results.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
