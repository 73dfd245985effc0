"""Memory of one large system that is kept from call to call.

Arrays of some hundred kilobytes go back to the operating system as soon as they are freed, and
every page of the next ones is a trap into its kernel: a fifth of the time of an evaluation in a
virtual machine, and more on several threads, which wait there for each other.
"""

from math import prod

import numpy as np


class Workspace:
    """Arrays by name, whose memory is used again.

    It is of one caller; threads must not share names.
    """

    def __init__(self):
        self._memory: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: int | tuple[int, ...], dtype=float) -> np.ndarray:
        """An array that holds anything; it is valid until the name is asked for again."""
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(map(int, shape))
        size = prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < size:
            memory = self._memory[name] = np.empty(size, dtype=np.uint8)
        return memory[:size].view(dtype).reshape(shape)

    def zeros(self, name: str, shape: int | tuple[int, ...]) -> np.ndarray:
        """`array` of floats, filled with zeros."""
        array = self.array(name, shape)
        array.fill(0.0)
        return array
