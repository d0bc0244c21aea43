"""Workers without TensorFlow: each is a thread with connections of its own."""

import concurrent.futures
import dataclasses
import json
import math
import socket
import threading
import types

import numpy as np
import pytest

from jobs import train
from tests.support.clusters import clusters
from tfpipeline.system.errors import FlagError, Stopped, UserError
from tfpipeline.system.flags import from_flat
from tfpipeline.training import checkpoint
from tfpipeline.training.distributed import rendezvous
from tfpipeline.training.distributed.cluster import Cluster, read_cluster
from tfpipeline.training.distributed.connection import Silent
from tfpipeline.training.distributed.rendezvous import join_cluster
from tfpipeline.training.distributed.workers import ALONE, Gone
from tfpipeline.training.run_directory import broadcast_snapshot

ADDRESSES = ["10.0.0.1:2222", "10.0.0.2:2222", "10.0.0.3:2223"]


def environment(**changes):
    config = {"cluster": {"worker": ADDRESSES}, "task": {"type": "worker", "index": 1}}
    return {"TF_CONFIG": json.dumps({**config, **changes})}


def test_the_cluster_is_that_of_tf_config():
    assert read_cluster(environment()) == Cluster(tuple(ADDRESSES), 1)
    with_chief = {"chief": ADDRESSES[:1], "worker": ADDRESSES[1:]}
    assert read_cluster(environment(cluster=with_chief)) == Cluster(tuple(ADDRESSES), 2)
    assert read_cluster(environment(cluster=with_chief, task={"type": "chief", "index": 0})).number == 0
    assert read_cluster(environment(task={"type": "worker", "index": "2"})).number == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "TF_CONFIG is not set"),
        ("{", "Expecting property name"),
        ("[]", "list indices must be integers"),
        ("{}", "it has no 'cluster'"),
        (environment(task={"type": "worker"})["TF_CONFIG"], "it has no 'index'"),
        (environment(task={"type": "worker", "index": 3})["TF_CONFIG"], "the cluster has no worker 3"),
        (
            environment(task={"type": "worker", "index": math.inf})["TF_CONFIG"],
            "the index of the task is Infinity, which",
        ),
        (environment(task={"type": "worker", "index": 0.5})["TF_CONFIG"], "index of the task is 0.5"),
        (environment(task={"type": "worker", "index": True})["TF_CONFIG"], "index of the task is true"),
        (environment(task={"type": "worker", "index": [0]})["TF_CONFIG"], "index of the task is .0."),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        (environment(task={"type": "chief", "index": 0})["TF_CONFIG"], "the cluster has no chief 0"),
        (environment(cluster={"worker": ADDRESSES, "ps": ["a:1"]})["TF_CONFIG"], "ps has no part in this training"),
        (environment(cluster={"worker": ["10.0.0.1", "b:1"]})["TF_CONFIG"], "10.0.0.1 is not HOST:PORT"),
        (environment(cluster={"worker": ["a:1", "a:70000"]})["TF_CONFIG"], "a:70000 is not HOST:PORT"),
        (environment(cluster={"worker": ["a:1", "a:1"]})["TF_CONFIG"], "an address is there twice"),
    ],
)
def test_a_wrong_tf_config_is_refused_with_an_example_before_anything_else(monkeypatch, tmp_path, text, problem):
    monkeypatch.setenv("TF_CONFIG", text)
    values = {"images": "shapes", "labels": "truth", "run": str(tmp_path / "run"), "strategy": "multi_worker"}
    config = from_flat(train.Config, values)
    with pytest.raises(FlagError, match=f'{problem}.*"index": 0') as refusal:
        train.run(config)
    assert refusal.value.exit_code == 2 and not (tmp_path / "run").exists()


def together(clusters, work, seconds=60):
    """What work(workers) returns or raises in each of them."""

    def one(cluster):
        with join_cluster(cluster, seconds) as workers:
            return work(workers)

    with concurrent.futures.ThreadPoolExecutor(len(clusters)) as pool:
        futures = [pool.submit(one, cluster) for cluster in clusters]
        return [future.exception() or future.result() for future in futures]


def test_all_know_what_each_gave_and_what_the_chief_decided():
    def work(workers):
        given = workers.exchange({"number": workers.number, "pair": (0.1, None)})
        return given, workers.broadcast(workers.number + 7), workers.is_chief

    given = [{"number": number, "pair": [0.1, None]} for number in range(3)]
    assert together(clusters(3), work) == [(given, 7, number == 0) for number in range(3)]


def test_a_process_on_its_own_agrees_with_itself():
    with ALONE as workers:
        assert workers.is_chief and workers.count == 1
        assert workers.exchange((1, 2)) == [[1, 2]] and broadcast_snapshot(workers, None) is None


def test_all_have_the_chiefs_snapshot(tmp_path):
    arrays = {"kernel": np.random.default_rng(0).random((300, 7)), "step": np.array(-0.0)}
    path = checkpoint.save(tmp_path, 12, arrays, {"experiment": {}}, {"history": [0.1]})

    def work(workers):
        return broadcast_snapshot(workers, checkpoint.load(path) if workers.is_chief else None)

    for snapshot in together(clusters(3), work):
        assert (snapshot.step, snapshot.path, snapshot.state) == (12, path, {"history": [0.1]})
        assert checkpoint.sha256_of_arrays(snapshot.arrays) == checkpoint.sha256_of_arrays(arrays)
    assert together(clusters(2), lambda workers: broadcast_snapshot(workers, None)) == [None, None]


def test_another_experiment_is_refused_by_name_in_every_worker():
    def work(workers):
        workers.check_same({"seed": 0, "epochs": 3}, "give the same flags")
        workers.check_same({"seed": int(workers.number == 2), "options": (1,)}, "give the same flags")

    cluster = clusters(3)
    for error in together(cluster, work):
        assert f"{cluster[0].name(2)} differs from the chief in seed; give the same flags" in str(error)


def test_the_reason_of_one_is_told_to_all():
    def work(workers):
        if workers.number == 1:
            raise UserError("no room on the disk")
        workers.exchange(None)

    cluster = clusters(3)
    of_chief, of_failed, of_other = together(cluster, work)
    assert str(of_failed) == "no room on the disk"
    assert str(of_chief) == f"{cluster[0].name(1)} failed: no room on the disk"
    assert str(of_other) == f"{cluster[0].name(0)} failed: {of_chief}"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_ends_without_a_word_is_named(lost):
    def work(workers):
        if workers.number == lost:
            raise KeyboardInterrupt  # No word is left for it, as for a kill.
        workers.exchange(None)

    cluster = clusters(2)
    errors = together(cluster, work)
    assert isinstance(errors[1 - lost], Gone)
    assert str(errors[1 - lost]).startswith(f"{cluster[0].name(lost)} is gone; see what it said last")


def test_what_a_lost_worker_said_last_is_the_reason():
    def work(workers):
        if workers.number == 1:
            workers.exchange("nobody waits for this")
            raise UserError("the labels are damaged")
        if workers.number == 0:
            workers.exchange(None)
            raise workers.error_of_lost([1])
        workers.exchange(None)
        raise workers.error_of_lost([1])

    cluster = clusters(3)
    of_chief, _, of_other = together(cluster, work)
    assert str(of_chief) == f"{cluster[0].name(1)} failed: the labels are damaged"
    assert str(of_other).startswith(f"{cluster[0].name(1)} is gone")


def test_those_who_stop_wait_for_one_another():
    heard = []

    def work(workers):
        if workers.is_chief:
            heard.extend(workers.exchange("still saving"))
            raise KeyboardInterrupt
        raise Stopped("saved by the chief")

    errors = together(clusters(2), work)
    assert [type(error) for error in errors] == [KeyboardInterrupt, Stopped]
    assert heard == ["still saving", None], "the worker must have waited for the chief before it ended"


def test_who_does_not_answer_in_time_is_named_and_the_others_stop():
    may_end = threading.Event()

    def work(workers):
        workers.limit_waiting(0.5)
        if workers.number == 1:
            may_end.wait()
            raise KeyboardInterrupt
        try:
            workers.exchange(None)
        except Silent as silence:
            workers.stop(f"saved, as {silence}")
            raise Stopped("saved") from silence
        finally:
            may_end.set()

    cluster = clusters(3)
    of_chief, _, of_other = together(cluster, work)
    assert (type(of_chief), type(of_other)) == (Stopped, Stopped)
    assert str(of_other).startswith(f"saved, as {cluster[0].name(1)} has not answered for 0.5 seconds: it hangs")


def test_a_chief_that_does_not_answer_in_time_is_named():
    has_waited = threading.Event()

    def work(workers):
        workers.limit_waiting(0.1)
        if workers.is_chief:
            has_waited.wait()
            raise KeyboardInterrupt
        try:
            workers.exchange(None)
        finally:
            has_waited.set()

    cluster = clusters(2)
    _, error = together(cluster, work)
    assert isinstance(error, Silent) and str(error).startswith(f"{cluster[0].name(0)} has not answered for 0.2 seconds")


def test_the_missing_are_named_to_those_who_came():
    cluster = clusters(4)
    errors = together(cluster[:2], lambda workers: None, seconds=3)
    missing = f"{cluster[0].name(2)}, {cluster[0].name(3)} did not come in time"
    assert str(errors[0]).startswith(missing) and missing in str(errors[1])
    (error,) = together(cluster[1:2], lambda workers: None, seconds=0.5)
    assert str(error).startswith(f"{cluster[0].name(0)} does not answer; start all workers")


def test_who_does_not_belong_is_told_so_and_the_others_still_meet():
    chief, worker = clusters(2)
    other = dataclasses.replace(worker, addresses=(*worker.addresses, "127.0.0.1:1"))
    host, port = chief.addresses[0].split(":")

    def come():
        with pytest.raises(UserError, match=f"names the workers {', '.join(chief.addresses)}; give this one the same"):
            join_cluster(other, 60)
        with socket.create_connection((host, int(port))) as visitor:
            visitor.sendall(b"GET / HTTP/1.1\r\n\r\n")
            said = visitor.makefile("rb")
            assert "value" in json.loads(said.readline()) and said.read() == b""
        with join_cluster(worker, 60) as workers:
            return workers.broadcast(None)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        met = pool.submit(lambda: together([chief], lambda workers: workers.broadcast("hello"))[0])
        assert pool.submit(come).result() == "hello" and met.result() == "hello"


def test_a_number_that_is_taken_is_refused():
    cluster = clusters(3)
    errors = together([*cluster[:2], cluster[1]], lambda workers: None, seconds=3)
    assert sum("is there already; give this one another index" in str(error) for error in errors) == 1


def test_a_port_that_is_taken_is_named():
    chief, _ = clusters(2)
    with (
        socket.create_server(("", int(chief.addresses[0].split(":")[1]))),
        pytest.raises(UserError, match=f"cannot listen at {chief.addresses[0]}: Address already in use"),
    ):
        join_cluster(chief, 1)


def bytes_of(*values):
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


VISITS = {
    "silence": b"",
    "garbage": b"\0\xff\xfe\n",
    "flood": b"x" * (1 << 20),
    "deep": b'{"value":' * 5000 + b"\n",
    "huge number": b'{"value": [' + b"9" * 60_000 + b', [], "", ""]}\n',
    "infinity": b'{"value": [Infinity, [], "", ""]}\n',
    "no proof": bytes_of({"value": [1, [], "", None]}),
    "surrogate": b'{"value": [1, [], "", "\\ud800"]}\n',
    "another training": bytes_of({"value": [1, ["a:1", "b:1"], "", "0" * 64]}),
    "impostor": None,
}


@pytest.mark.parametrize("kind", VISITS)
def test_strangers_at_the_door_cost_nothing_and_the_others_still_meet(kind):
    chief, worker = clusters(2)
    host, port = chief.addresses[0].split(":")
    notes = []

    def visit():
        while True:  # Until the chief listens.
            try:
                visitor = socket.create_connection((host, int(port)), timeout=60)
                break
            except ConnectionRefusedError:
                continue
        impostor = bytes_of({"value": [1, list(chief.addresses), "", "0" * 64]})
        try:
            visitor.sendall(impostor if VISITS[kind] is None else VISITS[kind])
            if kind != "silence":
                said = visitor.makefile("rb").read()
                assert b"all are here" not in said
        except (ConnectionResetError, BrokenPipeError):
            pass
        return visitor

    def lead():
        with join_cluster(chief, 60, notes.append) as workers:
            return workers.broadcast("hello")

    def follow():
        visitors = [visit() for _ in range(3)]
        with join_cluster(worker, 60) as workers:
            met = workers.broadcast(None)
        for visitor in visitors:
            visitor.close()
        return met

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in (pool.submit(lead), pool.submit(follow))] == ["hello", "hello"]
    assert len(notes) == (0 if kind == "silence" else 3)
    assert all(note.startswith("a visitor from 127.0.0.1 is no worker of this training") for note in notes)


@pytest.mark.parametrize("drip", [True, False])
def test_visitors_who_take_their_time_do_not_hold_the_chief_past_its_deadline(monkeypatch, drip):
    """The chief's clock is the test's: each look at it is a second later, however long a visitor takes."""
    chief, _ = clusters(2)
    host, port = chief.addresses[0].split(":")
    seconds = iter(range(10_000))
    monkeypatch.setattr(rendezvous, "time", types.SimpleNamespace(monotonic=lambda: next(seconds), sleep=None))
    monkeypatch.setattr(rendezvous, "_HELLO_SECONDS", 10_000)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: together([chief], lambda workers: None, seconds=100)[0])
        visitors = []
        while not ended.done():
            try:
                if len(visitors) < 80:  # More than may wait at a time.
                    visitors.append(socket.create_connection((host, int(port))))
                for visitor in visitors * drip:
                    visitor.send(b"x")
            except OSError:
                continue  # Not yet open, or sent away.
        for visitor in visitors:
            visitor.close()
    assert "did not come in time" in str(ended.result())
    assert next(seconds) < 1000


@pytest.mark.parametrize("of_chief", ["ours", ""])
def test_who_does_not_know_the_secret_is_not_let_in(monkeypatch, of_chief):
    chief, worker = clusters(2)

    class Environment(dict):
        """Of each thread, as of each process."""

        def get(self, name, default=""):
            return of_chief if threading.current_thread().name == "chief" else "theirs"

    monkeypatch.setattr(rendezvous.os, "environ", Environment())
    errors = {}

    def join(cluster, name, seconds):
        try:
            join_cluster(cluster, seconds).__exit__(None, None, None)
        except UserError as error:
            errors[name] = str(error)

    threads = [
        threading.Thread(target=join, name="chief", args=(chief, "chief", 5)),
        threading.Thread(target=join, name="worker", args=(worker, "worker", 60)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "has another TFPIPELINE_SECRET; give all workers the same" in errors["worker"]
    assert "did not come in time" in errors["chief"]


def test_an_impostor_in_the_place_of_the_chief_is_noticed():
    chief, worker = clusters(2)
    with socket.create_server(("127.0.0.1", int(chief.addresses[0].split(":")[1]))) as door:

        def pretend():
            visitor, _ = door.accept()
            visitor.sendall(bytes_of({"value": "0" * 32}, {"value": "0" * 64}))
            return visitor

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pretended = pool.submit(pretend)
            with pytest.raises(UserError, match="has another TFPIPELINE_SECRET"):
                join_cluster(worker, 60)
            pretended.result().close()


@pytest.mark.parametrize(
    ("host", "resolved", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1", "127.0.0.1"),
        ("node0", "127.0.1.1", ""),
        ("node0", "192.0.2.7", ""),
    ],
)
def test_the_chief_listens_at_its_own_address_alone(monkeypatch, host, resolved, expected):
    """192.0.2.7 is no address of this machine: a router passes the connections on to it."""
    monkeypatch.setattr(socket, "gethostbyname", lambda name: resolved)
    with rendezvous._open_door(host, 0) as door:
        assert door.getsockname()[0] == (expected or "0.0.0.0")
