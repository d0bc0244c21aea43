"""The labeling plan on Apache Beam: the missing shards are the elements of a pipeline."""

import contextlib
import difflib
import importlib
import io
import threading
from collections.abc import Sequence

from labeling.labels import Span
from labeling.work.distributed import Engine, GiveUp
from labeling.work.labeler import SAVED
from labeling.work.shard_worker import Plan, Worker
from tfpipeline.system import FlagError, UserError

try:
    import apache_beam as beam
    import grpc
    from apache_beam.options.pipeline_options import (
        PipelineOptions,
        PortableOptions,
        StandardOptions,
        TypeOptions,
        WorkerOptions,
    )
    from apache_beam.utils.shared import Shared
except ImportError as error:
    raise UserError(f"--runner beam needs apache-beam ({error}): pip install 'apache-beam>=2.77,<3'") from error

_LOCAL_WORKER = "run_worker"  # how DirectRunner names the threads that wait for its worker processes
_YEAR = 365 * 24 * 60 * 60


class LabelShard(beam.DoFn):
    """(first, last) -> nothing, but a shard in the label store."""

    def __init__(self, plan: Plan):
        self._plan, self._shared = plan, Shared()

    def setup(self) -> None:
        """Loads the teachers once for all threads of a worker process."""
        self._worker = self._shared.acquire(lambda: Worker(self._plan))

    def process(self, span: tuple[int, int]) -> None:
        """Labels one span."""
        self._worker.label(Span(*span))


def options_of(given: Sequence[str]) -> PipelineOptions:
    """Beam's own options.

    Args:
        given: each "NAME=VALUE", or "NAME" of a switch; the dashes before it, as Beam's documents write them, may stay.

    Raises:
        FlagError: Beam has no such option, or refuses its value, or a package is missing that the runner needs.
    """
    options = PipelineOptions(["--" + option.removeprefix("--") for option in given])
    _import_runner(options.view_as(StandardOptions))
    known = PipelineOptions([]).get_all_options()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
        except SystemExit as end:  # Beam reads its options with argparse.
            raise FlagError(f"--beam-option: {said.getvalue().splitlines()[-1].partition('error: ')[2]}") from end
    for name in sorted(unknown):
        similar = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {similar[0]}?" if similar else ""
        raise FlagError(f"--beam-option {name}: Apache Beam {beam.__version__} has no such option{hint}")
    # Without this DirectRunner tries Prism first, which downloads a program and does not heed direct_num_workers.
    options.view_as(TypeOptions).allow_unsafe_triggers = True
    logs = options.view_as(WorkerOptions)
    logs.default_sdk_harness_log_level = logs.default_sdk_harness_log_level or "ERROR"
    _mend(options.view_as(PortableOptions))
    return options


def _import_runner(options):
    """Imports what has options that Beam knows only then, and gives it the name by which Beam finds it."""
    name = options.runner or ""
    if name.lower().endswith("daskrunner"):
        try:
            runner = importlib.import_module("apache_beam.runners.dask.dask_runner").DaskRunner
            importlib.import_module("distributed")
        except ImportError as error:
            raise FlagError(
                f"--beam-option runner={name} needs dask ({error}): pip install 'distributed>=2024.4.2'"
            ) from error
        options.runner = f"{runner.__module__}.{runner.__qualname__}"


def _mend(options):
    """Works around two faults of Beam 2.77.

    - It reads external_service_address, which its documents advise, only after a look into environment_config, where
      None makes it fail.
    - It ends a healthy job job_server_timeout after its start, although its help says otherwise.
    """
    address = options.lookup_environment_option("external_service_address")
    if address and (options.environment_type or "").upper() == "EXTERNAL" and not options.environment_config:
        options.environment_config, options.environment_options = address, None
    if options.job_server_timeout == PipelineOptions([]).view_as(PortableOptions).job_server_timeout:
        options.job_server_timeout = _YEAR


def open_engine(given: Sequence[str]) -> Engine:
    """The engine that labels by a pipeline with the options of `options_of`.

    Raises:
        FlagError: as `options_of`; or an option is missing, or a package, that the runner needs.
    """

    def open_pipeline():
        try:
            return beam.Pipeline(options=options_of(given))
        except (ValueError, ImportError) as error:
            raise FlagError(f"--beam-option: {error}") from error

    def run(plan: Plan, spans: Sequence[Span], give_up: GiveUp) -> None:
        pipeline = open_pipeline()
        elements = [tuple(span) for span in spans]  # Beam has a coder of its own for named tuples.
        pipeline | beam.Create(elements) | beam.Reshuffle() | "Label" >> beam.ParDo(LabelShard(plan))
        with _report_dead_workers(give_up):
            try:
                _wait_for(pipeline.run())
            except Exception as error:  # Each runner hands over in its own way what a worker raised.
                raise UserError(f"Beam gave up ({_cause(error)})") from error

    open_pipeline()
    return run


def _wait_for(result):
    """Waits until a pipeline is done; one that fails, or is interrupted, is canceled, where its runner can do so."""
    try:
        result.wait_until_finish()
    except BaseException:
        with contextlib.suppress(Exception):
            result.cancel()
        raise


def _cause(error):
    """The line of a worker's traceback that tells what happened: Beam marks it, and its own troubles may follow."""
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return f"its job server: {error.code().name}, {error.details()}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return next((line for line in reversed(lines) if "[while running" in line), lines[-1])


@contextlib.contextmanager
def _report_dead_workers(give_up):
    """A context in which the death of one of DirectRunner's worker processes, for which it would wait for ever, counts.

    Beam tells of it only by an exception in a thread of its own.
    """

    def hear(failure):
        if failure.thread and failure.thread.name == _LOCAL_WORKER:
            give_up(
                UserError(
                    f"a worker process of Beam died ({failure.exc_value}; -9 and 137 often mean that memory ran out); "
                    f"{SAVED}; run the same command again, perhaps with fewer workers, to go on"
                )
            )
        else:
            previous(failure)

    previous, threading.excepthook = threading.excepthook, hear
    try:
        yield
    finally:
        threading.excepthook = previous
