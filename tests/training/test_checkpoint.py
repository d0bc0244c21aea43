import ml_dtypes
import numpy as np
import pytest

from tfpipeline.system.errors import UserError
from tfpipeline.training import checkpoint

ARRAYS = {
    "model/0/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "model/1/half": np.array([1.5, -2.25], ml_dtypes.bfloat16),
    "optimizer/0/iterations": np.array(7, np.int64),
    "seed": np.array([1, 2**32 - 1], np.uint32),
    "flag": np.array(True),
}
CONFIG = {"network": "toy", "learning_rate": 0.1}
STATE = {"best": 0.1 + 0.2, "wait": None, "history": [{"step": 1, "loss": 1e-300}]}


def save(directory, step, value=0.0):
    return checkpoint.save(directory, step, {"x": np.full(3, value)}, CONFIG)


def test_everything_comes_back_exactly(tmp_path):
    path = checkpoint.save(tmp_path / "checkpoints", 12, ARRAYS, CONFIG, STATE)
    snapshot = checkpoint.load_newest(tmp_path / "checkpoints")
    assert (snapshot.step, snapshot.config, snapshot.state, snapshot.path) == (12, CONFIG, STATE, path)
    assert list(snapshot.arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert snapshot.arrays[name].dtype == array.dtype
        assert snapshot.arrays[name].shape == array.shape
        assert snapshot.arrays[name].tobytes() == array.tobytes()


def test_equal_snapshots_are_equal_files_and_plain_numpy_reads_them(tmp_path):
    first = checkpoint.save(tmp_path / "first", 12, ARRAYS, CONFIG, STATE)
    second = checkpoint.save(tmp_path / "second", 12, ARRAYS, CONFIG, STATE)
    assert first.name == second.name and first.read_bytes() == second.read_bytes()
    with np.load(first, allow_pickle=False) as entries:
        assert np.array_equal(entries["model/0/kernel"], ARRAYS["model/0/kernel"])


def test_the_step_decides_what_is_newest(tmp_path):
    for step in (9, 1_000_000_000, 100):
        save(tmp_path, step)
    assert checkpoint.load_newest(tmp_path).step == 1_000_000_000


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoint.load_newest(tmp_path / "missing") is None


def test_prune_keeps_the_newest_whole_ones_the_best_and_the_damaged(tmp_path):
    paths = {step: save(tmp_path, step) for step in range(1, 9)}
    paths[7].write_bytes(b"")
    checkpoint.prune(tmp_path, keep=3, keep_steps=(2,))
    assert {checkpoint.step_of(path) for path in checkpoint.newest_first(tmp_path)} == {8, 7, 6, 5, 2}


def test_prune_removes_what_killed_processes_left(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-000000002-0123456789abcdef.npz.01234567.partial").write_bytes(b"half")
    checkpoint.prune(tmp_path)
    assert [path.name[:14] for path in tmp_path.iterdir()] == ["step-000000001"]


def test_an_unwritable_place_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot save a checkpoint of .* bytes as .*file/step-0{8}1-.*: "):
        save(tmp_path / "file", 1)


def test_hash_of_arrays_sees_names_types_shapes_and_bits():
    base = {"x": np.zeros((2, 3), np.float32)}
    others = [
        {"y": base["x"]},
        {"x": np.zeros((2, 3), np.int32)},
        {"x": np.zeros((3, 2), np.float32)},
        {"x": -base["x"]},
    ]
    hashes = [checkpoint.sha256_of_arrays(arrays) for arrays in (base, *others)]
    assert len(set(hashes)) == 5
    assert hashes[0] == checkpoint.sha256_of_arrays({"x": np.zeros((2, 3), np.float32)})
