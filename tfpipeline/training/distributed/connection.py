"""Lines of JSON, and bytes, between two processes, and how it is noticed that one of them is gone."""

import contextlib
import json
import socket
from typing import Any

from tfpipeline.system import Stopped, UserError

# With these a machine that vanished is missed after 30 seconds, whether it owes an answer or an acknowledgment (in ms);
# a process that ends is missed at once.
_KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
_PIECE = 1 << 20
LONGEST_MESSAGE = 1 << 24  # Bytes of a line; what workers tell each other is far shorter.


class Gone(UserError):
    """A worker has ended without a word."""

    def __init__(
        self, peer: str, how: str = "is gone; see what it said last, and start all workers again with --resume"
    ):
        super().__init__(f"{peer} {how}")


class Silent(Gone):
    """A worker has not answered in time, for all its machine says that it lives."""

    def __init__(self, peer: str, seconds: float):
        how = f"has not answered for {seconds:,g} seconds: it hangs, or needs longer, for which --worker-timeout is"
        super().__init__(peer, how)


class Connection:
    """Lines of JSON, and bytes, to and from another process.

    Args:
        connected: a TCP socket; closed with the connection.
        peer: who is at its other end, for the person at the terminal.
        seconds: how long to wait for the peer before it counts as gone; None as long as its machine answers.
    """

    def __init__(self, connected: socket.socket, peer: str, seconds: float | None = None):
        self.peer, self._socket = peer, connected
        self.wait_for(seconds)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # Not every system has all of them.
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._file = connected.makefile("rwb")

    def wait_for(self, seconds: float | None) -> None:
        """Sets how long to wait for the peer from now on."""
        self.seconds = seconds
        self._socket.settimeout(seconds)

    def send(self, value) -> None:
        """Sends a value, for JSON; raises Gone."""
        self._write(json.dumps({"value": value}).encode() + b"\n")

    def send_failure(self, reason: str) -> None:
        """Makes the peer's next `receive` fail; one that is gone needs no reason."""
        with contextlib.suppress(Gone):
            self._write(json.dumps({"failure": reason}).encode() + b"\n")

    def send_stop(self, reason: str) -> None:
        """Makes the peer's next `receive` stop its work, which is saved; one that is gone needs no reason."""
        with contextlib.suppress(Gone):
            self._write(json.dumps({"stop": reason}).encode() + b"\n")

    def receive(self) -> Any:
        """The value that the peer sent.

        Raises:
            Gone: it has ended; Silent where it has not answered in time.
            UserError: with the reason that `send_failure` gave.
            Stopped: with the reason that `send_stop` gave.
        """
        try:
            message = json.loads(self._file.readline(LONGEST_MESSAGE))
            if "value" in message:
                return message["value"]
            if "stop" in message:
                raise Stopped(message["stop"])
            reason = message["failure"]
        except TimeoutError as error:
            raise Silent(self.peer, self.seconds or 0) from error
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Gone(self.peer) from error
        raise UserError(f"{self.peer} failed: {reason}")

    def send_bytes(self, content: bytes) -> None:
        """Sends bytes; raises Gone."""
        self.send(len(content))
        self._write(content)

    def receive_bytes(self) -> bytes:
        """The bytes that the peer sent; raises as `receive` does."""
        count, pieces = self.receive(), []
        while count > 0:  # Piece by piece: a count alone takes no memory.
            try:
                piece = self._file.read(min(count, _PIECE))
            except OSError as error:
                raise Gone(self.peer) from error
            if not piece:
                raise Gone(self.peer)
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Ends the connection."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def _write(self, content):
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise Gone(self.peer) from error
