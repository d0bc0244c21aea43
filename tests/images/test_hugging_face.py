"""Data sets of the Hugging Face Hub, from a server on 127.0.0.1: what is asked for is fetched, once and whole."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.images import source_of
from tests.support.images_on_disk import encoded, pixels_of
from tests.support.local_hugging_face import CONVERTED, MAIN, serving
from tests.support.parquet import write_parquet
from tests.support.repository import ROOT
from tfpipeline.system import FlagError, UserError

# In a process of its own: the client reads where the Hub is when it is imported.
READ = """
import hashlib, json, sys
from tfpipeline.images.flags import ImageFlags
from tfpipeline.images.sources import open_source
from tfpipeline.system import UserError
try:
    source = open_source(ImageFlags(images=sys.argv[1], split=sys.argv[2]))
    images = [(name, hashlib.sha256(pixels).hexdigest(), truth) for name, pixels, truth in source]
    print(json.dumps({"images": images, "classes": source.classes, "version": source.version}))
except UserError as error:
    print(json.dumps({"error": str(error)}))
"""


def read(address, cache, spec="hf:people/pets", split="train"):
    """What a process reads that asks the Hub at an address."""
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", READ, spec, split]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, numbers in (
        ("train-00000-of-00002", (0, 1)),
        ("train-00001-of-00002", (2,)),
        ("test-00000-of-00001", (3,)),
    ):
        contents = [encoded(pixels_of(number)) for number in numbers]
        write_parquet(folder / "data" / f"{name}.parquet", contents, [0] * len(numbers), ["cat", "dog"])
    return {f"data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}


@pytest.mark.extras
def test_the_files_of_the_split_are_fetched_once_and_read_without_the_hub_afterwards(files, tmp_path):
    with serving("people/pets", {MAIN: files | {"README.md": b"# pets"}}) as hub:
        found = read(hub.address, tmp_path)
        assert [path for path in hub.fetched if "resolve" in path] == [
            f"/datasets/people/pets/resolve/{MAIN}/data/train-0000{i}-of-00002.parquet" for i in range(2)
        ]
    assert found["version"] == MAIN
    assert found["classes"] == [["cat", "cat"], ["dog", "dog"]]
    assert [name for name, _, _ in found["images"]] == [
        "data/train-00000-of-00002-0000000",
        "data/train-00000-of-00002-0000001",
        "data/train-00001-of-00002-0000000",
    ]
    assert read(hub.address, tmp_path)["images"] == found["images"]  # The server is gone.


@pytest.mark.extras
def test_a_download_that_breaks_off_is_named_and_gone_on_with(files, tmp_path):
    with serving("people/pets", {MAIN: files}, cut_off="train-00001") as hub:
        error = read(hub.address, tmp_path)["error"]
    assert error.startswith("hf:people/pets: data/train-00001-of-00002.parquet could not be fetched (")
    assert "run the same command again" in error
    assert "\n" not in error
    with serving("people/pets", {MAIN: files}) as hub:
        assert len(read(hub.address, tmp_path)["images"]) == 3
        assert not any("train-00000" in path for path in hub.fetched)


@pytest.mark.extras
def test_other_files_are_read_as_the_hub_converted_them(files, tmp_path):
    converted = {f"default/{name.split('-')[0][5:]}/0000.parquet": files[name] for name in files if "00000-of" in name}
    with serving("people/pets", {MAIN: {"cat/1.jpg": b""}, CONVERTED: converted}) as hub:
        found = read(hub.address, tmp_path, "hf:people/pets/default")
    assert [name for name, _, _ in found["images"]] == ["train/0000-0000000", "train/0000-0000001"]
    with serving("people/pets", {MAIN: {"cat/1.jpg": b""}}) as hub:
        error = read(hub.address, tmp_path / "other")["error"]
    assert error.startswith(
        "hf:people/pets has no Parquet file, people/pets has cat/1.jpg; download it and give folder:DIR"
    )


@pytest.mark.extras
def test_a_data_set_that_is_not_there_is_said(files, tmp_path):
    with serving("people/pets", {MAIN: files}) as hub:
        error = read(hub.address, tmp_path, "hf:people/dogs")["error"]
    assert error.startswith("hf:people/dogs could not be looked up (")
    assert "give --images parquet:DIR" in error


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the package huggingface_hub .*: pip install huggingface_hub, or"):
        source_of("hf:people/pets")
    with pytest.raises(FlagError, match="names no data set; give hf:OWNER/NAME"):
        source_of("hf:pets")
