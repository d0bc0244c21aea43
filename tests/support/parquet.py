"""Parquet files as Hugging Face's `datasets` writes them."""

import json

import pyarrow
import pyarrow.parquet


def write_parquet(path, contents, labels=None, names=None, column="image", rows=2):
    """Writes a file of images with `rows` of them in a row group.

    Args:
        path: of the file; its folder is made.
        contents: the bytes of an image file each, or None.
        labels: a number or text each; None for no such column.
        names: of the classes by their numbers, for the metadata; None for metadata without names.
        column: name of the column of images.
        rows: in a row group.
    """
    record = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    images = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    columns = {column: pyarrow.array(images, record)}
    features = {column: {"_type": "Image"}}
    if labels is not None:
        columns["label"] = pyarrow.array(labels)
    if names is not None:
        features["label"] = {"names": names, "_type": "ClassLabel"}
    table = pyarrow.table(columns)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path, row_group_size=rows)
    return path
