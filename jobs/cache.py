"""python -m jobs.cache: the image stores that are cached, and the removal of those that nobody uses any more."""

import dataclasses
import pathlib

from jobs import command
from tfpipeline.images import CachedStore, default_cache, list_stores, remove_cached, remove_locks
from tfpipeline.system import FlagError, print_table
from tfpipeline.system.flags import Flags, Range, flag

EXAMPLE = "python -m jobs.cache --prune --days 30"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Flags):
    """Lists the image stores in the cache; --prune removes those that were not opened for some time.

    Other images at the same place, another size or another limit make another store, and the one before stays until it
    is pruned. A store that a process has open stays, and so does whatever is no image store. What is removed is built
    anew when it is asked for again.
    """

    list: bool = flag(False, "only list what is there, as without any flag")
    prune: bool = flag(False, "remove the stores that no command opened for --days, and that none has open")
    days: float = flag(30.0, "how long ago a store was opened last that --prune removes", "DAYS", Range(at_least=0))
    cache: str | None = flag(None, "the cache, by default $TFPIPELINE_CACHE or ~/.cache/tfpipeline", metavar="DIR")

    def __post_init__(self):
        super().__post_init__()
        if self.list and self.prune:
            raise FlagError("--list and --prune do not go together; give one of them")


def run(config: Config) -> dict:
    """Lists, prunes, and returns how much is there and how much was removed."""
    cache = default_cache() if config.cache is None else pathlib.Path(config.cache).expanduser()
    stores = list_stores(cache)
    old = [store for store in stores if config.prune and store.days >= config.days and store.in_use is False]
    removed = {store.directory for store in old if remove_cached(store)}
    if config.prune:
        remove_locks(cache)
    if stores:
        print_table([("store", "images", "MB", "opened", "state"), *(_row(store, removed) for store in stores)])
    left = [store for store in stores if store.directory not in removed]
    return {
        "stores": len(left),
        "bytes": sum(store.size for store in left),
        "removed": len(removed),
        "removed_bytes": sum(store.size for store in stores) - sum(store.size for store in left),
        "cache": str(cache),
    }


def _row(store: CachedStore, removed: set[pathlib.Path]):
    state = {True: "in use", False: "not in use", None: "perhaps in use"}[store.in_use]
    return (
        f"{store.source or 'damaged'} ({store.directory.name})",
        "-" if store.count is None else f"{store.count:,}",
        f"{store.size / 1e6:,.1f}",
        f"{store.days:.0f} days ago",
        "removed" if store.directory in removed else state,
    )


if __name__ == "__main__":
    command.main(Config, run, EXAMPLE)
