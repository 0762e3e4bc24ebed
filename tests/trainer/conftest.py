"""The tiny model and its pictures as fixtures, and jobs made of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny import NATIVE_PX, make_base, make_pictures

from athanor.trainer.bases import describe_base
from athanor.trainer.config import TrainJob
from athanor.trainer.dataset import assign_buckets, scan_folder
from athanor.trainer.settings import AdapterSettings, TrainSettings
from athanor.trainer.types import BaseModel, Dataset


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "tiny base")


@pytest.fixture(scope="session")
def base(base_folder: Path) -> BaseModel:
    return describe_base(base_folder)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = make_pictures(tmp_path_factory.mktemp("data") / "many 图片")
    scanned = scan_folder(folder, trigger="subject", validation_percent=20)
    return assign_buckets(scanned, resolution_px=NATIVE_PX, min_px=16, max_px=64, step_px=16, upscale=True)


@pytest.fixture
def job(base: BaseModel, dataset: Dataset) -> TrainJob:
    train = TrainSettings(epochs=3, batch_size=2, rate=1e-2, text_encoder_rate=1e-3, precision="fp32", seed=3)
    return TrainJob("my run", base, dataset, adapter=AdapterSettings(rank=2, alpha=1.0), train=train)


@pytest.fixture
def workshop(tmp_path: Path, base_folder: Path) -> Path:
    """A copy of the base that a test may damage."""
    return Path(shutil.copytree(base_folder, tmp_path / "base"))
