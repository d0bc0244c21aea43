"""A PyTorch user's way: the export that docs/teachers.md shows, labels, a student; the answers are PyTorch's own."""

import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from jobs import command, label_imagenet64, predict, train
from labeling.labels import open_labels
from labeling.teachers.conventions import probe_pictures
from labeling.teachers.teacher import load_teacher
from tests.support.images import store_of
from tests.support.repository import ROOT
from tests.support.tiny_teachers import log_softmax

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peers

# Of inception-like models of timm: not the one that PyTorch's files are taken to want where nothing is said.
CONFIG = {"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "license": "apache-2.0"}
# By the size of a network: its range, and how pictures of 64 pixels become so large, as TensorFlow has it, too.
FED = {32: ("tf", "area"), 224: ("torch", "bilinear")}
LIMIT = 24


def small_residual_network(*_, **__):
    """A small network with statistics of its own, and what timm says of its pixels."""

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8))
            self.inner = torch.nn.Conv2d(8, 8, 3, padding=1, groups=2)
            self.head = torch.nn.Linear(8, 12)

        def forward(self, images):
            images = torch.nn.functional.gelu(self.stem(images))
            images = torch.nn.functional.silu(self.inner(images)) + images
            return 4 * self.head(images.mean((2, 3)))

    model = Residual()
    with torch.no_grad():
        model(torch.randn(64, 3, 32, 32))  # Moves the statistics of the normalization.
    model.pretrained_cfg = CONFIG
    return model


def network_of_timm(name, pretrained):
    """timm's own network of that name, whose weights are random: its published ones are not at hand."""
    del pretrained
    timm = import_timm()
    model = timm.create_model(name, pretrained=False)
    with torch.no_grad():
        model.get_classifier().weight *= 20  # As it begins it answers much the same to every image.
    return model


def import_timm():
    """timm, also where torchvision, which it imports, was built for another torch: then it lacks its operations."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):  # which no classifier calls
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return pytest.importorskip("timm")


@pytest.fixture(scope="module", params=[small_residual_network, network_of_timm])
def network(request):
    """What the lines of the document call, made once: they and the tests get the same network."""
    torch.manual_seed(0)
    return request.param("resnet18", pretrained=True)


@pytest.fixture(scope="module")
def place(network, tmp_path_factory):
    """A folder in which the lines of the document were run."""
    directory = tmp_path_factory.mktemp("place")
    (lines,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/teachers.md").read_text(), re.MULTILINE | re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "timm", types.SimpleNamespace(create_model=lambda *_, **__: network))
        patch.chdir(directory)
        exec(compile(lines, "docs/teachers.md", "exec"), {})
    return directory


def answers_of(network, pixels):
    """log p of PyTorch for pixels in 0..255, (B, H, W, 3)."""
    mean, deviation = (np.array(network.pretrained_cfg[name]) for name in ("mean", "std"))
    images = torch.tensor(((np.asarray(pixels) / 255 - mean) / deviation).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        return log_softmax(network.eval()(images).numpy())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_exported_model_answers_as_pytorch_does(network, place):
    teacher = load_teacher(str(place / "resnet18" / "model.onnx"))
    size = network.pretrained_cfg["input_size"][1]
    assert f"{size}x{size} pixels in the range {FED[size][0]} (its config.json says so), logits over" in teacher.note
    pictures = probe_pictures(size)
    np.testing.assert_allclose(teacher.log_probs(pictures), answers_of(network, pictures), atol=1e-4)


def run(job, *argv):
    return job.run(command.parse(job.Config, [*map(str, argv), "--quiet"], "job", ""))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_labels_are_pytorchs_answers_and_a_student_learns_from_them(network, place):
    images = ["--images", "shapes", "--limit", LIMIT, "--cache", place / "cache"]
    size = network.pretrained_cfg["input_size"][1]
    method = FED[size][1]
    teacher = ["--teacher", place / "resnet18" / "model.onnx", "--interpolation", method, "--no-gate"]
    figures = run(label_imagenet64, *images, *teacher, "--top-k", 12, "--out", place / "labels")
    pixels = store_of("shapes", limit=LIMIT, cache=place / "cache").images[:]
    expected = answers_of(network, tf.image.resize(pixels, (size, size), method))
    assert figures["mean_top_probability"] == pytest.approx(np.exp(expected).max(1).mean(), abs=1e-4)
    stored = open_labels(place / "labels").read_all().view(0)
    np.testing.assert_array_equal(stored.top_k[:, 0], expected.argmax(1))
    np.testing.assert_allclose(stored.log_probs, np.take_along_axis(expected, stored.top_k.astype(int), 1), rtol=1e-3)
    small = ["--network", "patchify_net", "--network-options", "patch_size=16", "--network-options", "hidden=4"]
    run(train, *images, "--labels", place / "labels", "--run", place / "run", *small, "--epochs", 1)
    answered = run(predict, "--run", place / "run", "--images", "shapes", "--limit", LIMIT, "--cache", place / "cache")
    assert answered["images"] == LIMIT
