"""Many geometries labelled here, on worker processes and by Dask."""

import threading

import pytest
from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.label import Label
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.source import Rejected


@pytest.fixture(scope="module")
def cluster(spring_source):
    """Two processes of Dask."""
    distributed = pytest.importorskip("distributed", reason="needs dask's distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(params=["here", "processes", "dask"])
def labeller(request, spring_source):
    if request.param == "dask":
        return Labeller(spring_source(), client=request.getfixturevalue("cluster"))
    return Labeller(spring_source(), 1 if request.param == "here" else 2)


def _tagged(*lengths):
    return [(str(x), Atoms("H2", [[0, 0, 0], [0, 0, x]])) for x in lengths]


def test_results_come_in_order_with_their_tags(labeller):
    lengths = [0.7, 0.71, 1.5, 0.72, 0.73, 0.74, 0.75]
    found = list(labeller(_tagged(*lengths)))
    assert [tag for tag, _ in found] == [str(x) for x in lengths]
    assert isinstance(found[2][1], Rejected) and "H2 is too long" in str(found[2][1])
    energies = [label.energy for _, label in found if isinstance(label, Label)]
    assert energies == sorted(energies) and len(energies) == 6


def test_what_is_refused_ends_it(labeller):
    with pytest.raises(LabelError, match="atoms on top of each other"):
        list(labeller(_tagged(0.7, 0.0, 0.71)))


def test_few_geometries_are_asked_for_ahead(spring_source):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield from _tagged(0.7)

    results = Labeller(spring_source(), 2)(endless())
    for _ in range(3):
        next(results)
    results.close()
    assert 3 <= len(asked) <= 3 + 4
    assert not [t for t in threading.enumerate() if "QueueManager" in t.name]


def test_a_worker_that_dies_is_told(spring_source):
    with pytest.raises(LabelError, match="a worker that labels was ended .*label on fewer"):
        list(Labeller(spring_source(), 2)(_tagged(0.7, 5.0)))
