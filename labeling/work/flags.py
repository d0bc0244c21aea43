"""How the work of labeling is done."""

import dataclasses
from typing import Literal

from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, Range, flag

Runtime = Literal["tensorflow", "openvino"]
Precision = Literal["float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkFlags(Flags):
    """Who computes the answers, and how."""

    precision: Precision = flag("float32", "arithmetic of the teachers; bfloat16 is faster where a processor has it")
    runtime: Literal["auto", Runtime] = flag(
        "auto", "what computes the answers; auto measures, where the work is long, which is fastest"
    )
    batch_size: int | None = flag(
        None,
        "images that the teacher answers at a time (default: measured with the runtime, or 64)",
        metavar="N",
        within=Range(at_least=1),
    )
    runner: Literal["local", "beam", "ray"] = flag(
        "local", "who labels: this process, or the workers of Apache Beam or Ray"
    )
    beam_option: tuple[str, ...] = flag(
        (),
        "an option of Beam's own with --runner beam, such as direct_num_workers=2; may be repeated",
        metavar="NAME=VALUE",
    )
    worker_cores: int | None = flag(
        None,
        "cores of each worker with --runner ray (default: those of the smallest machine)",
        metavar="N",
        within=Range(at_least=1),
    )
    worker_timeout: int = flag(
        600,
        "seconds without an answer of any worker of --runner beam or ray, after which what is left goes to others",
        metavar="SECONDS",
        within=Range(at_least=1),
    )
    no_gate: bool = flag(False, "label even if the teacher seems to be fed wrongly")

    def __post_init__(self):
        super().__post_init__()
        if self.beam_option and self.runner != "beam":
            raise FlagError(f"--beam-option {self.beam_option[0]} is for --runner beam; give both or neither")
        if self.worker_cores is not None and self.runner != "ray":
            raise FlagError(f"--worker-cores {self.worker_cores} is for --runner ray; give both or neither")
