"""Parameter files of other trainers, of earlier runs, and presets: from and to settings. No torch."""

from .another_kind import counts_for, settings_for
from .imported import RATES, Imported, Line, rates_are_for_another_kind
from .read import read_parameters
from .sd_scripts_objective import flow_arguments
from .sd_scripts_out import sd_scripts_toml

__all__ = [
    "RATES",
    "Imported",
    "Line",
    "counts_for",
    "flow_arguments",
    "rates_are_for_another_kind",
    "read_parameters",
    "sd_scripts_toml",
    "settings_for",
]
