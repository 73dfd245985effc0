"""Compilation settings shared by every numba kernel of the package."""

import numba


def njit(function):
    """Compile lazily with fastmath, without the GIL, cached on disk where that is possible.

    A cache that cannot be written (read-only home and package directory) costs the compilation
    at each start instead of failing.
    """
    options = dict(fastmath=True, nogil=True, error_model="numpy")
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError as error:
        if "cache" not in str(error) and "locator" not in str(error):
            raise
        return numba.njit(function, **options)

