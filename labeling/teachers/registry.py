"""Published classifiers of ImageNet by short names, with what their pages say of them.

The pages are those of tfhub.dev (github.com/tensorflow/tfhub.dev, assets/docs). All of these take pixels in 0..1 and
answer logits: the input range of TF-Hub's modules "has been fixed to [0,1]" (github.com/tensorflow/hub/issues/92). That
holds for BiT, too, which was trained on -1..1: its modules "do the conversion internally"
(github.com/google-research/big_transfer/issues/16).

Keras Applications have the names that Keras gives them, keras:NAME; labeling/teachers/keras_models.py says how each is
fed.
"""

import dataclasses
import re

from labeling.teachers.flags import InputRange
from tfpipeline.system import UserError

HUB, KAGGLE = "hub:", "kaggle:"
HOST = "https://tfhub.dev/"
RANGE: InputRange = "0..1"
BACKGROUND_AND_CLASSES, CLASSES = 1001, 1000


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A published classifier.

    Attributes:
        name: its short name, after "hub:".
        path: of its handle, after HOST.
        kaggle: the same network's handle on Kaggle, after "kaggle:"; None where it is not known.
        size: height and width of its input, in pixels; None when its page does not say.
        outputs: length of a row of its logits: BACKGROUND_AND_CLASSES, where output 0 is no class, or CLASSES.
    """

    name: str
    path: str
    kaggle: str | None
    size: int | None
    outputs: int = BACKGROUND_AND_CLASSES

    @property
    def handle(self) -> str:
        """What tensorflow_hub resolves."""
        return HOST + self.path


CLASSIFIERS = {
    each.name: each
    for each in (
        Classifier(
            "mobilenet_v2",
            "google/tf2-preview/mobilenet_v2/classification/4",
            "google/mobilenet-v2/tensorFlow2/tf2-preview-classification/4",
            224,
        ),
        Classifier(
            "mobilenet_v2_140",
            "google/imagenet/mobilenet_v2_140_224/classification/5",
            "google/mobilenet-v2/tensorFlow2/140-224-classification/2",
            224,
        ),
        Classifier(
            "mobilenet_v3_large",
            "google/imagenet/mobilenet_v3_large_100_224/classification/5",
            "google/mobilenet-v3/tensorFlow2/large-100-224-classification/1",
            224,
        ),
        Classifier(
            "inception_v3",
            "google/tf2-preview/inception_v3/classification/4",
            "google/inception-v3/tensorFlow2/classification/2",
            299,
        ),
        Classifier(
            "inception_resnet_v2",
            "google/imagenet/inception_resnet_v2/classification/5",
            "google/inception-resnet-v2/tensorFlow2/classification/2",
            299,
        ),
        Classifier(
            "resnet_50",
            "tensorflow/resnet_50/classification/1",
            "tensorflow/resnet-50/tensorFlow2/classification/1",
            224,
        ),
        Classifier(
            "resnet_v2_50",
            "google/imagenet/resnet_v2_50/classification/5",
            "google/resnet-v2/tensorFlow2/50-classification/2",
            224,
        ),
        Classifier(
            "resnet_v2_152",
            "google/imagenet/resnet_v2_152/classification/5",
            "google/resnet-v2/tensorFlow2/152-classification/2",
            224,
        ),
        Classifier("nasnet_large", "google/imagenet/nasnet_large/classification/5", None, 331),
        Classifier(
            "efficientnet_v2_b0",
            "google/imagenet/efficientnet_v2_imagenet1k_b0/classification/2",
            "google/efficientnet-v2/tensorFlow2/imagenet1k-b0-classification/2",
            224,
        ),
        Classifier("efficientnet_v2_b3", "google/imagenet/efficientnet_v2_imagenet1k_b3/classification/2", None, 300),
        Classifier(
            "efficientnet_v2_s",
            "google/imagenet/efficientnet_v2_imagenet1k_s/classification/2",
            "google/efficientnet-v2/tensorFlow2/imagenet1k-s-classification/2",
            384,
        ),
        Classifier(
            "efficientnet_v2_m",
            "google/imagenet/efficientnet_v2_imagenet1k_m/classification/2",
            "google/efficientnet-v2/tensorFlow2/imagenet1k-m-classification/2",
            480,
        ),
        Classifier("bit_m_r50x1", "google/bit/m-r50x1/ilsvrc2012_classification/1", None, None, CLASSES),
    )
}

# The input size of further handles whose SavedModel takes any: the first pattern that the handle has. None: the handle
# itself tells it.
_SIZES = (
    (r"(mobilenet|nasnet_mobile)\S*?_(128|160|192|224)(/|$)", None),
    (r"inception_v3|inception_resnet_v2", 299),
    (r"nasnet_large|pnasnet_large", 331),
    (r"efficientnet\S*?[_-]b0(/|$)", 224),
    (r"efficientnet\S*?[_-]b1(/|$)", 240),
    (r"mobilenet|nasnet_mobile|resnet|inception_v[12]", 224),
)


def is_handle(spec: str) -> bool:
    """Whether a spec names something to be fetched: "hub:NAME", a URL or "kaggle:..."."""
    return "://" in spec or spec.startswith((HUB, KAGGLE))


def find_classifier(spec: str) -> Classifier | None:
    """The classifier that a spec names: by its short name, its handle or that on Kaggle; None for any other spec.

    Raises:
        UserError: a short name is not known; the message lists those that are.
    """
    if spec.startswith(HUB):
        name = spec.removeprefix(HUB)
        if name not in CLASSIFIERS:
            known = ", ".join(CLASSIFIERS)
            raise UserError(f"teacher {spec} is not known; {HUB}NAME knows {known}; or give a whole TF-Hub URL")
        return CLASSIFIERS[name]
    for each in CLASSIFIERS.values():
        if spec == each.handle or (each.kaggle and spec.lower() == f"{KAGGLE}{each.kaggle}".lower()):
            return each
    return None


def size_of(spec: str) -> int | None:
    """The input size, in pixels, that the publisher of a handle trained it with; None where that is not known."""
    known = find_classifier(spec)
    if known is not None:
        return known.size
    if not is_handle(spec):
        return None
    for pattern, size in _SIZES:
        match = re.search(pattern, spec)
        if match:
            return size or int(match[2])
    return None


def name_of(spec: str) -> str:
    """A short name for tables and titles: the last part of the spec that says anything."""
    known = find_classifier(spec)
    if known is not None:
        return known.name
    parts = spec.rstrip("/").split("/")
    while is_handle(spec) and len(parts) > 1 and (parts[-1].isdigit() or parts[-1] == "classification"):
        parts.pop()
    return parts[-1]
