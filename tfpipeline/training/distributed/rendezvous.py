"""The start of a training by several processes: each finds the others, or says who is missing.

It comes before TensorFlow's own start, which waits for long, deaf to signals, and does not say for whom.
"""

import contextlib
import socket
import time

from tfpipeline.system import UserError
from tfpipeline.training.distributed.cluster import Cluster, host_and_port
from tfpipeline.training.distributed.connection import Connection, Gone
from tfpipeline.training.distributed.workers import Workers

START_SECONDS = 300
_HELLO_SECONDS = 10
_RETRY_SECONDS = 0.2


def join_cluster(cluster: Cluster, seconds: float = START_SECONDS) -> Workers:
    """The workers of a cluster, connected once all of them are there.

    The chief listens at its address in the cluster, where TensorFlow will listen after it.

    Args:
        cluster: who they are, and which of them this process is.
        seconds: how long to wait for the last one.

    Raises:
        UserError: somebody did not come in time, came twice, or knows another cluster; names the addresses.
    """
    deadline = time.monotonic() + seconds
    connections: dict[int, Connection] = {}
    try:
        (_join if cluster.number else _gather)(cluster, deadline, connections)
    except BaseException:
        for connection in connections.values():
            connection.close()
        raise
    return Workers(cluster, connections)


def _gather(cluster, deadline, connections):
    """Adds the chief's connections, by number."""
    try:
        with socket.create_server(("", host_and_port(cluster.addresses[0])[1])) as door:
            while len(connections) < len(cluster.addresses) - 1:
                door.settimeout(max(deadline - time.monotonic(), 0.001))
                connected, _ = door.accept()
                _let_in(Connection(connected, "a visitor", _HELLO_SECONDS), cluster, connections)
    except TimeoutError as error:
        missing = [cluster.name(number) for number in range(1, len(cluster.addresses)) if number not in connections]
        reason = f"{', '.join(missing)} did not come in time; start all workers, with their addresses in TF_CONFIG"
        for connection in connections.values():
            connection.send_failure(reason)
        raise UserError(reason) from error
    except OSError as error:
        raise UserError(
            f"cannot listen at {cluster.addresses[0]}: {error.strerror}; end what does, or change TF_CONFIG"
        ) from error
    for connection in connections.values():
        connection.wait_for(None)
        connection.send("all are here")


def _let_in(connection, cluster, connections):
    """Takes a worker in, or tells it why not; who does not speak as a worker is sent away."""
    reason = None
    with contextlib.suppress(Gone, TypeError, ValueError):
        number, addresses = connection.receive()
        if tuple(addresses) != cluster.addresses or number not in range(1, len(addresses)):
            reason = f"its TF_CONFIG names the workers {', '.join(cluster.addresses)}; give this one the same"
        elif number in connections:
            reason = f"{cluster.name(number)} is there already; give this one another index in TF_CONFIG"
        else:
            connection.send("welcome")
            connection.peer = cluster.name(number)
            connections[number] = connection
            return
    if reason:
        connection.send_failure(reason)
    connection.close()


def _join(cluster, deadline, connections):
    """Adds another worker's connection, by the chief's number."""
    while not (connection := _let_in_by(cluster)):
        if time.monotonic() > deadline:
            raise UserError(f"{cluster.name(0)} does not answer; start all workers, with their addresses in TF_CONFIG")
        time.sleep(_RETRY_SECONDS)
    connections[0] = connection
    connection.wait_for(None)
    connection.receive()


def _let_in_by(cluster):
    """A connection; None where nothing listens at the chief's address, or another program does."""
    try:
        connected = socket.create_connection(host_and_port(cluster.addresses[0]), timeout=_HELLO_SECONDS)
    except OSError:
        return None
    connection = Connection(connected, cluster.name(0), _HELLO_SECONDS)
    try:
        connection.send([cluster.number, cluster.addresses])
        connection.receive()
        return connection
    except Gone:
        connection.close()
        return None
    except UserError:
        connection.close()
        raise
