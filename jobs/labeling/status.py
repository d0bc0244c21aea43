"""What a label store holds, read without its teachers and images."""

from labeling.labels import LabelStore, open_labels, verification
from tfpipeline.system import Console, print_figures


def print_status(out: str) -> dict:
    """Prints what is on disk, and returns the figures.

    Args:
        out: the directory of the labels.
    """
    store = open_labels(out)
    status = verification.status(store)
    for path, problem in status.damaged.items():
        print(f"{path.name} {problem}")
    figures = {"images": store.spec.count, **status.figures()}
    print_figures(figures)
    adaptation = store.spec.adaptation
    return {**figures, "adapt": None if adaptation is None else adaptation.method, "out": out}


def is_work_left(store: LabelStore, repair: bool, console: Console) -> bool:
    """Whether images have no labels, having said how many.

    Args:
        store: the labels.
        repair: whether to set damaged shards aside.
        console: where it is said.
    """
    status = verification.status(store)
    for path, problem in status.damaged.items():
        fate = "is set aside" if repair else "is not used (--repair sets it aside)"
        console.say(f"{path} {problem}; it {fate}, and its range is labeled again")
    if repair:
        verification.set_aside(status)
    left = status.figures()["missing"]
    count = f"{store.spec.count:,} images"
    console.say(
        f"{store.directory}: " + (f"{left:,} of {count} are left to label" if left else f"all {count} are labeled")
    )
    return bool(left)
