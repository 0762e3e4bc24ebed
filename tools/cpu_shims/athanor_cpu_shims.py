"""Lets ComfyUI and transformers import torchvision and torchaudio in a development environment without a GPU.

`dev.py` copies this file into .venv's site-packages, with a `.pth` file that imports it whenever that Python starts:
ComfyUI and the training worker it starts both need it, and neither can be asked to import it. Users never get it.

- The package index has torchvision only as a build for CUDA. Beside a torch without CUDA its C++ operators do not
  load; torchvision shrugs at that, and then fails to register two operators that are not there ("operator
  torchvision::nms does not exist"). So, right after torchvision tried to load its operators and only if it could not,
  the two are declared. Nothing implements them: who calls them still gets an error.
- There is no torchaudio for this torch, and ComfyUI imports it without a guard. If none is installed, empty modules
  stand in for it; who uses anything of them gets an error that says so.

Importing this file costs well under a millisecond: it imports neither torch nor anything else that is not loaded yet.
"""

import sys

_TORCHVISION_REGISTRATIONS = ("torchvision._autograd_registrations", "torchvision._meta_registrations")
_MISSING_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_TORCHAUDIO_MODULES = ("torchaudio", "torchaudio.functional", "torchaudio.transforms")
_libraries = []  # an operator is gone when the Library that declared it is collected


class _TorchvisionOperators:
    """Asked for every module before the real finders; never finds one itself."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in _TORCHVISION_REGISTRATIONS and not _libraries:
            extension = sys.modules.get("torchvision.extension")
            if extension is not None and not extension._has_ops():
                from torch.library import Library

                library = Library("torchvision", "DEF")
                _libraries.append(library)
                for operator in _MISSING_OPERATORS:
                    library.define(operator)
        return None


class _TorchaudioStandIn:
    """Asked last, so that a real torchaudio wins."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in _TORCHAUDIO_MODULES:
            return None
        from importlib.machinery import ModuleSpec

        return ModuleSpec(name, _TorchaudioStandIn, origin="athanor_cpu_shims", is_package=name == "torchaudio")

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        name = module.__name__

        def missing(attribute):
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise AttributeError(f"{name}.{attribute} is not available: torchaudio is not installed in this development environment.")

        module.__getattr__ = missing
        if name == "torchaudio.transforms":
            module.MelScale = None  # imported by name at ComfyUI's start


sys.meta_path.insert(0, _TorchvisionOperators)
sys.meta_path.append(_TorchaudioStandIn)
