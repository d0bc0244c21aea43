"""The list of ImageNet's classes as a wheel of timm has it."""

import zipfile


def write_timm_wheel(path, ids, names):
    """Writes a wheel with that list alone.

    Args:
        path: of the file.
        ids: the WordNet ids in order.
        names: WordNet id -> words for it.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("timm/data/_info/imagenet_synsets.txt", "\n".join(ids))
        text = "".join(f"{wnid}\t{name}\n" for wnid, name in names.items())
        archive.writestr("timm/data/_info/imagenet_synset_to_lemma.txt", text)
