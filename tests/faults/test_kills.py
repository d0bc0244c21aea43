"""Every command is killed and stopped many times and run again: the folders hold what one undisturbed run leaves."""

import json
import os
import random
import re
import signal

import pytest

from tests.support.kills import End, changes_of, start
from tests.support.timm_wheel import write_timm_wheel
from tfpipeline.images import imagenet_names
from tfpipeline.system import Stopped

pytestmark = pytest.mark.slow

# `make test-kills` kills all commands so often; without it the quicker ones are killed a few times.
KILLS = int(os.environ.get("TFPIPELINE_KILLS", "0"))
FEW_KILLS = 3
INTERRUPTED = 130  # before there was anything to save
LONGEST_DELAY = 0.02  # Some changes take longer, such as those of TensorFlow's own writers.
SWEEP = """
[flags]
images = "shapes"
limit = 24
size = 16
labels = "labels"
network = "conv_classifier"
network_options = ["filters_per_layer=4", "hidden_dims=8"]
epochs = 1
batch_size = 8
save_every = "1"
[runs]
fast = { learning_rate = 2e-3 }
slow = { learning_rate = 1e-3 }
"""
IMAGES = "--images shapes --limit 24 --size 16 --cache cache"
NETWORK = "--network conv_classifier --network-options filters_per_layer=4 --network-options hidden_dims=8"
# In this order: each needs what those before it left.
COMMANDS = (
    f"label_imagenet64 {IMAGES} --teacher bundled --no-gate --shard-size 6 --batch-size 6 --out labels --quiet",
    f"label_quality {IMAGES} --labels labels --out quality --quiet",
    f"show_augmentation {IMAGES} --count 2 --epochs 2 --out augmentation.png --quiet",
    f"train {IMAGES} --labels labels {NETWORK} --epochs 2 --batch-size 8 --save-every 1 --hold-out 25% --mirror mirror "
    "--run run --resume --quiet",
    "evaluate --run run --cache cache --quiet",
    "report --run run --quiet",
    "export --labels labels --to csv --out csv --quiet",
    "export --labels labels --to tfrecord --out tfrecord --quiet",
    "export --run run --cache cache --to savedmodel --out savedmodel --quiet",
    f"export --labels labels {IMAGES} --to imagefolder --out imagefolder --quiet",
    f"predict --run run {IMAGES} --batch-size 6 --out predictions --quiet",
    "list_imagenet_classes --wheel timm.whl --out imagenet.csv",
)
LONG_COMMANDS = (
    "export --run run --cache cache --to litert --out network.tflite --quiet",
    f"compare_interpolations {IMAGES} --teacher bundled --sample 4 --rows 2 --out comparison --quiet",
    "experiment --sweep sweep.toml --out sweep --quiet",
    "demo --images 100 --validation-images 20 --epochs 2 --out demo",
    "train_bundled_teacher --images 60 --validation-images 12 --epochs 1 --out bundled --quiet",
    "cache --prune --days 0",
)
# They need onnx, onnxruntime and tokenizers.
OPTIONAL_COMMANDS = ("make_zero_shot_teacher --pair pair --classes names.txt --out teacher.onnx",)
TIMES = ("seconds", "images_per_second", "sha256")  # The last is a hash of the others, too.
# Made by TensorFlow, whose bytes are others each time: their names are compared.
OTHER_BYTES = tuple(
    f"{place}/{name}.pb" for place in ("savedmodel", "bundled") for name in ("saved_model", "fingerprint")
)
# How long it took, where a file says it among other things; the title of the picture does.
TIMED = {
    "report.html": rb"<dt>seconds of training</dt><dd>[\d,.]+</dd>",
    "table.md": rb"(?m) [\d,]+ \|$",
    "table.csv": rb"(?m),[\d,\"]+$",
    "bundled/README.md": rb"(?m)^\| (bytes|seconds).*$",
    "sweep/curves.png": rb"(?s).*",
}


def files_below(root):
    """Path -> content of all files below a directory, without times and process numbers; None for a directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.name == "verified.json":
            continue  # It is there once the images are some seconds old.
        if path.is_dir():
            found[name] = None
        elif path.name in ("lock", "clock.json") or name in OTHER_BYTES:
            found[name] = b""
        elif path.name == "figures.json":
            figures = json.loads(path.read_text())
            found[name] = {key: value for key, value in figures.items() if key not in TIMES}
        else:
            timed = next((pattern for end, pattern in TIMED.items() if name.endswith(end)), rb"(?!)")
            found[name] = re.sub(timed, b"", path.read_bytes())
    return found


def end(draw, line, root, changes, number):
    """Ends a command at a change of its files, or while the change is made; false where it was done before.

    SIGTERM and SIGINT it may hear when all is saved, or when its work is done.
    """
    delay = draw.uniform(0, LONGEST_DELAY) if draw.random() < 0.5 else 0
    (root.parent / f"{root.name}.said").unlink(missing_ok=True)
    child = start(line, root, End(draw.randint(1, changes), delay, number))
    child.ended()
    if number == signal.SIGKILL:
        assert child.exit_code in (-signal.SIGKILL, -signal.SIGALRM, 0), child.said()
    else:
        assert child.exit_code in (INTERRUPTED, Stopped.exit_code, 0), child.said()
        assert "Traceback" not in child.said(), child.said()
        assert child.exit_code == 0 or child.said().splitlines()[-1].startswith(f"{line.split()[0]}: "), child.said()
    return child.exit_code != 0


def check_kills(tmp_path, commands, prepare):
    """Kills each command many times, stops it by signals and runs it again, beside an undisturbed run.

    Args:
        tmp_path: an empty directory.
        commands: as of COMMANDS.
        prepare: writes what they read into a directory.
    """
    whole, killed, draw = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    for root in (whole, killed):
        root.mkdir()
        prepare(root)
    differing = {}
    for line in commands:
        first = start(line, whole)
        first.ended()
        assert first.exit_code == 0, first.said()
        all_changes, kills = changes_of(whole), 0
        changes = all_changes
        while kills < (KILLS or FEW_KILLS) and changes:
            if end(draw, line, killed, changes, signal.SIGKILL):
                kills += 1
            else:
                changes //= 2  # What is done already is not done again: there are fewer.
        for number in (signal.SIGTERM, signal.SIGINT) if KILLS else (draw.choice((signal.SIGTERM, signal.SIGINT)),):
            end(draw, line, killed, max(changes, 1), number)
        last = start(line, killed)
        last.ended()
        assert last.exit_code == 0, last.said()
        expected, found = files_below(whole), files_below(killed)
        different = [name for name in expected | found if expected.get(name, 0) != found.get(name, 0)]
        print(
            f"{line.split()[0]}: {kills} kills at the {all_changes} changes of its files, {len(different)} differ "
            f"{' '.join(different)}",
            flush=True,
        )
        if different:
            differing[line] = different
    assert differing == {}


def write_sweep_and_wheel(root):
    (root / "sweep.toml").write_text(SWEEP)
    write_timm_wheel(root / "timm.whl", imagenet_names(), imagenet_names())


@pytest.mark.long
def test_kills_of_each_command_leave_what_one_undisturbed_run_leaves(tmp_path):
    check_kills(tmp_path, COMMANDS + (LONG_COMMANDS if KILLS else ()), write_sweep_and_wheel)


def write_pair(root):
    from tests.support.tiny_pair import save_pair  # needs onnx and tokenizers

    save_pair(root / "pair")
    (root / "names.txt").write_text("cat\ndog\n")


@pytest.mark.extras
def test_kills_of_what_needs_optional_packages(tmp_path):
    check_kills(tmp_path, OPTIONAL_COMMANDS, write_pair)
