"""A run directory of two waters and a neon in a box, without models."""

import pytest

CONFIG = """two waters
         1         3
  17.0  0.0  0.0
  0.5  16.5  0.0
  0.0  0.0  18.0
OW  1
 0.0 0.0 0.1
 1.0 0.0 0.0
HW  2
 0.8 0.0 0.7
 0.0 2.0 0.0
HW  3
 -0.8 0.0 0.7
 0.0 0.0 -3.0
OW  4
 5.0 5.0 5.1
 0.0 0.0 0.0
HW  5
 5.8 5.0 5.7
 0.0 0.0 0.0
HW  6
 4.2 5.0 5.7
 0.0 0.0 0.0
Ne  7
 9.0 1.0d0 9.0
 0.0 0.0 0.0
"""

CONTROL = """two waters
# a comment
ensemble nvt langevin 5.0
temperature 310
timestep 0.0005
steps 200
restart noscale
cutoff 8.0
rvdw 7.5
vdw direct
vdw shift
fflux ewald L3
spme precision 1d-7
stats every 20
job time 100
finish
not read any more
"""

FIELD = """two waters
Units kJ
Multipolar 2
Molecular types 2
Water
nummols 2
atoms 3
OW  15.9994  -1.2  1  0
HW   1.00797  0.6  2  0
bonds 2
harm 1 2 0.0 1.0
harm 1 3 0.0 1.0
finish
Neon
nummols 1
atoms 1
Ne 20.18 0.0
finish
vdw 3
OW OW lj 0.763 3.17
OW HW buck 1000.0 0.3 20.0
Ne OW 12-6 4.0e5 400.0
close
"""


@pytest.fixture
def run(tmp_path):
    """Folder with CONFIG, CONTROL and FIELD."""
    for name, text in (("CONFIG", CONFIG), ("CONTROL", CONTROL), ("FIELD", FIELD)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def edit(run):
    """``edit(name, old, new)``: replace text of a file that is there once or more."""

    def change(name, old, new):
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new, 1))

    return change
