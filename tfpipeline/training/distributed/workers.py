"""How processes that train together agree on plain values, over connections of their own.

Gradients travel on TensorFlow's connections. What decides the course of the training (the snapshot to go on from, the
number of steps, a request to stop) travels here, as lines of JSON between the chief, worker 0, and every other worker.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tfpipeline.system import Stopped, UserError
from tfpipeline.training.distributed.cluster import Cluster
from tfpipeline.training.distributed.connection import Connection, Gone, Silent

_LAST_WORD_SECONDS = 5  # What a process said before it ended is there long before TensorFlow misses it.


class Workers:
    """The processes that train together, as one of them sees them.

    As a context it tells the others why this process fails, and at a good end waits for all of them.

    Args:
        cluster: who they are.
        connections: of the chief to each other worker, of another worker to the chief, by number.
    """

    def __init__(self, cluster: Cluster | None = None, connections: Mapping[int, Connection] | None = None):
        self.cluster, self._connections = cluster or Cluster(), dict(connections or {})
        self._is_over = False

    def __enter__(self):
        return self

    def __exit__(self, _kind, error, _trace):
        try:
            if error is None or isinstance(error, Stopped):
                if not self._is_over:
                    self.exchange(None)
            elif isinstance(error, UserError):
                for connection in self._connections.values():
                    connection.send_failure(str(error))
        finally:
            for connection in self._connections.values():
                connection.close()

    @property
    def count(self) -> int:
        """How many processes train together."""
        return len(self.cluster.addresses)

    @property
    def number(self) -> int:
        """Which of them this process is."""
        return self.cluster.number

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run directory, and decides where all must agree."""
        return self.number == 0

    def limit_waiting(self, seconds: float) -> None:
        """From now on the chief waits so long for each worker's part in an exchange.

        The others wait for the chief longer, by as many times as there are workers: it tells them who is silent.
        """
        for connection in self._connections.values():
            connection.wait_for(seconds if self.is_chief else seconds * self.count)

    def exchange(self, value: Any) -> list:
        """What every worker gave, by number, as JSON gives it back; comes when all of them have called it.

        Args:
            value: for JSON.

        Raises:
            UserError: a worker is gone or failed; Silent where one has not answered in the time of `limit_waiting`.
            Stopped: the chief has called `stop`.
        """
        if not self.is_chief:
            self._connections[0].send(value)
            try:
                return self._connections[0].receive()
            except Stopped:
                self._is_over = True
                raise
        values, silent = [json.loads(json.dumps(value))], []
        for number in range(1, self.count):
            try:
                values.append(self._connections[number].receive())
            except Silent:
                silent.append(number)
        if silent:
            raise Silent(" and ".join(map(self.cluster.name, silent)), self._connections[silent[0]].seconds or 0)
        for connection in self._connections.values():
            connection.send(values)
        return values

    def stop(self, reason: str) -> None:
        """Stops the work of all others, which the chief has saved; a silent one hears of it when it goes on.

        Args:
            reason: for the person at the terminal.
        """
        self._is_over = True
        for connection in self._connections.values():
            connection.send_stop(reason)

    def broadcast(self, value: Any) -> Any:
        """What the chief gave; argument and errors are those of `exchange`."""
        return self.exchange(value)[0]

    def error_of_lost(self, numbers: list[int]) -> UserError:
        """What to raise when TensorFlow has lost workers: the reason that one of them gave, or that it is gone.

        Args:
            numbers: of the lost workers; none where TensorFlow does not know.
        """
        for number in set(numbers) & self._connections.keys():
            self._connections[number].wait_for(_LAST_WORD_SECONDS)
            try:
                while True:
                    self._connections[number].receive()
            except Silent:
                hung = "does not answer any more; end it, and start all workers again with --resume"
                return Gone(self._connections[number].peer, hung)
            except UserError as error:
                return error
        others = numbers or [number for number in range(self.count) if number != self.number]
        return Gone(" or ".join(map(self.cluster.name, others)))

    def check_same(self, values: dict, advice: str) -> None:
        """Checks that all workers have the chief's values.

        Args:
            values: for JSON, by name.
            advice: what to do where they have not.

        Raises:
            UserError: names a worker and what differs, in every worker.
        """
        of_chief, *others = self.exchange(values)
        for number, theirs in enumerate(others, 1):
            if names := [name for name in {**of_chief, **theirs} if of_chief.get(name) != theirs.get(name)]:
                raise UserError(f"{self.cluster.name(number)} differs from the chief in {', '.join(names)}; {advice}")

    def broadcast_file(self, path: pathlib.Path | None) -> tuple[str, bytes] | None:
        """(path, content) of the chief's file, for workers that need not see its directory; None where it has none.

        Args:
            path: of the chief; that of another worker does not count.

        Raises:
            UserError: a worker is gone or failed.
        """
        name = self.broadcast(None if path is None else str(path))
        if name is None:
            return None
        if not self.is_chief:
            return name, self._connections[0].receive_bytes()
        content = pathlib.Path(name).read_bytes()
        for connection in self._connections.values():
            connection.send_bytes(content)
        return name, content


ALONE = Workers()
