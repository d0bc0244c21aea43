"""What two devices, or two processes, make of a batch that they share is what one makes of it."""

import json

import pytest

from tests.support.clusters import clusters
from tests.support.processes import Child, finished
from tests.support.replicas import REPLICAS, STEPS, compare_operations, farthest, train_as_worker, train_on_devices

LARGEST = {"float64": 1e-12, "float32": 1e-5}


@pytest.mark.long
def test_each_operation_shared_by_two_devices_is_that_on_one(tmp_path):
    finished(tmp_path / "said", compare_operations, tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row for row in rows if not row[-1] < LARGEST[row[1]]] == []


@pytest.mark.long
def test_each_step_shared_by_two_devices_or_two_processes_is_that_on_one(tmp_path):
    """With batch normalization, dropout, averages, mixup and clipping; long runs in float32 amplify rounding."""
    devices, alone = tmp_path / "devices.npz", tmp_path / "alone.npz"
    of_workers = [tmp_path / f"worker-{number}.npz" for number in range(REPLICAS)]
    finished(tmp_path / "said", train_on_devices, devices, alone)
    workers = [
        Child(tmp_path / f"said-{cluster.number}", train_as_worker, path, cluster)
        for path, cluster in zip(of_workers, clusters(REPLICAS), strict=True)
    ]
    assert [worker.ended() and worker.exit_code for worker in workers] == [0, 0], [one.said() for one in workers]
    for path in (devices, *of_workers):
        differences = farthest(path, alone)
        assert len(differences["float64"]) == STEPS and max(differences["float64"]) < 1e-9, (path, differences)
        assert max(differences["float32"][:3]) < 1e-5, (path, differences)
    assert set(map(max, farthest(*of_workers).values())) == {0.0}
