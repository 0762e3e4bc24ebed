"""Parameter files of other trainers, of earlier runs, and presets: from and to settings. No torch."""

from .imported import Imported, Line
from .read import read_parameters
from .sd_scripts_objective import flow_arguments
from .sd_scripts_out import sd_scripts_toml

__all__ = ["Imported", "Line", "flow_arguments", "read_parameters", "sd_scripts_toml"]
