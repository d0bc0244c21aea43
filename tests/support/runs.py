"""What a run directory holds."""

from tfpipeline.training import checkpoint, run_directory


def files_of(directory):
    """(step, hash of the arrays, state) of the newest checkpoint."""
    newest = checkpoint.load_newest(directory / run_directory.CHECKPOINTS)
    return newest.step, checkpoint.sha256_of_arrays(newest.arrays), newest.state
