"""A billion images labeled by a thousand preemptible workers that fail: which shard size loses the least?

    python -m benchmarks.scaling_simulation

A discrete-event simulation of the labeling plan, one event per shard, from a seed. A worker starts, sets itself up, and
labels one shard after the other. A shard counts when its file is renamed into place, and not before: what a worker was
at when it was preempted, or could not write, is labeled again by whoever takes it next.

What is assumed, all in `Assumptions`:

- A worker labels 100 images/s in the median (2 cores and a MobileNetV2 at 224 pixels; docs/scaling.md says what was
  measured). Rates spread by 10 %, and one worker in a hundred is a straggler at a third of its rate, for its lifetime:
  who takes the place of a preempted worker draws its own rate.
- Preemptions come to each worker by themselves, at a constant rate per hour. A replacement comes after 5 minutes in
  the mean (exponential), and every start costs 90 s for the container, the teacher and the image store.
- It takes 60 s until somebody notices that a preempted worker's shard is free again.
- Writing a shard takes 0.2 s, and fails once in a thousand times, after which the whole shard is labeled again.
- A worker that is done takes the next free shard, whichever it is ("pull": processes that share a directory by claims,
  Dataflow). "even" hands all shards out beforehand and is shown for comparison (Flink, Spark): there every straggler is
  waited for.
- Reading images and writing labels have no limit in common: the storage keeps up with all workers together.
- Nothing else is simulated: no outage of the storage or of the machine that started the work, and no duplicate work at
  the end, because the labeler does none.

Printed for each shard size and preemption rate:

- hours: until the last shard is there.
- useful: the share of the paid time that went into labels which count. Paid is a worker from its start until it is
  preempted or until the end; the wait for its replacement is not.
- relabeled: images that were labeled more than once or in vain, as a share of all images.
- worker-hours: what is paid; the price is worker-hours x price of a worker-hour.
- lost: images without labels in the end. It is 0 by construction, and counted.

The last line is one JSON object with the same figures.
"""

import collections
import dataclasses
import heapq
import json
import random

SHARD_SIZES = (1024, 4096, 16_384, 65_536, 262_144)
PREEMPTIONS_PER_HOUR = (0.0, 0.05, 0.25, 1.0)
HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """One case. Times are in seconds, rates of a worker in images per second."""

    images: int = 1_000_000_000
    workers: int = 1000
    shard_size: int = 4096
    preemptions_per_hour: float = 0.25
    images_per_second: float = 100.0
    rate_spread: float = 0.1
    stragglers: float = 0.01
    straggler_rate: float = 1 / 3
    setup_seconds: float = 90.0
    replacement_seconds: float = 300.0
    notice_seconds: float = 60.0
    write_seconds: float = 0.2
    write_failures: float = 0.001
    even: bool = False
    seed: int = 0

    def images_in(self, shard: int) -> int:
        """How many images a shard holds; the last one has what is left."""
        return min(self.shard_size, self.images - shard * self.shard_size)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        seconds: until the last shard was written.
        paid_seconds: of all workers.
        useful_seconds: of those, what went into labeling and writing the shards that count.
        relabeled: images that were labeled in vain, as far as their worker had come.
        written: how many times each shard was written.
    """

    seconds: float
    paid_seconds: float
    useful_seconds: float
    relabeled: float
    written: bytearray


class Simulation:
    """The workers, the free shards, and the events that are still to come."""

    def __init__(self, case: Assumptions):
        self.case, self.random = case, random.Random(case.seed)
        self.shards = -(-case.images // case.shard_size)
        queues = case.workers if case.even else 1
        self.free = [collections.deque(range(first, self.shards, queues)) for first in range(queues)]
        self.idle = [[] for _ in self.free]
        self.written = bytearray(self.shards)
        self.left = self.shards
        self.useful = self.relabeled = self.paid = 0.0
        self.started, self.preempted, self.rate = ([0.0] * case.workers for _ in range(3))
        self.events = []  # (time, order, function, arguments): the order decides between events at the same time.
        self.order = 0

    def run(self) -> Outcome:
        """Plays all events until no shard is left."""
        for worker in range(self.case.workers):
            self._start(0.0, worker)
        now = 0.0
        while self.left:
            now, _, happens, arguments = heapq.heappop(self.events)
            happens(now, *arguments)
        running = sum(max(min(now, end) - start, 0.0) for start, end in zip(self.started, self.preempted, strict=True))
        return Outcome(now, self.paid + running, self.useful, self.relabeled, self.written)

    def _later(self, time, happens, *arguments):
        self.order += 1
        heapq.heappush(self.events, (time, self.order, happens, arguments))

    def _start(self, now, worker):
        """A machine starts, with its own rate and its own end."""
        case, draw = self.case, self.random
        straggles = draw.random() < case.stragglers
        self.rate[worker] = case.images_per_second * draw.lognormvariate(0, case.rate_spread)
        self.rate[worker] *= case.straggler_rate if straggles else 1
        self.started[worker] = now
        per_second = case.preemptions_per_hour / HOUR
        self.preempted[worker] = now + draw.expovariate(per_second) if per_second else float("inf")
        self._then(now + case.setup_seconds, worker, self._take)

    def _then(self, time, worker, happens, *arguments):
        """`happens` at a time, unless the worker is preempted before."""
        if time < self.preempted[worker]:
            self._later(time, happens, worker, *arguments)
        else:
            self._later(self.preempted[worker], self._preempt, worker, *arguments)

    def _preempt(self, now, worker, shard=None, begun=None):
        """The machine is taken away. What it was at is free again as soon as somebody notices."""
        self.paid += now - self.started[worker]
        if shard is not None:
            self.relabeled += min((now - begun) * self.rate[worker], self.case.images_in(shard))
            self._later(now + self.case.notice_seconds, self._release, shard)
        wait = self.case.replacement_seconds
        self._later(now + (self.random.expovariate(1 / wait) if wait else 0.0), self._start, worker)

    def _take(self, now, worker):
        """The worker begins the next free shard, or is idle until one is released."""
        queue = worker % len(self.free)
        if not self.free[queue]:
            self.idle[queue].append(worker)
            self._later(self.preempted[worker], self._preempt_idle, worker)
            return
        shard = self.free[queue].popleft()
        seconds = self.case.images_in(shard) / self.rate[worker] + self.case.write_seconds
        self._then(now + seconds, worker, self._write, shard, now)

    def _write(self, now, worker, shard, begun):
        """The worker has labeled a shard and tries to write it."""
        if self.random.random() < self.case.write_failures:
            self.relabeled += self.case.images_in(shard)
            self._release(now, shard)
        else:
            self.written[shard] += 1
            self.left -= 1
            self.useful += now - begun
        self._take(now, worker)

    def _preempt_idle(self, now, worker):
        """The machine is taken away, unless it has found work in the meantime."""
        idle = self.idle[worker % len(self.free)]
        if worker in idle:
            idle.remove(worker)
            self._preempt(now, worker)

    def _release(self, now, shard):
        """A shard is free again, and an idle worker takes it."""
        queue = shard % len(self.free)
        self.free[queue].append(shard)
        if self.idle[queue]:
            self._take(now, self.idle[queue].pop())


def figures(case: Assumptions) -> dict:
    """The figures of a case."""
    outcome = Simulation(case).run()
    lost = sum(case.images_in(shard) for shard, times in enumerate(outcome.written) if not times)
    return {
        "shard_size": case.shard_size,
        "preemptions_per_hour": case.preemptions_per_hour,
        "handed_out": "even" if case.even else "pull",
        "hours": round(outcome.seconds / HOUR, 3),
        "useful": round(outcome.useful_seconds / outcome.paid_seconds, 4),
        "relabeled": round(outcome.relabeled / case.images, 5),
        "worker_hours": round(outcome.paid_seconds / HOUR, 1),
        "lost": lost,
    }


def main() -> None:
    """Prints a line per case, and the figures."""
    cases = [
        Assumptions(shard_size=size, preemptions_per_hour=rate) for rate in PREEMPTIONS_PER_HOUR for size in SHARD_SIZES
    ]
    cases += [Assumptions(even=True, preemptions_per_hour=rate) for rate in PREEMPTIONS_PER_HOUR]
    print("preemptions/h     shard  given    hours   useful  relabeled worker-hours  lost")
    table = []
    for case in cases:
        row = figures(case)
        table.append(row)
        print(
            f"{row['preemptions_per_hour']:13} {row['shard_size']:9,} {row['handed_out']:>6} {row['hours']:8.2f} "
            f"{row['useful']:8.1%} {row['relabeled']:10.2%} {row['worker_hours']:12,.0f} {row['lost']:5}",
            flush=True,
        )
    print(json.dumps({"images": cases[0].images, "workers": cases[0].workers, "table": table}))


if __name__ == "__main__":
    main()
