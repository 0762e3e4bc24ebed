"""Parameter files of other trainers, of earlier runs, and presets: from and to settings. No torch."""

from .imported import RATES, Imported, Line, rates_are_for_another_kind
from .read import read_parameters
from .sd_scripts_objective import flow_arguments
from .sd_scripts_out import sd_scripts_toml

__all__ = ["RATES", "Imported", "Line", "flow_arguments", "rates_are_for_another_kind", "read_parameters", "sd_scripts_toml"]
