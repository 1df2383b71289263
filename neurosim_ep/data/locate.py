"""Find the Parquet files of a data set: in a local directory, or on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from neurosim_ep.data.specs import Spec

DATA_VARIABLE = "NEUROSIM_EP_DATA"
SPLITS = ("train", "test")
HUB_FILE = "{folder}/{split}-00000-of-00001.parquet"
_SHARD = re.compile(r"-(\d+)-of-(\d+)\.parquet$")


def _ways(spec: Spec) -> str:
    return (
        f"give a data directory holding {spec.name}/train-00000-of-00001.parquet and"
        f" {spec.name}/test-00000-of-00001.parquet, or name it in {DATA_VARIABLE},"
        f" or give neither to download {spec.repository} from the Hugging Face hub"
    )


def _shards(folder: Path, split: str) -> list[Path]:
    """Return a split's shards in order; ValueError where one of a set is missing."""
    found = sorted(folder.glob(f"{split}-*-of-*.parquet"))
    numbers = [match.groups() for path in found if (match := _SHARD.search(path.name))]
    if not numbers:
        return []
    total = int(numbers[0][1])
    if len({of for _, of in numbers}) > 1 or [int(i) for i, _ in numbers] != list(range(total)):
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: {split} shards are {names}, needed are all of one set")
    return found


def local_files(spec: Spec, data_dir: Path) -> dict[str, list[Path]]:
    """Return the shards of each split below ``data_dir/NAME`` or the hub's folder inside it.

    Args:
        spec: the data set.
        data_dir: the directory that holds one folder for each data set.

    Returns:
        The paths, in order, under "train" and "test".

    Raises:
        ValueError: the directory or a split's files are missing (naming the ways to supply data),
            or a shard of a set is missing.
    """
    base = data_dir / spec.name
    for folder in (base, base / spec.folder):
        files = {split: _shards(folder, split) for split in SPLITS}
        if all(files.values()):
            return files
        missing = [split for split in SPLITS if not files[split]]
        if len(missing) == 1:
            raise ValueError(f"{folder}: no {missing[0]} files for {spec.name}; {_ways(spec)}")
    state = "no such directory" if not base.is_dir() else "no Parquet files"
    raise ValueError(f"{base}: {state}; {_ways(spec)}")


def hub_files(spec: Spec, *, progress: bool) -> dict[str, list[Path]]:
    """Return the files of each split from the hub's cache, downloading what is not there.

    A file that is in the cache is used without asking the hub. The hub's address is ``HF_ENDPOINT``
    and its cache ``HF_HUB_CACHE``, both read at the call and huggingface_hub's own defaults where
    not set. No token is sent: the data sets are public. Where the hub cannot be reached,
    huggingface_hub tries again for about 20 s before it gives up.

    Args:
        spec: the data set.
        progress: whether to show download bars (on stderr, where that is a terminal).

    Returns:
        The paths under "train" and "test".

    Raises:
        ValueError: one line naming the file and the hub's address where the download failed.
    """
    files: dict[str, list[Path]] = {}
    for split in SPLITS:
        name = HUB_FILE.format(folder=spec.folder, split=split)
        try:
            files[split] = [_hub_file(spec.repository, name, progress=progress)]
        except Exception as error:  # the hub's errors and the HTTP client's share no base
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            reason = " ".join(str(cause).split())[:200]
            where = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
            raise ValueError(
                f"{spec.name}: cannot download {spec.repository}/{name} from {where}"
                f" ({type(cause).__name__}: {reason}); {_ways(spec)}"
            ) from error
    return files


def _hub_file(repository: str, name: str, *, progress: bool) -> Path:
    """Return one file from the cache, or download it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    def get(local_files_only: bool) -> Path:
        path = hf_hub_download(
            repository,
            name,
            repo_type="dataset",
            endpoint=os.environ.get("HF_ENDPOINT", "").rstrip("/") or None,
            cache_dir=os.environ.get("HF_HUB_CACHE") or None,
            token=False,
            local_files_only=local_files_only,
        )
        return Path(path)

    try:
        return get(local_files_only=True)
    except LocalEntryNotFoundError:
        pass
    quiet = not progress and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return get(local_files_only=False)
    finally:
        if quiet:
            enable_progress_bars()
