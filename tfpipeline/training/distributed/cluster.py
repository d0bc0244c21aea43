"""The processes that train together, as the variable TF_CONFIG names them."""

import dataclasses
import json
from collections.abc import Mapping

from tfpipeline.system import FlagError

EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

_LONGEST = 1000  # Characters of it that a message repeats.


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Who trains together; by default a process on its own.

    Attributes:
        addresses: HOST:PORT of each process, worker 0's, the chief's, first.
        number: which of them this process is.
    """

    addresses: tuple[str, ...] = ("",)
    number: int = 0

    def name(self, number: int) -> str:
        """A worker, for the person at the terminal."""
        return f"worker {number} at {self.addresses[number]}"


def read_cluster(environment: Mapping[str, str]) -> Cluster:
    """The cluster that TF_CONFIG describes, as TensorFlow and the schedulers of clusters write it.

    Args:
        environment: such as os.environ; a job "chief" counts before the job "worker".

    Raises:
        FlagError: TF_CONFIG is missing or malformed.
    """
    text = environment.get("TF_CONFIG", "")
    if not text:
        raise FlagError(f"--strategy multi_worker: TF_CONFIG is not set; give each worker its own, such as {EXAMPLE}")
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FlagError(f"TF_CONFIG is {text[:_LONGEST]}: {error}; write for example {EXAMPLE}") from error
    except KeyError as error:
        raise FlagError(f"TF_CONFIG is {text[:_LONGEST]}: it has no {error}; write for example {EXAMPLE}") from error


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of HOST:PORT.

    Raises:
        ValueError: the address has another form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address} is not HOST:PORT")
    return host, int(port)


def _whole_number(index):
    """Some schedulers write it as a text; of 0.5 and true, int() would make a number that nobody wrote."""
    if type(index) is float and index.is_integer():
        return int(index)
    if type(index) is int or (type(index) is str and index.isdecimal()):
        return int(index)
    raise ValueError(f"the index of the task is {json.dumps(index)}, which is no number of a worker")


def _parse(config):
    jobs, kind, index = config["cluster"], config["task"]["type"], _whole_number(config["task"]["index"])
    if others := jobs.keys() - {"chief", "worker"}:
        raise ValueError(f"{', '.join(sorted(others))} has no part in this training, only chief and worker")
    chiefs, workers = jobs.get("chief", []), jobs.get("worker", [])
    for address in [*chiefs, *workers]:
        host_and_port(address)
    if len({*chiefs, *workers}) < len(chiefs) + len(workers):
        raise ValueError("an address is there twice")
    if not 0 <= index < len(jobs.get(kind, [])):
        raise ValueError(f"the cluster has no {kind} {index}")
    return Cluster((*chiefs, *workers), index + (len(chiefs) if kind == "worker" else 0))
