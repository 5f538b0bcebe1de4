"""llama.cpp's low-level bindings; the only file that imports llama_cpp."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, Final

from chatsafe_runtime.worker.engine import EngineError

_ERROR_LEVEL: Final = 4  # GGML_LOG_LEVEL_ERROR


def _import_bindings() -> Any:
    """`llama_cpp.llama_cpp` without the package's own `__init__`.

    That one loads the high-level class and with it numpy: 130 ms and 14 MB more.
    """
    name = "llama_cpp"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise EngineError("The engine llama-cpp-python is not installed; run scripts/setup.")
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules[name] = package
    return importlib.import_module(f"{name}.llama_cpp")


bindings = _import_bindings()


def pass_on_errors(report: Callable[[str], None]) -> object:
    """Give the engine's error lines to `report` and drop its chatter.

    The engine calls what is returned from any thread: keep it for the life of the process.
    """

    def on_line(level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR_LEVEL:
            report(text.decode("utf-8", "replace"))

    callback = bindings.llama_log_callback(on_line)
    bindings.llama_log_set(callback, None)
    return callback


def supports_gpu() -> bool:
    """Whether this build of the engine can use a graphics processor."""
    return bool(bindings.llama_supports_gpu_offload())
