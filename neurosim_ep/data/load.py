"""Load a data set by name."""

from __future__ import annotations

import os
from pathlib import Path

from neurosim_ep.data.dataset import Dataset
from neurosim_ep.data.digits import load_digits
from neurosim_ep.data.locate import DATA_VARIABLE, hub_files, local_files
from neurosim_ep.data.parquet import read_shards
from neurosim_ep.data.specs import spec_for


def load(name: str, data_dir: str | Path | None = None, *, progress: bool = True) -> Dataset:
    """Load a data set into memory as uint8 tensors.

    ``digits`` comes with scikit-learn. The others are Parquet files in the Hugging Face hub's
    layout, ``DATA_DIR/NAME/{train,test}-00000-of-00001.parquet`` (any number of shards, also in
    the hub's own inner folder), looked for in ``data_dir``, else in the directory that
    ``NEUROSIM_EP_DATA`` names, else downloaded from the hub into its cache. Nothing is unpickled.

    Args:
        name: one of ``DATASETS``: digits, mnist, fashion_mnist, cifar10, cifar100.
        data_dir: the directory that holds one folder for each data set.
        progress: whether to show download bars.

    Returns:
        The data set; its ``variant`` says whether the stored pixels went through JPEG.

    Raises:
        ValueError: one line: an unknown name, missing or damaged files, an image or a label that
            the data set does not allow, or a download that failed.
    """
    spec = spec_for(name)
    if not spec.repository:
        return load_digits()
    directory = data_dir if data_dir is not None else os.environ.get(DATA_VARIABLE) or None
    if directory is not None:
        files = local_files(spec, Path(directory).expanduser())
    else:
        files = hub_files(spec, progress=progress)
    train = read_shards(files["train"], spec)
    test = read_shards(files["test"], spec)
    if train.class_names != test.class_names:
        raise ValueError(f"{files['test'][0]}: class names differ from those of the train files")
    variant = "jpeg re-encoded" if train.jpeg or test.jpeg else "original"
    return Dataset(name, variant, train.split, test.split, train.class_names)
