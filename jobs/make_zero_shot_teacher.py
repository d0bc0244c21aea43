"""python -m jobs.make_zero_shot_teacher: a teacher of classes that you name, out of a model such as CLIP."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.system import FlagError, UserError
from tfpipeline.system.flags import Flags, flag, required

EXAMPLE = """python -m jobs.make_zero_shot_teacher --pair clip-vit-base-patch32 --classes names.txt --out pets.onnx
  python -m jobs.make_zero_shot_teacher --pair clip --classes names.txt --prompt "a sketch of a {}" --out pets.onnx"""

PROMPT = "a photo of a {}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Writes an ONNX file that tells your classes apart by their names: a teacher for jobs.label_imagenet64.

    It takes a folder with vision_model.onnx, text_model.onnx, tokenizer.json and preprocessor_config.json.
    """

    pair: str = required("folder of the pair of encoders, of images and of texts", metavar="DIR")
    classes: str = required("text file with the name of a class in each line", metavar="FILE")
    prompt: tuple[str, ...] = flag(
        (), f"text for a class, {{}} stands for its name; of several, the mean (default: {PROMPT})", metavar="TEXT"
    )
    out: str = required("the ONNX file; it is there whole or not at all", metavar="FILE.onnx")

    def __post_init__(self):
        super().__post_init__()
        for prompt in self.prompt:
            if prompt.replace("{}", "").count("{") or "{}" not in prompt:
                raise FlagError(
                    f"--prompt {prompt!r} must have {{}} where the name of the class goes, and no other braces"
                )


def run(config: Config) -> dict:
    """Writes the teacher and returns the figures."""
    try:
        lines = pathlib.Path(config.classes).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--classes {config.classes} cannot be read as text in UTF-8 ({error}); check it") from error
    names = [line.strip() for line in lines if line.strip()]
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(
            f"--classes {config.classes} names {len(set(names))} classes in {len(names)} lines; name two or more, each"
            " once"
        )
    command.import_tensorflow()
    from labeling.teachers import zero_shot

    out = pathlib.Path(config.out)
    dimensions = zero_shot.write_classifier(pathlib.Path(config.pair), names, config.prompt or (PROMPT,), out)
    return {"classes": len(names), "dimensions": dimensions, "bytes": out.stat().st_size, "out": config.out}


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
