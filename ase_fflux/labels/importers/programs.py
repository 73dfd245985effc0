"""Which program wrote an output, whether it ended well, and at which level of theory it is.

Only programs are known of which it is known, and tested, how an output ends, in which axes its
geometry and forces are, and which sign these have: of any other an output that stopped halfway
looks like a whole one.
"""

import re
from dataclasses import dataclass

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.label import UNKNOWN

_HEAD = 1 << 16
"""Characters in which a program says its name."""

_JOB_WORDS = re.compile(
    r"(#[pnt]?$|opt|force|freq|sp$|nosymm|symmetry|scf|guess|geom|pop|density|output|maxdisk|test$"
    r"|gfinput|gfprint|unit|name|prop|punch"
    r"|engrad|numgrad|numfreq|anfreq|(very)?(tight|loose)(scf|opt)|(normal|strong|sloppy)(scf|opt)"
    r"|copt|zopt|pal\d|(mini|small|normal|large)print|nopop|allpop|(very)?slowconv|(no)?soscf"
    r"|kdiis|(no)?trah|xyzfile|printbasis|(no)?autostart|moread|pmodel|patom|hueckel|(no)?usesym)",
    re.IGNORECASE,
)
"""What begins so says what is done or printed, not at which level."""


@dataclass(frozen=True)
class Program:
    """How outputs of a program are known and judged.

    Attributes
    ----------
    name : str
    sign, ended : str
        Regular expressions of what stands near the beginning, and near the end if all went well.
    faults : tuple of (str, str)
        Expressions of what spoils an output that ended well all the same, and what it is.
    charge, multiplicity : str
        Expressions of one number, where ASE's reader tells neither.
    """

    name: str
    sign: str
    ended: str
    faults: tuple[tuple[str, str], ...] = ()
    charge: str = ""
    multiplicity: str = ""


GAUSSIAN = Program(
    "Gaussian", r"Entering Gaussian System|Gaussian, Inc\.", r"^ Normal termination of Gaussian",
    (
        (r"^ *Error termination", "did not end normally"),
        (r"Convergence criterion not met", "its SCF did not converge"),
        (r"E\(TD-HF/TD-KS\)|E\(TD-HF/TD-DFT\)|E\(CIS|^ Excited State +\d+:",
         "excited states, whose forces are not those of the energy"),
        (r"ONIOM: extrapolated energy", "ONIOM, whose energy is not read"),
        (r"Counterpoise[ :]corrected energy", "a counterpoise correction, which is not read"),
        (r"^ (G[1-4]\w*|CBS-\w+|W1\w*)(\(0 K\))? *(Energy)?=", "a composite method"),
    ),
    r"Charge = +(-?\d+) +Multiplicity = +\d+", r"Charge = +-?\d+ +Multiplicity = +(\d+)",
)
ORCA = Program(
    "ORCA", r"\* +O +R +C +A +\*", r"ORCA TERMINATED NORMALLY",
    (
        (r"Wavefunction not fully converged|SCF NOT CONVERGED", "its SCF did not converge"),
        (r"(TD-DFT|TD-DFT/TDA|TD-HF|CIS|RPA) EXCITED STATES", "excited states"),
    ),
    r"Total Charge +Charge +\.+ +(-?\d+)", r"Multiplicity +Mult +\.+ +(\d+)",
)
PSI4 = Program(
    "Psi4", r"P(?:SI|si)4: An Open-Source Ab Initio", r"\*\*\* P(?:SI|si)4 exiting successfully",
)
QCHEM = Program(
    "Q-Chem", r"Welcome to Q-Chem|Q-Chem, Inc\.", r"Thank you very much for using Q-Chem",
    ((r"SCF failed to converge|Convergence failure", "its SCF did not converge"),),
)
PROGRAMS = GAUSSIAN, ORCA, PSI4, QCHEM


def program_of(text: str) -> Program | None:
    """The program that wrote an output, by the beginning of its text."""
    for program in PROGRAMS:
        if re.search(program.sign, text[:_HEAD], re.MULTILINE):
            return program
    return None


def refuse_unfinished(program: Program, text: str) -> None:
    """Refuse an output that stopped, or whose energy is not one to learn from.

    Raises
    ------
    LabelError
        The reason alone, without the name of the file.
    """
    for pattern, what in program.faults:
        if re.search(pattern, text, re.MULTILINE):
            raise LabelError(what)
    if not re.search(program.ended, text, re.MULTILINE):
        raise LabelError("did not end normally")


def state_of(program: Program, text: str) -> dict[str, int]:
    """Charge and spin (multiplicity less one) as the output says them, if it does."""
    found = {}
    for name, pattern, less in (
        ("charge", program.charge, 0), ("spin", program.multiplicity, 1),
    ):
        if number := re.search(pattern, text):
            found[name] = int(number[1]) - less
    return found


def level_of(program: Program, text: str) -> str:
    """Words of Gaussian's route, or of ORCA's lines with !, that are of the level of theory.

    In one order and upper case, joined by underscores; UNKNOWN where the output has none.
    """
    if program is GAUSSIAN:
        route = re.search(r"^ -{3,}\n( #.*?)\n -{3,}$", text, re.MULTILINE | re.DOTALL)
        words = "" if route is None else "".join(line[1:] for line in route[1].split("\n"))
    else:
        lines = re.findall(r"^\| *\d+> *!(.*)$", text, re.MULTILINE)
        words = " ".join(line.split("#")[0] for line in lines)
    kept = sorted({one_word(w) for w in words.split() if not _JOB_WORDS.match(w.lstrip("/"))})
    return "_".join(kept) or UNKNOWN


def one_word(text: str) -> str:
    """Upper case without spaces; letters of shells stay small."""
    text = "".join(c for c in text.upper() if c.isascii() and c.isprintable() and c not in " \"'")
    return re.sub(r"\([DFP0-9,]*\)", lambda found: found[0].lower(), text)
