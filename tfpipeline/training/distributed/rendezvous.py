"""The start of a training by several processes: each finds the others, or says who is missing.

It comes before TensorFlow's own start, which waits for long, deaf to signals, and does not say for whom.

Whoever reaches the chief's port may knock. The chief gives each visitor a number that nobody has had before; a worker
answers with its place in the cluster and a proof, made of that number, the cluster's addresses and the secret that all
workers share. A visitor has a few seconds and a short line for it, and costs no more than these.
"""

import contextlib
import errno
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import selectors
import socket
import time
from collections.abc import Callable

from tfpipeline.system import UserError
from tfpipeline.training.distributed.cluster import Cluster, host_and_port
from tfpipeline.training.distributed.connection import Connection, Gone
from tfpipeline.training.distributed.workers import Workers

START_SECONDS = 300
SECRET = "TFPIPELINE_SECRET"
_HELLO_SECONDS = 10
_RETRY_SECONDS = 0.2
_LONGEST_HELLO = 1 << 16
_MOST_VISITORS = 64
_MOST_NOTES = 10

Say = Callable[[str], None]


def join_cluster(cluster: Cluster, seconds: float = START_SECONDS, say: Say = lambda line: None) -> Workers:
    """The workers of a cluster, connected once all of them are there.

    The chief listens at its address in the cluster, where TensorFlow will listen after it. Where the variable
    TFPIPELINE_SECRET of the environment is set, only who knows its value is a worker.

    Args:
        cluster: who they are, and which of them this process is.
        seconds: how long to wait for the last one.
        say: takes a line about a visitor that is sent away.

    Raises:
        UserError: somebody did not come in time, came twice, or knows another cluster; names the addresses.
    """
    deadline = time.monotonic() + seconds
    connections: dict[int, Connection] = {}
    try:
        if cluster.number:
            _join(cluster, deadline, connections)
        else:
            _gather(cluster, deadline, connections, say)
    except BaseException:
        for connection in connections.values():
            connection.close()
        raise
    return Workers(cluster, connections)


def _gather(cluster, deadline, connections, say):
    """Adds the chief's connections, by number."""
    try:
        with _open_door(*host_and_port(cluster.addresses[0])) as door, _Hall(door, cluster, connections, say) as hall:
            while len(connections) < len(cluster.addresses) - 1:
                hall.serve(deadline)
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


def _open_door(host, port):
    """A socket that listens at an address alone where it is one of this machine, else at all of the machine's."""
    with contextlib.suppress(ValueError, socket.gaierror):
        address = socket.gethostbyname(host)
        # Many machines call themselves 127.0.1.1, where nobody else reaches them.
        if host == "localhost" or address == host or not ipaddress.ip_address(address).is_loopback:
            try:
                return socket.create_server((address, port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # Of a machine that passes connections on to this one.
                    raise
    return socket.create_server(("", port))


class _Hall:
    """Where visitors wait, all at the same time, until they have said who they are."""

    def __init__(self, door, cluster, connections, say):
        self._door, self._cluster, self._connections, self._say = door, cluster, connections, say
        self._selector, self._visitors, self._notes = selectors.DefaultSelector(), [], 0

    def __enter__(self):
        self._door.setblocking(False)
        self._selector.register(self._door, selectors.EVENT_READ)
        return self

    def __exit__(self, *_):
        for visitor in self._visitors:
            visitor.socket.close()
        self._selector.close()

    def serve(self, deadline):
        """Waits for the next one who comes or speaks; raises TimeoutError after the deadline."""
        now = time.monotonic()
        if now >= deadline:
            raise TimeoutError
        for visitor in [visitor for visitor in self._visitors if visitor.until <= now]:
            self._send_away(visitor, "it did not say who it is")
        until = min([deadline, *(visitor.until for visitor in self._visitors)])
        for key, _ in self._selector.select(max(until - now, 0.001)):
            if key.data is None:
                self._admit()
            elif key.data in self._visitors:
                self._hear(key.data)

    def _admit(self):
        try:
            connected, (host, *_) = self._door.accept()
        except OSError:
            return  # It has gone again.
        if len(self._visitors) == _MOST_VISITORS:
            self._send_away(self._visitors[0], f"{_MOST_VISITORS} others came after it")
        visitor = _Visitor(connected, host)
        connected.setblocking(False)
        self._selector.register(connected, selectors.EVENT_READ, visitor)
        self._visitors.append(visitor)
        with contextlib.suppress(OSError):
            connected.send(json.dumps({"value": visitor.number}).encode() + b"\n")

    def _hear(self, visitor):
        try:
            chunk = visitor.socket.recv(_LONGEST_HELLO)
        except OSError:
            chunk = b""
        visitor.said += chunk
        if not chunk or len(visitor.said) > _LONGEST_HELLO:
            self._send_away(visitor, "it ended" if not chunk else "it said too much")
        elif visitor.said.endswith(b"\n"):
            self._judge(visitor)

    def _judge(self, visitor):
        """Takes a worker in, or tells it why not; who does not speak as a worker is sent away."""
        try:
            number, addresses, own_number, proof = json.loads(visitor.said)["value"]
            expected = _proof(self._cluster.addresses, "worker", number, visitor.number, own_number)
            proven = hmac.compare_digest(proof.encode(), expected.encode())
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._send_away(visitor, "it does not speak as a worker")
            return
        cluster = self._cluster
        if addresses != list(cluster.addresses) or type(number) is not int or not 0 < number < len(addresses):
            reason = f"its TF_CONFIG names the workers {', '.join(cluster.addresses)}; give this one the same"
        elif not proven:
            reason = f"it has another {SECRET}; give all workers the same"
        elif number in self._connections:
            reason = f"{cluster.name(number)} is there already; give this one another index in TF_CONFIG"
        else:
            self._leave(visitor)
            connection = Connection(visitor.socket, cluster.name(number), _HELLO_SECONDS)
            with contextlib.suppress(Gone):
                connection.send(_proof(cluster.addresses, "chief", number, visitor.number, own_number))
                self._connections[number] = connection
            return
        with contextlib.suppress(OSError):
            visitor.socket.send(json.dumps({"failure": reason}).encode() + b"\n")
        self._send_away(visitor, reason)

    def _leave(self, visitor):
        self._selector.unregister(visitor.socket)
        self._visitors.remove(visitor)

    def _send_away(self, visitor, reason):
        self._leave(visitor)
        visitor.socket.close()
        self._notes += 1
        if self._notes <= _MOST_NOTES:
            self._say(f"a visitor from {visitor.host} is no worker of this training and is sent away: {reason}")


class _Visitor:
    """Who has come to the chief's port and is not known yet."""

    def __init__(self, connected, host):
        self.socket, self.host, self.said = connected, host, b""
        self.number, self.until = secrets.token_hex(16), time.monotonic() + _HELLO_SECONDS


def _proof(addresses, role, number, of_chief, of_worker):
    """What only a process of the cluster that knows the secret can say, and only once."""
    message = json.dumps([list(addresses), role, number, of_chief, of_worker]).encode()
    return hmac.new(os.environ.get(SECRET, "").encode(), message, hashlib.sha256).hexdigest()


def _join(cluster, deadline, connections):
    """Adds another worker's connection, by the chief's number."""
    while not (connection := _connect_to_chief(cluster)):
        if time.monotonic() > deadline:
            raise UserError(f"{cluster.name(0)} does not answer; start all workers, with their addresses in TF_CONFIG")
        time.sleep(_RETRY_SECONDS)
    connections[0] = connection
    connection.wait_for(None)
    connection.receive()


def _connect_to_chief(cluster):
    """A connection; None where nothing listens at the chief's address, or another program does."""
    try:
        connected = socket.create_connection(host_and_port(cluster.addresses[0]), timeout=_HELLO_SECONDS)
    except OSError:
        return None
    connection = Connection(connected, cluster.name(0), _HELLO_SECONDS)
    try:
        own_number, of_chief = secrets.token_hex(16), connection.receive()
        proof = _proof(cluster.addresses, "worker", cluster.number, of_chief, own_number)
        connection.send([cluster.number, cluster.addresses, own_number, proof])
        if connection.receive() == _proof(cluster.addresses, "chief", cluster.number, of_chief, own_number):
            return connection
        reason = f"{cluster.name(0)} has another {SECRET}; give all workers the same"
    except Gone:
        connection.close()
        return None
    except UserError:
        connection.close()
        raise
    connection.close()
    raise UserError(reason)
