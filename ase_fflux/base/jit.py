"""Compilation settings shared by every numba kernel of the package, and a cache that mends itself.

numba keeps what it compiled in files. Where one of them was cut (quota, crash, full disk) loading
it raises whatever unpickling runs into, and where none can be written it raises as well; both cost
a compilation here, and one line that says so.
"""

import multiprocessing
import warnings

import numba
import numpy as np
from numba import types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from ase_fflux.base.errors import FFLUXWarning

_told: set[str] = set()

_OPTIONS = dict(fastmath=True, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
"""Nothing calls kernels from C."""


def njit(function):
    """Compile lazily with fastmath, without the GIL, cached on disk where that is possible.

    With ``NUMBA_DISABLE_JIT=1`` the function is left as it is, as numba does.
    """
    compiled = numba.njit(function, **_OPTIONS)
    if compiled is not function:
        try:
            # what Dispatcher.enable_caching does, with another class
            compiled._cache = _MendedCache(function)
        except RuntimeError as error:  # numba finds no folder that it may write to
            _tell_once(f"compiled code cannot be kept: {error}", _ELSEWHERE)
    return compiled


def inner(function):
    """`njit` of what kernels alone call: without what calls from Python need, which crash, and
    without a cache, for callers keep it with theirs, it takes less time to compile."""
    return numba.njit(function, no_cpython_wrapper=True, **_OPTIONS)


def part(function):
    """`inner` of what one kernel calls at one place: it is put there before that is compiled."""
    return numba.njit(function, inline="always", **_OPTIONS)


@intrinsic
def float_of_bits(typing_context, bits):
    """The number that 64 bits of an integer stand for; a view takes much longer to compile."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.int64), generate


if numba.config.DISABLE_JIT:  # type: ignore[misc]

    def float_of_bits(bits):  # noqa: F811 intrinsics are not for Python
        return np.int64(bits).view(np.float64)


def plain(function):
    """The Python function of a kernel, which is the kernel itself under NUMBA_DISABLE_JIT=1."""
    return getattr(function, "py_func", function)


def cache_folder() -> str | None:
    """Folder of what numba compiled of the functions of this file; those of other files are in the
    same place or beside it. None where nothing can be kept."""
    return getattr(getattr(njit(_nothing), "_cache", None), "cache_path", None)


def _nothing():
    pass


_ELSEWHERE = "every start compiles anew; name a folder that can be written in NUMBA_CACHE_DIR"


class _MendedCache(FunctionCache):
    """numba's cache of one function; damaged files are replaced."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling damaged bytes raises anything
            _tell_once(
                f"compiled code in {self.cache_path} is damaged ({_first_line(error)})",
                "it is compiled anew",
            )
            try:
                self.flush()
            except OSError:
                pass  # said when the new code cannot be saved
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _tell_once(
                f"compiled code cannot be kept in {self.cache_path} ({error.strerror})", _ELSEWHERE
            )


def _tell_once(what: str, consequence: str) -> None:
    """Warn once for each consequence, and not in the workers of a process that has said it."""
    if consequence not in _told and multiprocessing.parent_process() is None:
        _told.add(consequence)
        warnings.warn(f"{what}: {consequence}", FFLUXWarning, stacklevel=3)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
