"""What makes ``ase run fflux ...`` work.

ASE looks calculators up among the classes registered with it, and loads the entry points of group
``ase.ioformats`` before that. Reading a file format is therefore the one occasion on which a
plug-in can register its calculator; the format itself shows the reference geometry of a bundle, so
that ``ase gui ethanol.fflux`` shows what the model is for. The calculator imports its machinery
when it is made.
"""

from ase.calculators.calculator import external_calculators, register_calculator_class
from ase.utils.plugins import ExternalIOFormat

from ase_fflux.calculator import FFLUX

if "fflux" not in external_calculators:
    register_calculator_class("fflux", FFLUX)

fflux_model_format = ExternalIOFormat(
    desc="FFLUX model bundle",
    code="1S",
    module="ase_fflux.ase_plugin",
    glob=["*.fflux"],
)


def read_fflux_model(filename):
    """Read the reference geometry of a bundle as Atoms (Angstrom)."""
    from ase import Atoms

    from ase_fflux.base.units import BOHR
    from ase_fflux.formats.bundle import read_bundle

    model = read_bundle(filename)
    return Atoms(model.symbols, BOHR * model.reference_geometry)
