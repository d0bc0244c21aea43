"""The plan on a cluster of Ray on this machine: whoever dies or hangs, the store is that of the local runner."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import signal
import socket
import sys
import tempfile

import psutil
import pytest

import labeling.work
from labeling.work import shard_worker
from tests.support import engines
from tests.support.disk import contents
from tests.support.engines import IMAGES, wait_for_shards, without_speed
from tests.support.repository import ROOT
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import FlagError, UserError

NODES = 2
on_a_cluster = pytest.mark.skipif(
    "TFPIPELINE_TEST_RAY" not in os.environ,
    reason="a cluster of Ray that loses machines takes minutes, not always as many: make test-ray",
)
ON_RAY = ("--runner", "ray")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return engines.build_place(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def local(place):
    """The store of the local runner, and its figures."""
    figures = engines.run(place, place / "local")
    return contents(place / "local"), figures


@pytest.fixture
def cluster(monkeypatch):
    """A head without workers, and machines of one core each, which are raylets on this one."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # Its sockets have paths of 107 bytes at most.
    monkeypatch.setenv("RAY_TMPDIR", short)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    head = {"num_cpus": 0, "include_dashboard": False, "no_monitor": True, "include_log_monitor": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    cluster.machines = [cluster.add_node(num_cpus=1, include_log_monitor=False) for _ in range(NODES)]
    yield cluster
    cluster.shutdown()
    shutil.rmtree(short, ignore_errors=True)


def worker_on(machine, child):
    """The process on a machine that labels, once there is one: between two tasks it has another name."""
    (raylet,) = (each.process.pid for each in machine.all_processes["raylet"])
    while True:
        for process in psutil.Process(raylet).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "ray::_label" in " ".join(process.cmdline()):
                    return process
        assert not child.ended(0.002), child.said()


@on_a_cluster
@pytest.mark.extras
def test_whoever_is_stopped_killed_or_hangs_the_store_is_that_of_the_local_runner(tmp_path, place, local, cluster):
    out, (first, second) = tmp_path / "labels", cluster.machines
    stopped = engines.start(place, out, *ON_RAY)
    wait_for_shards(stopped, out, 5)
    stopped.signal(signal.SIGTERM)
    stopped.ended()
    assert stopped.exit_code == 75, stopped.said()
    assert "stopped by SIGTERM; the finished shards are saved" in stopped.said()

    done = len(list(out.glob("labels-*.npz")))
    child = engines.start(place, out, *ON_RAY, "--worker-timeout", "20")
    wait_for_shards(child, out, done + 5)
    worker_on(second, child).kill()
    wait_for_shards(child, out, done + 10)
    cluster.remove_node(first, allow_graceful=False)
    wait_for_shards(child, out, done + 15)
    worker_on(second, child).suspend()
    child.ended()
    assert child.exit_code == 0, child.said()
    assert "no worker has answered for 20 seconds; others do the rest of their work" in child.said()

    again = engines.run(place, out, *ON_RAY)  # It removes what killed processes left half written.
    assert contents(out) == local[0]
    assert again["labeled"] == 0 and again["images"] == IMAGES
    assert without_speed(again) == without_speed(local[1]) | {"labeled": 0}


@on_a_cluster
@pytest.mark.extras
def test_a_worker_with_another_teacher_is_named_with_its_machine(tmp_path, place, local, cluster, monkeypatch):
    other, plan_of = str(save_hub_module(tmp_path / "other", classes=12, size=64, seed=2)), shard_worker.plan_of

    def with_another_teacher(*arguments):
        plan = plan_of(*arguments)
        return dataclasses.replace(plan, teachers=(other, plan.teachers[1]))

    monkeypatch.setattr(shard_worker, "plan_of", with_another_teacher)
    refuses = rf"^Ray gave up \(the worker on {socket.gethostname()} refuses: teacher {other} is another one on this"
    with pytest.raises(UserError, match=refuses):
        engines.run(place, tmp_path / "labels", *ON_RAY)
    assert list((tmp_path / "labels").glob("labels-*.npz")) == []


@pytest.mark.extras
def test_an_address_where_nothing_answers_is_named_before_anything_is_read(tmp_path, place, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=rf"^RAY_ADDRESS is {address}, where nothing answers \(.*\); start Ray there$"):
        engines.run(place, tmp_path / "labels", *ON_RAY)
    assert not (tmp_path / "labels").exists()


def test_the_cores_of_workers_are_for_ray(tmp_path, place):
    with pytest.raises(FlagError, match="--worker-cores 2 is for --runner ray; give both or neither"):
        engines.run(place, tmp_path / "labels", "--worker-cores", "2")


def test_without_ray_a_line_says_so(tmp_path, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "labeling.work.on_ray", raising=False)
    monkeypatch.delitem(vars(labeling.work), "on_ray", raising=False)
    with pytest.raises(UserError, match=r"^--runner ray needs ray \(.*\): pip install 'ray>=2.60,<3'$"):
        engines.run(place, tmp_path / "labels", *ON_RAY)
    assert not pathlib.Path(tmp_path / "labels").exists()
