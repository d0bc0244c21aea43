"""The labeling plan on Apache Beam: whoever labels, and whoever dies, the store is that of the local runner."""

import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from hashlib import sha256

import numpy as np
import psutil
import pytest

import labeling.work
from jobs import command, label_imagenet64
from labeling.labels.store import LabelStore, open_labels
from tests.support import engines
from tests.support.disk import contents
from tests.support.engines import IMAGES, SHARD, wait_for_shards, without_speed
from tests.support.repository import ROOT, commands
from tests.support.tiny_teachers import save_hub_module
from tfpipeline.system.errors import FlagError, Stopped, UserError

PROCESSES = ("direct_num_workers=2", "direct_running_mode=multi_processing")
WITH_ROOT = {**os.environ, "PYTHONPATH": str(ROOT)}
THREADS = ("direct_num_workers=2", "direct_running_mode=multi_threading")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return engines.build_place(tmp_path_factory.mktemp("place"))


def on_beam(switches, beam):
    """The switches, and Beam's options; none of it where there are none."""
    return switches if beam is None else (*switches, "--runner", "beam", *(f"--beam-option={one}" for one in beam))


def arguments(place, out, *switches, beam=None):
    return engines.arguments(place, out, *on_beam(switches, beam))


def run(place, out, *switches, beam=None):
    return engines.run(place, out, *on_beam(switches, beam))


@pytest.fixture(scope="module")
def local(place):
    """The store of the local runner, and its figures."""
    figures = run(place, place / "local")
    return contents(place / "local"), figures


@pytest.mark.extras
def test_two_worker_processes_give_the_store_and_the_figures_of_the_local_runner(capsys, tmp_path, place, local):
    figures = run(place, tmp_path / "labels", beam=PROCESSES)
    assert contents(tmp_path / "labels") == local[0]
    assert without_speed(figures) == without_speed(local[1])
    assert f"labeling: {IMAGES} of {IMAGES} images" in capsys.readouterr().err
    again = run(place, tmp_path / "labels", beam=())
    assert again["labeled"] == 0


@pytest.mark.extras
def test_a_bundle_that_is_done_thrice_does_no_harm(tmp_path, place, local):
    run(place, tmp_path / "labels", beam=(*THREADS, "--direct_runner_bundle_repeat=2"))
    assert contents(tmp_path / "labels") == local[0]


@pytest.mark.extras
def test_workers_answer_over_own_classes_as_the_local_runner_does(tmp_path, place):
    (tmp_path / "map.csv").write_text("low,0\nlow,1\nmiddle,5\nrest,*\n")
    for name, beam in (("local", None), ("beam", THREADS)):
        words = arguments(place, tmp_path / name, beam=beam)
        words[words.index("--limit") + 1] = "12"
        words[words.index("--classes") : words.index("--classes") + 2] = ["--class-map", str(tmp_path / "map.csv")]
        label_imagenet64.run(command.parse(label_imagenet64.Config, words, "label", ""))
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


@pytest.mark.extras
def test_workers_adapt_and_ask_at_all_sizes_as_the_local_runner_does(tmp_path, place):
    more = ["--adapt", "background", "--teacher-size", "64,32", "--teacher-size", "16"]
    for name, beam in (("local", None), ("beam", THREADS)):
        words = arguments(place, tmp_path / name, *more, beam=beam)
        words[words.index("--limit") + 1] = "60"
        label_imagenet64.run(command.parse(label_imagenet64.Config, words, "label", ""))
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    spec = open_labels(tmp_path / "beam").spec
    assert len(spec.adaptation.background) == 12
    assert [(each["size"], each["weight"]) for each in spec.teachers] == [(64, 1.0), (32, 1.0), (16, 1.0)]


@pytest.mark.extras
def test_worker_processes_ask_an_onnx_file_and_a_preset_as_the_local_runner_does(tmp_path, place):
    from tests.support.tiny_onnx import save_onnx  # needs onnx
    from tests.support.tiny_presets import save_preset  # needs keras-hub

    save_onnx(tmp_path / "teacher.onnx", classes=12)
    save_preset(tmp_path / "preset", [0.02] * 3, [-2.0] * 3, classes=12)
    for name, beam in (("local", []), ("beam", ["--runner", "beam", *(f"--beam-option={each}" for each in PROCESSES)])):
        words = ["--images", "shapes", "--limit", 12, "--cache", place / "cache", "--out", tmp_path / name, *beam]
        words += ["--teacher", tmp_path / "teacher.onnx", "--teacher", tmp_path / "preset", "--interpolation", "area"]
        words += ["--shard-size", 2, "--batch-size", 1, "--runtime", "tensorflow", "--no-gate"]
        label_imagenet64.run(command.parse(label_imagenet64.Config, list(map(str, words)), "label", ""))
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")


@pytest.mark.extras
@pytest.mark.parametrize("shards", [0, 1, 100])
def test_a_bundle_fails_and_the_same_command_goes_on(tmp_path, place, local, monkeypatch, shards):
    out, write_shard, left = tmp_path / "labels", LabelStore.write_shard, iter(range(shards))

    def fails(self, span, answers):
        if next(left, None) is None:
            raise OSError(28, "No space left on device")
        return write_shard(self, span, answers)

    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr(LabelStore, "write_shard", fails)
        run(place, out, beam=THREADS[1:])  # One thread: another one would write what it is at when the patch has gone.
    assert str(error.value).startswith("Beam gave up (")
    assert "OSError: [Errno 28] No space left on device" in str(error.value)
    assert "the finished shards are saved; run the same command again" in str(error.value)
    assert len(list(out.glob("labels-*.npz"))) == shards
    assert run(place, out, beam=())["labeled"] == IMAGES - shards * SHARD
    assert contents(out) == local[0]


@pytest.mark.extras
def test_a_signal_is_heard_between_shards(tmp_path, place, local, monkeypatch):
    out, write_shard = tmp_path / "labels", LabelStore.write_shard

    def signals(self, span, answers):
        path = write_shard(self, span, answers)
        os.kill(os.getpid(), signal.SIGTERM)
        while list(out.glob(".workers.*")):
            os.sched_yield()
        return path

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="stopped by SIGTERM; the finished shards are"):
        patch.setattr(LabelStore, "write_shard", signals)
        run(place, out, beam=THREADS)
    assert 1 <= len(list(out.glob("labels-*.npz"))) <= 2  # One for each thread.
    run(place, out, beam=THREADS)
    assert contents(out) == local[0]


def start(place, out, *switches, beam):
    return engines.start(place, out, *on_beam(switches, beam))


def processes_below(process_id):
    """The ids of all processes that this one has started, and that these have started."""
    found = []
    for children in pathlib.Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *processes_below(child)]
    return found


def beam_workers(child):
    """The process ids of Beam's workers, without the shells around them."""
    lines = {
        number: pathlib.Path(f"/proc/{number}/cmdline").read_text() for number in processes_below(child.process.pid)
    }
    return [number for number, line in lines.items() if line.startswith(sys.executable) and "sdk_worker" in line]


def is_running(process_id):
    try:
        status = pathlib.Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.extras
def test_whoever_dies_the_same_command_goes_on_to_the_same_store(tmp_path, place, local):
    out = tmp_path / "labels"
    bereft = start(place, out, beam=PROCESSES)
    wait_for_shards(bereft, out, 5)
    os.kill(beam_workers(bereft)[0], signal.SIGKILL)
    bereft.ended()
    assert bereft.exit_code == 1, bereft.said()
    assert "a worker process of Beam died (Worker subprocess exited with return code 137" in bereft.said()

    killed = start(place, out, beam=PROCESSES)
    wait_for_shards(killed, out, len(list(out.glob("labels-*.npz"))) + 5)
    orphans = beam_workers(killed)
    killed.kill()
    assert 0 < run(place, out, beam=THREADS)["labeled"] < IMAGES
    while any(map(is_running, orphans)):
        os.sched_yield()
    run(place, out)  # What the orphans had begun when they gave way is cleared away.
    assert contents(out) == local[0]


@pytest.fixture
def job_server(tmp_path):
    """The options for Beam's own job server, with a pool that starts a worker process for each job.

    The address of the pool is given as Beam's documents advise; docs/scaling.md has the other way, for the same pools.
    """
    environment = {**os.environ, "PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with socket.create_server(("", 0)) as door:
        pool_port = door.getsockname()[1]
    port_file = tmp_path / "port"
    modules = (
        ("portability.local_job_service_main", "--port_file", str(port_file)),
        ("worker.worker_pool_main", "--service_port", str(pool_port)),
    )
    with open(tmp_path / "servers.txt", "w") as said, contextlib.ExitStack() as stack:
        for name, *words in modules:
            argv = [sys.executable, "-m", f"apache_beam.runners.{name}", *words]
            server = subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=said, stderr=said)
            stack.callback(end_tree, server)
        wait_for_file(port_file, server, tmp_path / "servers.txt")
        yield (
            "runner=PortableRunner",
            f"job_endpoint=localhost:{port_file.read_text()}",
            "environment_type=EXTERNAL",
            f"environment_options=external_service_address=localhost:{pool_port}",
        )


def wait_for_file(path, process, said):
    """Waits for a file that a process writes when it is ready."""
    while not path.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            raise AssertionError(said.read_text())


def end_tree(process):
    """Kills a process with all that it has started, and waits for it."""
    for number in [*processes_below(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def workers_of_pool():
    """The process ids of the workers that the pool of `job_server` has started."""
    lines = {number: pathlib.Path(f"/proc/{number}/cmdline").read_text() for number in processes_below(os.getpid())}
    return [number for number, line in lines.items() if "import SdkHarness" in line]


@pytest.mark.extras
def test_the_work_of_a_killed_worker_of_a_cluster_is_done_by_another(tmp_path, place, local, job_server):
    out = tmp_path / "labels"
    child = start(place, out, "--worker-timeout", 60, beam=job_server)
    wait_for_shards(child, out, 5)
    os.kill(*workers_of_pool(), signal.SIGKILL)
    child.ended()
    assert child.exit_code == 0, child.said()
    assert "no worker has answered for 60 seconds; others do the rest of their work" in child.said()
    assert contents(out) == local[0]


@pytest.mark.extras
def test_sigterm_is_heard_where_a_worker_of_a_cluster_hangs(tmp_path, place, local, job_server):
    out = tmp_path / "labels"
    child = start(place, out, beam=job_server)
    wait_for_shards(child, out, 5)
    (hung,) = map(psutil.Process, workers_of_pool())
    hung.suspend()
    child.signal(signal.SIGTERM)
    child.ended()
    assert child.exit_code == 75, child.said()
    assert "stopped by SIGTERM; the finished shards are saved" in child.said()
    hung.kill()  # As long as it lives, the file that it is writing is its own.
    while hung.is_running() and hung.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    run(place, out)
    assert contents(out) == local[0]


@pytest.mark.extras
def test_a_job_that_outlives_its_server_s_time_limit_ends_in_a_line(tmp_path, place, job_server):
    from apache_beam.options.pipeline_options import PortableOptions

    from labeling.work.on_beam import options_of

    assert options_of(job_server).view_as(PortableOptions).job_server_timeout > 24 * 60 * 60
    with pytest.raises(UserError, match=r"^Beam gave up \(its job server: DEADLINE_EXCEEDED, "):
        run(place, tmp_path / "labels", beam=(*job_server, "job_server_timeout=1"))


@pytest.mark.extras
def test_whoever_dies_on_dask_the_store_is_that_of_the_local_runner(tmp_path, place, local):
    scheduler_file, out = tmp_path / "scheduler.json", tmp_path / "labels"
    worker = ("worker", "--scheduler-file", str(scheduler_file), "--nthreads", "1", "--no-nanny", "--no-dashboard")
    scheduler = ("scheduler", "--scheduler-file", str(scheduler_file), "--host", "127.0.0.1", "--port", "0")
    with open(tmp_path / "dask.txt", "w") as said, contextlib.ExitStack() as stack:
        processes = []
        for words in ((*scheduler, "--no-dashboard"), worker, worker):
            argv = [sys.executable, "-m", "dask", *words]
            processes.append(subprocess.Popen(argv, cwd=tmp_path, env=WITH_ROOT, stdout=said, stderr=said))
            stack.callback(end_tree, processes[-1])
        wait_for_file(scheduler_file, processes[0], tmp_path / "dask.txt")
        address = json.loads(scheduler_file.read_text())["address"]
        options = ("runner=DaskRunner", f"dask_client_address={address}", "dask_partition_size=1")
        child = start(place, out, beam=options)
        wait_for_shards(child, out, 5)
        processes[1].kill()
        child.ended()
    assert child.exit_code == 0, child.said()
    assert contents(out) == local[0]


@pytest.mark.extras
def test_a_worker_with_other_files_refuses(tmp_path, place, local):
    from labeling.work.shard_worker import Plan, Worker

    dataset = json.loads((place / "local" / "spec.json").read_bytes())["dataset"]
    stores = (path.parent for path in (place / "cache").glob("*/store.json"))
    (images,) = (store for store in stores if sha256((store / "store.json").read_bytes()).hexdigest() == dataset)
    teachers = (str(place / "first"), str(place / "second"))
    plan = Plan(str(images), str(place / "local"), teachers, batch_size=1, ticket="")
    assert Worker(plan).store.spec.views == ("identity", "crop:4:8:40:flip")
    other = str(save_hub_module(tmp_path / "other", classes=12, size=64, seed=2))
    with pytest.raises(UserError, match=r"other is another one on this worker \(\w+\) than in the label store"):
        Worker(Plan(plan.images, plan.labels, (other, teachers[1]), 1, ""))
    older = (("tensorflow", "1.15.0"),)
    refuses = rf"^the worker on {socket.gethostname()} refuses: tensorflow is 2.* here and 1.15.0 where the command was"
    with pytest.raises(UserError, match=refuses):
        Worker(dataclasses.replace(plan, versions=older))
    with pytest.raises(UserError, match="gone cannot be opened here"):
        Worker(Plan(str(place / "gone"), plan.labels, teachers, 1, ""))
    (tmp_path / "store.json").write_text(
        (images / "store.json").read_text().replace('"images.npy": "', '"images.npy": "0')
    )
    np.save(tmp_path / "images.npy", np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="holds other images here than where the command was started"):
        Worker(Plan(str(tmp_path), plan.labels, teachers, 1, ""))


@pytest.mark.extras
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "direct_num_worker=2",
            "--beam-option direct_num_worker: .* has no such option; did you mean direct_num_workers",
        ),
        ("--zzz=1", "--beam-option zzz: Apache Beam .* has no such option$"),
        ("direct_num_workers=two", "--beam-option: argument --direct_num_workers: invalid int value: 'two'"),
        ("runner=Spork", "--beam-option: Unexpected pipeline runner: Spork"),
    ],
)
def test_an_option_that_beam_does_not_know_is_refused(tmp_path, place, option, message):
    with pytest.raises(FlagError, match=message):
        run(place, tmp_path / "labels", beam=(option,))
    assert not (tmp_path / "labels").exists()


@pytest.mark.extras
def test_the_options_in_the_document_are_options_of_beam():
    from labeling.work.on_beam import options_of

    lines = [line[1:] for line in commands((ROOT / "docs/scaling.md").read_text()) if "beam" in line]
    runners = set()
    for line in lines:
        config = command.parse(label_imagenet64.Config, line, "label", "")
        runners.add(options_of(config.work.beam_option).get_all_options()["runner"])
    on_dask = "apache_beam.runners.dask.dask_runner.DaskRunner"
    assert runners == {None, "FlinkRunner", "PortableRunner", "DataflowRunner", on_dask}


def test_an_option_of_beam_is_for_beam(tmp_path, place):
    with pytest.raises(FlagError, match="--beam-option streaming is for --runner beam; give both or neither"):
        run(place, tmp_path / "labels", "--beam-option", "streaming")


def test_without_apache_beam_a_line_says_so(tmp_path, place, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.delitem(sys.modules, "labeling.work.on_beam", raising=False)
    monkeypatch.delitem(vars(labeling.work), "on_beam", raising=False)
    with pytest.raises(
        UserError, match=r"^--runner beam needs apache-beam \(.*\): pip install 'apache-beam>=2.77,<3'$"
    ):
        run(place, tmp_path / "labels", beam=())
    assert not (tmp_path / "labels").exists()
