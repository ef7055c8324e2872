"""The memory in a network that was not written for it: `cicm.attach(network, ...)`.

The room has the name of its one verb, so the module itself can be called: `cicm.attach` means the same before and after
this module is imported.
"""

import sys
from types import ModuleType
from typing import Any

from cicm.attach.attached import Attached
from cicm.attach.build import attach


class _Callable(ModuleType):
    __wrapped__ = attach

    def __call__(self, *args: Any, **kwargs: Any) -> Attached:
        return attach(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
