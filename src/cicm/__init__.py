"""Image inpainting with a cross-image context memory.

`import cicm` is instant: torch is loaded with the first name that needs it.

Example:
    >>> import cicm
    >>> "Inpainter" in dir(cicm)
    True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ContextMemory": "cicm.memory",
    "MemoryConfig": "cicm.memory",
    "MemoryInpainter": "cicm.assembly",
    "Inpainter": "cicm.inference",
    "Attached": "cicm.attach",
    "attach": "cicm.attach",
}

__all__ = ["Attached", "ContextMemory", "Inpainter", "MemoryConfig", "MemoryInpainter", "__version__", "attach"]

if TYPE_CHECKING:
    from cicm.assembly import MemoryInpainter
    from cicm.attach import Attached, attach
    from cicm.inference import Inpainter
    from cicm.memory import ContextMemory, MemoryConfig


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cicm' has no attribute {name!r}; it offers {', '.join(sorted(_HOMES))}")


def __dir__() -> list[str]:
    return sorted(__all__)
