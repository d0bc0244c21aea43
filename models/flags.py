"""What decides the network, the update of its weights and what its answers are held to."""

import dataclasses
from typing import Literal

from tfpipeline.system import FlagError
from tfpipeline.system.flags import Flags, Range, flag

SHARE = Range(at_least=0, at_most=1)
NOT_NEGATIVE = Range(at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkFlags(Flags):
    """The network that learns, and what it begins with."""

    network: str = flag("fast_resnet", "a network of models/networks.py", metavar="NAME", experiment=True)
    network_options: tuple[str, ...] = flag(
        (), "key=value of the network; may be repeated", metavar="KEY=VALUE", experiment=True
    )
    init: str | None = flag(
        None,
        "begin with the weights of another run; of other classes the head is new (default: random weights)",
        metavar="RUN",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerFlags(Flags):
    """How the weights follow their gradients."""

    optimizer: Literal["adamw", "adam", "rmsprop", "sgd", "momentum", "muon"] = flag(
        "adamw",
        "how the weights follow their gradients; sgd has Nesterov's momentum, momentum plain; muon takes orthogonal "
        "steps with convolutions, each of which a normalization must follow, and those of sgd else",
        experiment=True,
    )
    learning_rate: float = flag(2e-3, "the highest learning rate", within=Range(above=0), experiment=True)
    schedule: Literal["cosine", "triangular", "restarts", "cyclical", "constant"] = flag(
        "cosine",
        "how the learning rate falls; more epochs can follow all but cosine and triangular",
        experiment=True,
    )
    warmup_epochs: float = flag(
        1.0,
        "epochs in which it rises, for cosine and triangular; at most a fifth of all",
        within=NOT_NEGATIVE,
        experiment=True,
    )
    lowest_learning_rate: float = flag(1e-5, "the learning rate between cycles, for cyclical", experiment=True)
    cycle_steps: int = flag(
        800,
        "steps from the lowest learning rate to the highest, for cyclical",
        metavar="STEPS",
        within=Range(at_least=1),
        experiment=True,
    )
    cycle_growth: int = flag(
        1,
        "by what each cycle is longer than the one before, for cyclical",
        metavar="FACTOR",
        within=Range(at_least=1),
        experiment=True,
    )
    weight_decay: float = flag(0.01, "decoupled decay of the weights, for adamw", within=NOT_NEGATIVE, experiment=True)
    momentum: float = flag(
        0.9, "for sgd, momentum and muon; 0 for none", within=Range(at_least=0, below=1), experiment=True
    )
    bias_factor: float = flag(
        1.0,
        "the learning rate of biases is so many times --learning-rate, for sgd, momentum and muon",
        within=Range(above=0),
    )
    clip_norm: float | None = flag(
        None, "the largest norm of all gradients together", metavar="NORM", within=Range(above=0), experiment=True
    )
    ema: float = flag(
        0.0,
        "share that the moving average of the weights keeps at each step, such as 0.999; 0 for none",
        within=Range(at_least=0, below=1),
        experiment=True,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.bias_factor != 1 and self.optimizer not in ("sgd", "momentum", "muon"):
            raise FlagError(f"--bias-factor is for sgd, momentum and muon; --optimizer {self.optimizer} has none")
        if self.schedule == "cyclical" and not 0 <= self.lowest_learning_rate <= self.learning_rate:
            raise FlagError(
                f"--lowest-learning-rate is {self.lowest_learning_rate}; it must be from 0 to --learning-rate"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ObjectiveFlags(Flags):
    """What the network's answers are held to."""

    targets: Literal["soft", "hard"] = flag(
        "soft", "of the teacher's answers learn the probabilities, or the first class alone", experiment=True
    )
    temperature: float = flag(
        1.0, "T at which the teacher's answers are learned", within=Range(above=0), experiment=True
    )
    truth_weight: float = flag(
        0.0, "share of the loss that the truth has beside the teacher, 0..1", within=SHARE, experiment=True
    )
    label_smoothing: float = flag(
        0.0, "of the truth and of hard targets, 0..1", within=Range(at_least=0, below=1), experiment=True
    )
    confidence_threshold: float = flag(
        0.0,
        "answers whose highest probability is below P do not count in the loss; 0 for none",
        metavar="P",
        within=SHARE,
        experiment=True,
    )
    class_balance: float = flag(
        0.0,
        "samples count by (images of their class)^-BETA, in the mean 1; BETA in 0..1, 0 for none",
        metavar="BETA",
        within=SHARE,
        experiment=True,
    )
    l2: float = flag(
        0.0, "lambda of lambda/2 |w|^2, added to the loss for every kernel", within=NOT_NEGATIVE, experiment=True
    )
