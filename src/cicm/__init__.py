"""Image inpainting with a cross-image context memory.

`import cicm` is instant: torch is loaded with the first name that needs it.

Example:
    >>> import cicm
    >>> "Inpainter" in dir(cicm)
    True
"""

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late

__version__ = "0.1.0"

__all__ = ["Attached", "ContextMemory", "Inpainter", "MemoryConfig", "MemoryInpainter", "__version__", "attach"]

if TYPE_CHECKING:
    from cicm.assembly import MemoryInpainter
    from cicm.attach import Attached, attach
    from cicm.inference import Inpainter
    from cicm.memory import ContextMemory, MemoryConfig

__getattr__, __dir__ = loaded_late(
    __name__,
    {
        "memory": ["ContextMemory", "MemoryConfig"],
        "assembly": ["MemoryInpainter"],
        "inference": ["Inpainter"],
        "attach": ["Attached", "attach"],
    },
)
