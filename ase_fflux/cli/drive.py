"""``fflux drive``: forces for i-PI and other programs that move the atoms themselves."""

import argparse

from ase_fflux.base.errors import FFLUXError
from ase_fflux.cli import options, systems

_DESCRIPTION = """\
Serve energies, forces and (of periodic boxes) stress to a program that moves the atoms itself, as a
client of i-PI's protocol: path integrals, replica exchange, thermostats of all kinds. Writes
nothing; it ends when the server does.
"""

_EPILOG = """\
example:
  i-pi input.xml &
  fflux drive water.xyz --model water --unix water

with, in input.xml,

  <ffsocket name='fflux' mode='unix' pbc='False'> <address> water </address> </ffsocket>

FILE has the atoms in the order of i-PI's system, and its periodicity; positions and cell are those
that i-PI sends.
Beads and replicas are spread over as many clients as are started, also on other machines (mode
inet, --host, --port).

Exit status: 0 the server has ended, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("drive", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    add = parser.add_argument
    add("--unix", metavar="NAME", help="UNIX socket, which is the file /tmp/ipi_NAME")
    add("--host", metavar="HOST", help="where the server runs (default: localhost)")
    add("--port", type=options.natural, metavar="P", help="of the server (default: 31415)")
    add("--wait", type=options.not_negative, default=60.0, metavar="S",
        help="seconds that the server may take to be there (default: %(default)g)")


def run(args: argparse.Namespace) -> None:
    """Serve until the server ends."""
    from ase_fflux.cli.progress import stepwise
    from ase_fflux.simulate.driven import PORT, driven
    from ase_fflux.simulate.molecules import keep_assignment, prepare

    if args.unix is not None and (args.host, args.port) != (None, None):
        raise FFLUXError("--unix is in place of --host and --port: leave one of them out")
    atoms, description = systems.system_of(args)
    keep_assignment(atoms)
    prepare(atoms)
    atoms.get_forces()  # what does not fit the model is found before a server waits for it
    print(f"{description}, model {' '.join(args.model)}")
    systems.print_expected_errors(atoms.calc)
    count = 0
    for count in stepwise(  # noqa: B007
        driven(
            atoms, unix=args.unix, host=args.host or "localhost", port=args.port or PORT,
            wait=args.wait,
        ), "serving", unit="forces",
    ):
        pass
    print(f"the server has ended, after {count} forces")
