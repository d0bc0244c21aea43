"""What may happen to labels: killed processes, two at once, full disks, flipped bits, shards cut, moved or gone."""

import hashlib
import io
import random
import zipfile

import numpy as np
import pytest

from jobs import command, label_imagenet64
from labeling.labels.spec import LabelSpec
from labeling.labels.store import create_labels, open_labels
from labeling.work import labeler
from tests.support.disk import contents, small_disk
from tests.support.processes import Child
from tests.support.tiny_teachers import log_softmax, mean_color_logits, save_hub_module
from tfpipeline.batches import Answers
from tfpipeline.system.errors import UserError
from tfpipeline.system.signals import StopRequest

IMAGES = SHARDS = 40
KILLED_SHARDS, KILLS = 240, 20
SECONDS_IN_BETWEEN = 0.02  # About what labeling and writing a few shards takes.


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny teacher of 64-pixel images, the cache of the images, and labels nothing happened to."""
    directory = tmp_path_factory.mktemp("place")
    save_hub_module(directory / "teacher", classes=12, size=64)
    label(flags(directory, directory / "whole"))
    return directory


@pytest.fixture(scope="module")
def whole(place):
    """Name -> bytes of the undisturbed store's files."""
    return contents(place / "whole")


@pytest.fixture
def copied(tmp_path, whole):
    """A copy of the undisturbed store, for something to happen to."""
    (tmp_path / "labels").mkdir()
    for name, content in whole.items():
        (tmp_path / "labels" / name).write_bytes(content)
    return tmp_path / "labels"


def flags(place, out, *more):
    """The arguments of a command whose shards hold one image each; the gate would turn the random teacher away."""
    images = ["--images", "shapes", "--limit", IMAGES, "--cache", place / "cache", "--teacher", place / "teacher"]
    shards = ["--shard-size", IMAGES // SHARDS, "--batch-size", 2, "--top-k", 5]
    return [*map(str, [*images, *shards, "--out", out, *more]), "--no-gate", "--quiet"]


def label(arguments):
    return label_imagenet64.run(command.parse(label_imagenet64.Config, arguments, "label", ""))


def shards_in(directory):
    return {path.name for path in directory.glob("labels-*.npz")}


def answer(images):
    """The two likeliest of twelve classes by the mean color, and the rest: a teacher that starts in no time."""
    log_p = log_softmax(mean_color_logits(images / 255, 12))
    order = np.argsort(-log_p)
    ranked = np.take_along_axis(log_p, order, 1)
    parts = order[:, :2].astype(np.uint16), ranked[:, :2], np.logaddexp.reduce(ranked[:, 2:], axis=1)
    top_k, log_probs, log_tail = (part[:, None] for part in parts)
    return Answers(top_k, log_probs.astype(np.float16), log_tail.astype(np.float16))


def label_by_color(out):
    """Labels random images, an image a shard; returns how many it labeled."""
    images = np.random.default_rng(0).integers(0, 256, (KILLED_SHARDS, 8, 8, 3), dtype=np.uint8)
    spec = LabelSpec("d" * 64, "1" * 64, "2" * 64, KILLED_SHARDS, 1, (), classes=12, class_names=(), top_k=2)
    return labeler.label(images, create_labels(out, spec), answer, labeler.Calls(2), StopRequest())


@pytest.fixture(scope="module")
def whole_by_color(tmp_path_factory):
    """Name -> bytes of the undisturbed store of `label_by_color`."""
    out = tmp_path_factory.mktemp("colors") / "labels"
    assert label_by_color(out) == KILLED_SHARDS
    return contents(out)


def wait_for_shards(child, out, count):
    """Returns once there are so many more shards than when it was called, or the child has ended."""
    enough = len(shards_in(out)) + count
    while not child.ended(0) and len(shards_in(out)) < enough:
        pass


@pytest.mark.slow
@pytest.mark.long
def test_twenty_kills_at_random_moments_lose_nothing(tmp_path, whole_by_color):
    out, draw = tmp_path / "labels", random.Random(0)
    for _ in range(KILLS):
        child = Child(tmp_path / "said", label_by_color, out)
        wait_for_shards(child, out, draw.randrange(8))
        child.ended(draw.uniform(0, SECONDS_IN_BETWEEN))
        child.kill()  # Which would fail if the child had ended: there are more shards than all of them make.
        assert all(whole_by_color[name] == (out / name).read_bytes() for name in shards_in(out))
    assert label_by_color(out) > 0
    assert contents(out) == whole_by_color


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_two_at_once_one_of_them_killed(tmp_path, whole_by_color, seed):
    out, draw = tmp_path / "labels", random.Random(seed)
    children = [Child(tmp_path / f"said-{number}", label_by_color, out) for number in range(2)]
    wait_for_shards(children[0], out, draw.randrange(1, KILLED_SHARDS // 3))
    victim, other = children if seed % 2 else reversed(children)
    victim.kill()
    other.ended()
    assert other.exit_code == 0, other.said()
    # The claim of the killed one may be left; the next command removes it.
    assert {name: content for name, content in contents(out).items() if not name.startswith(".")} == whole_by_color
    assert label_by_color(out) == 0
    assert contents(out) == whole_by_color


@pytest.mark.slow
def test_a_full_disk_is_told_and_labeling_goes_on_when_there_is_space(tmp_path, place, whole, capsys):
    out = tmp_path / "disk" / "labels"
    out.parent.mkdir()
    with small_disk(out.parent, "128k") as resize:
        with pytest.raises(SystemExit) as end:
            command.main(label_imagenet64.Config, label_imagenet64.run, label_imagenet64.EXAMPLE, flags(place, out))
        said = capsys.readouterr().err
        assert end.value.code == 1
        assert f"No space left on device: '{out}" in said
        assert "; check the path, its permissions and the free space" in said
        assert "\n" not in said.strip()
        written = contents(out)
        assert 0 < len(written) < len(whole)
        assert written.items() <= whole.items()
        resize("8m")
        assert label(flags(place, out))["labeled"] == len(whole) - len(written)
        assert contents(out) == whole


def parts_of(path):
    """(name, first byte, bytes) of every part of a shard's zip file: headers, arrays, the directory and its end."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        parts, end = [], archive.start_dir
        for member in reversed(archive.infolist()):
            start = end - member.compress_size
            parts.append((f"{member.filename}, its numbers", start, member.compress_size))
            parts.append((f"{member.filename}, its header", member.header_offset, start - member.header_offset))
            end = member.header_offset
        return [*parts, ("the directory", archive.start_dir, size - 22 - archive.start_dir), ("the end", size - 22, 22)]


@pytest.fixture
def few(tmp_path):
    """A whole store of few shards."""
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    spec = LabelSpec("d" * 64, "1" * 64, "2" * 64, 5, 2, (), classes=12, class_names=(), top_k=2)
    store = create_labels(tmp_path / "few", spec)
    labeler.label(images, store, answer, labeler.Calls(2), StopRequest())
    return store


def test_a_flipped_bit_in_each_part_of_a_shard_is_found_and_named(few):
    (path,) = few.directory.glob("labels-00000002-*.npz")
    content, draw = path.read_bytes(), random.Random(0)
    parts = parts_of(path)
    assert sum(size for _, _, size in parts) == len(content) and len(parts) == 12
    for name, first, size in parts:
        for place in {first, first + size - 1, *(first + draw.randrange(size) for _ in range(6))}:
            flipped = bytearray(content)
            flipped[place] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            assert few.missing_spans() == [(2, 4)], name
            with pytest.raises(UserError, match=f"damaged: {path.name} does not have the content that its name says"):
                few.read_all()


def test_a_flipped_bit_in_the_spec_serves_no_label(few):
    path, draw = few.directory / "spec.json", random.Random(0)
    content = path.read_bytes()
    places = [(place, 1 << draw.randrange(8)) for place in range(len(content))]
    zero_instead_of_two = content.index(b'"shard_size": 2') + len('"shard_size": '), ord("2") ^ ord("0")
    for place, bit in [*places, zero_instead_of_two]:
        flipped = bytearray(content)
        flipped[place] ^= bit
        path.write_bytes(flipped)
        try:
            store = open_labels(few.directory)
        except UserError as refusal:
            assert "spec.json is damaged" in str(refusal)
        else:
            assert store.missing_spans() == store.spans
            assert {problem[:10] for problem in store.shards()[1].values()} == {"belongs to"}


def under_its_hash(path, arrays):
    """Replaces a shard by one with these arrays, whole and rightly named, as a faulty program could write it."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    digits = hashlib.sha256(content.getvalue()).hexdigest()[:16]
    path.unlink()
    path.with_name(f"{path.name[:26]}-{digits}.npz").write_bytes(content.getvalue())


def cut_at_a_row(path):
    with np.load(path) as arrays:
        rows = {name: arrays[name] for name in ("top_k", "log_probs", "log_tail")}
        under_its_hash(path, {**arrays, **{name: array[:-1] for name, array in rows.items()}})


def wrong_class(path):
    with np.load(path) as arrays:
        under_its_hash(path, {**arrays, "top_k": arrays["top_k"] + np.uint16(12)})


def not_a_number(path):
    with np.load(path) as arrays:
        under_its_hash(path, {**arrays, "log_probs": arrays["log_probs"] * np.float16(np.nan)})


def more_than_one(path):
    with np.load(path) as arrays:
        under_its_hash(path, {**arrays, "log_probs": np.zeros_like(arrays["log_probs"])})


def renamed_to_another_range(path):
    path.rename(path.with_name(path.name.replace("00000005-00000006", "00000006-00000007")))


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut in the middle": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut at a row": cut_at_a_row,
    "renamed to another range": renamed_to_another_range,
    "a class that there is not": wrong_class,
    "no number": not_a_number,
    "probabilities above one": more_than_one,
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_command_makes_a_damaged_shard_again(capsys, place, copied, whole, damage):
    (path,) = copied.glob("labels-00000005-*.npz")
    DAMAGES[damage](path)
    told = label([*flags(place, copied), "--status"])
    assert (told["missing"], told["damaged_shards"]) == (1, 0 if damage == "deleted" else 1)
    with pytest.raises(UserError, match=r"damaged files|no labels yet for 1 ranges"):
        label([*flags(place, copied), "--verify"])
    assert label([*flags(place, copied), "--repair"])["labeled"] == 1
    assert contents(copied) == whole
