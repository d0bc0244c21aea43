"""What a run directory holds."""

from tfpipeline.training import checkpoint, run_directory


def newest_step(directory):
    """The step of the newest checkpoint; 0 before the first."""
    found = checkpoint.newest_first(directory / run_directory.CHECKPOINTS)
    return checkpoint.step_of(found[0]) if found else 0


def files_of(directory):
    """(step, hash of the arrays, state) of the newest checkpoint."""
    newest = checkpoint.load_newest(directory / run_directory.CHECKPOINTS)
    return newest.step, checkpoint.sha256_of_arrays(newest.arrays), newest.state
