"""What a network answers to images without truth: a table on the terminal, a csv, JSON lines and a contact sheet."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from tfpipeline import pictures
from tfpipeline.images import Pixels
from tfpipeline.system import print_table, write_csv, write_file
from tfpipeline.training import Predictions

MOST_PRINTED, MOST_PICTURED, NAMES_IN_PICTURE = 20, 48, 3
_LETTERS_OF_FILE, _LETTERS_OF_CLASS = 40, 18


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """Images with the answers to them.

    Attributes:
        files: what each of N images is called.
        answers: those of the network.
        classes: what each class is called.
    """

    files: Sequence[str]
    answers: Predictions
    classes: Sequence[str]

    def of(self, i: int) -> list[tuple[int, str, float]]:
        """(class index, name, probability) of the most probable classes of image i, the best first."""
        pairs = zip(self.answers.top[i].tolist(), self.answers.probabilities[i].tolist(), strict=True)
        return [(index, self.classes[index], probability) for index, probability in pairs]


def write_all(out: pathlib.Path, images: Pixels, predicted: Predicted) -> None:
    """Writes predictions.csv, predictions.jsonl and predictions.png, each whole or not at all.

    Args:
        out: the directory; made where it is missing.
        images: uint8 (N, H, W, 3).
        predicted: the answers to them.
    """
    out.mkdir(parents=True, exist_ok=True)
    every = [predicted.of(i) for i in range(len(predicted.files))]
    columns = [f"{column}_{rank}" for rank in range(1, len(every[0]) + 1) for column in ("class", "probability")]
    rows = [
        [file, *(value for _, name, probability in answers for value in (name, f"{probability:.6f}"))]
        for file, answers in zip(predicted.files, every, strict=True)
    ]
    write_csv(out / "predictions.csv", ["file", *columns], rows)
    lines = [
        {
            "file": file,
            "answers": [dict(zip(("class_index", "class", "probability"), one, strict=True)) for one in each],
        }
        for file, each in zip(predicted.files, every, strict=True)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(out / "predictions.jsonl", text.encode())
    _write_sheet(out / "predictions.png", images, predicted)


def _write_sheet(path, images, predicted):
    count = min(len(images), MOST_PICTURED)
    captions = [
        "\n".join(
            [
                pathlib.PurePath(predicted.files[i]).name,
                *(f"{probability:.0%} {name}" for _, name, probability in predicted.of(i)[:NAMES_IN_PICTURE]),
            ]
        )
        for i in range(count)
    ]
    title = "what the network answers" + (
        f": the first {count} of {len(images):,} images" if count < len(images) else ""
    )
    columns = min(8, max(count, 2))
    pictures.save(pictures.contact_sheet(images[:count], captions, columns=columns, title=title), path)


def print_answers(predicted: Predicted) -> None:
    """Prints a line for each of the first images: its file, and the most probable classes with their probabilities."""
    count = len(predicted.files)
    rows = [
        [
            _shorten_front(predicted.files[i]),
            *(f"{_shorten(name)} {probability:6.1%}" for _, name, probability in predicted.of(i)),
        ]
        for i in range(min(count, MOST_PRINTED))
    ]
    print_table(rows)
    if count > MOST_PRINTED:
        print(f"... and {count - MOST_PRINTED:,} more in predictions.csv")


def _shorten(name):
    return name if len(name) <= _LETTERS_OF_CLASS else name[: _LETTERS_OF_CLASS - 1] + "…"


def _shorten_front(file):
    """The end of a path tells more than its beginning."""
    return file if len(file) <= _LETTERS_OF_FILE else "…" + file[1 - _LETTERS_OF_FILE :]
