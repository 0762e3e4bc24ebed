"""The pack's own wires."""

from __future__ import annotations

from comfy_api.latest import io

BaseModelWire = io.Custom("BASE_MODEL")
DatasetWire = io.Custom("DATASET")
RunWire = io.Custom("RUN")
SettingsWire = io.Custom("TRAIN_SETTINGS")
