"""Forces for programs that move the atoms themselves, such as i-PI, through a socket.

The protocol is i-PI's, the client ASE's (`ase.calculators.socketio.SocketClient`).
"""

import socket
import time
from collections.abc import Iterator

from ase import Atoms

from ase_fflux.base.errors import FFLUXError, reason

PORT = 31415
"""Of i-PI."""

_PAUSE = 0.2
"""Seconds between attempts to connect."""


def driven(
    atoms: Atoms, *, unix: str | None = None, host: str = "localhost", port: int = PORT,
    wait: float = 60.0,
) -> Iterator[int]:
    """Answer a server until it has had enough.

    Parameters
    ----------
    atoms : Atoms
        In the order of the server's, with a calculator. They are moved.
    unix : str, optional
        Name of a UNIX socket (``/tmp/ipi_NAME``) in place of host and port.
    host, port
        Of the server.
    wait : float
        Seconds that the server may take to be there.

    Yields
    ------
    int
        How many geometries have been answered.

    Raises
    ------
    FFLUXError
        No server, one with another system or of another protocol; what the force field refuses.
    """
    client = _connected(unix, host, port, wait)
    try:
        for count, _ in enumerate(client.irun(atoms, use_stress=bool(atoms.pbc.all())), 1):
            yield count
    except FFLUXError:
        raise
    except ValueError as error:
        raise FFLUXError(
            f"the server's system is not the one of {len(atoms)} atoms in the file ({error})"
        ) from error
    except (KeyError, AssertionError) as error:
        raise FFLUXError(f"the server does not speak i-PI's protocol ({error})") from error
    finally:
        client.close()


def _connected(unix, host, port, wait):
    """A client, as soon as there is a server."""
    from ase.calculators.socketio import SocketClient

    where = f"/tmp/ipi_{unix}" if unix else f"{host}, port {port}"
    end = time.monotonic() + wait
    while True:
        try:
            return SocketClient(unixsocket=unix) if unix else SocketClient(host=host, port=port)
        except socket.gaierror as error:
            raise FFLUXError(f"there is no host {host} ({reason(error)})") from error
        except OSError as error:
            if time.monotonic() >= end:
                raise FFLUXError(
                    f"no server at {where} within {wait:g} s ({reason(error)}): start it first, "
                    "with this address"
                ) from error
        time.sleep(min(_PAUSE, max(end - time.monotonic(), 0.0)))
