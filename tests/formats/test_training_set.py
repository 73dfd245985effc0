import itertools
import re
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import TrainingError
from ase_fflux.formats.model_file import read_model
from ase_fflux.formats.training_set import TrainingSet, read_training_set, write_training_set
from ase_fflux.model.multipoles import MOMENT_NAMES

PUBLISHED = {
    "water/WATER_O1_TRAINING_SET": (59, 3, 26), "water/WATER_H2_TRAINING_SET": (59, 3, 26),
    "water/WATER_O1_VALIDATION_SET": (500, 3, 1), "ammonia/AMMONIA_N1_TRAINING_SET": (421, 6, 1),
    "ammonia/AMMONIA_N1_VALIDATION_SET": (500, 6, 1),
    "methanol/METHANOL_C1_TRAINING_SET": (636, 12, 1),
    "glycine/GLYCINE_C1_TRAINING_SET": (2130, 51, 1),
    "glycine/GLYCINE_C1_VALIDATION_SET": (494, 51, 1),
}
HEADER = ",f1,f2,f3,f4,f5,f6,q00,iqa"
ROWS = [
    "0,1.9,2.1,1.8,2.05,0.6,-2.1,0.3,-54.95",
    "1,1.95,2.0,1.85,2.15,0.7,3.1,0.35,-54.96",
    "2,1.8,2.2,1.75,2.25,0.8,-3e-1,0.25,-54.97",
]


def text_of(rows=ROWS, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def cells(row, changes):
    """Row 0 to 2 with cells replaced, {column: text}."""
    words = ROWS[row].split(",")
    for column, word in changes.items():
        words[column] = word
    return [",".join(words) if i == row else text for i, text in enumerate(ROWS)]


@pytest.fixture
def read(tmp_path):
    """Function that reads a text (or bytes) as a file of the given name."""
    numbers = itertools.count()

    def read_text(text, name="AMMONIA_N1_TRAINING_SET.csv"):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        content = text if isinstance(text, bytes) else text.encode()
        (folder / name).write_bytes(content)
        return read_training_set(folder / name)

    return read_text


def assert_same(a, b):
    assert a.features.tobytes() == b.features.tobytes() and a.features.shape == b.features.shape
    assert a.targets.keys() == b.targets.keys()
    for name, values in a.targets.items():
        assert b.targets[name].tobytes() == values.tobytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "AMMONIA_N1_TRAINING_SET.csv"
    path.write_text(text_of())
    return read_training_set(path)


def test_values(plain):
    assert plain.features.shape == (3, 6) and len(plain) == 3 and plain.n_atoms == 4
    np.testing.assert_array_equal(plain.features[2], [1.8, 2.2, 1.75, 2.25, 0.8, -0.3])
    assert list(plain.targets) == ["q00", "iqa"]
    np.testing.assert_array_equal(plain.targets["iqa"], [-54.95, -54.96, -54.97])
    assert (plain.system, plain.atom, plain.alf) == ("AMMONIA", "N1", None)
    assert plain.ignored == () and plain.constant == ()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(reference, name):
    n, f, p = PUBLISHED[name]
    path = reference / "ferebus" / f"{name}.csv"
    data = read_training_set(path)
    assert data.features.shape == (n, f) and len(data.targets) == p
    assert data.path == path and data.ignored == () and data.constant == ()
    assert f"{data.system}_{data.atom}" == "_".join(path.stem.split("_")[:2])
    names = path.read_text().split("\n")[0].split(",")
    table = np.genfromtxt(path, delimiter=",", skip_header=1)  # an independent reader
    for key, column in {f"f{h + 1}": data.features[:, h] for h in range(f)}.items():
        np.testing.assert_array_equal(table[:, names.index(key)], column)
    for key, column in data.targets.items():
        np.testing.assert_array_equal(table[:, names.index(key)], column)


@pytest.mark.parametrize("name", [
    "ammonia/AMMONIA_N1", "methanol/METHANOL_C1", "glycine/GLYCINE_C1",
])
def test_published_models_were_trained_on_these_sets(reference, name):
    data = read_training_set(reference / "ferebus" / f"{name}_TRAINING_SET.csv")
    model = read_model(reference / "ferebus" / name.split("/")[0] / "marginal.model")
    np.testing.assert_allclose(model.inputs, data.features, rtol=0, atol=1e-14)
    np.testing.assert_allclose(model.targets, data.targets["iqa"], rtol=1e-14)
    assert model.atom == data.atom and model.system == data.system


def test_glycine_is_read_fast(reference):
    path = reference / "ferebus" / "glycine" / "GLYCINE_C1_TRAINING_SET.csv"
    times = []
    for _ in range(3):
        start = time.process_time()
        read_training_set(path)
        times.append(time.process_time() - start)
    assert min(times) < 0.3


@pytest.mark.parametrize("name", ["glycine/GLYCINE_C1_VALIDATION_SET", *list(PUBLISHED)[:2]])
def test_published_round_trip(reference, tmp_path, name):
    data = read_training_set(reference / "ferebus" / f"{name}.csv")
    copy = tmp_path / f"{name.split('/')[1]}.csv"
    write_training_set(copy, data)
    again = read_training_set(copy)
    assert_same(data, again)
    assert list(again.targets) == list(data.targets)
    assert (again.system, again.atom) == (data.system, data.atom)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_round_trip_is_bitwise(tmp_path_factory, data):
    n_atoms = data.draw(st.integers(2, 5))
    n = data.draw(st.integers(1, 6))
    any_float = st.floats(allow_nan=False, allow_infinity=False)
    distance = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
    angle = st.floats(0, np.pi)
    kinds = [distance] if n_atoms == 2 else [distance, distance, angle]
    kinds += [distance, angle, st.floats(-np.pi, np.pi)] * max(n_atoms - 3, 0)
    rows = data.draw(
        st.lists(st.tuples(*kinds), min_size=n, max_size=n, unique_by=lambda row: row[0])
    )
    names = data.draw(st.lists(st.sampled_from(["iqa", *MOMENT_NAMES]), min_size=1, unique=True))
    targets = {
        name: np.array(data.draw(st.lists(any_float, min_size=n, max_size=n))) for name in names
    }
    before = TrainingSet(np.array(rows), targets)
    path = tmp_path_factory.mktemp("round") / "set.csv"
    write_training_set(path, before)
    after = read_training_set(path)
    assert_same(before, after)
    assert list(after.targets) == names and after.n_atoms == n_atoms
    assert (after.system, after.atom, after.alf) == (None, None, None)


@pytest.mark.parametrize(("change", "what"), [
    (lambda t: re.sub(r"^[^,]*,", "", t, flags=re.M), "no index column"),
    (lambda t: t.replace("\n", "\r\n"), "Windows"),
    (lambda t: t.replace("\n", "\r"), "old Macintosh"),
    (lambda t: "\ufeff" + t, "byte order mark"),
    (lambda t: "\n" + t + "\n  \n", "blank lines around"),
    (lambda t: t.replace("\n", "\n\n"), "blank lines between"),
    (lambda t: t.replace(",", " , "), "spaces"),
    (lambda t: t.upper(), "upper case"),
    (lambda t: t.replace(",f", ",F"), "upper case of f"),
    (lambda t: re.sub(r"([^,\n]+)", r'"\1"', t), "quotes"),
    (lambda t: re.sub(r",(f\d)", r",\1_H2", t), "names of ichor"),
    (lambda t: "\n".join(",".join(row.split(",")[::-1]) for row in t.split("\n")).replace(
        "f1,", "f1,index"), "columns in reverse order"),
])
def test_same_data_in_other_clothes(read, plain, change, what):
    assert_same(plain, read(change(text_of())))


def test_ichor_processed_data(read):
    header = (
        ",point_id,point_name,f1_H2,f2_H3,f3_H3,wfn_energy,-dE/df1,-dE/df2,-dE/df3,iqa,"
        "integration_error,q00,q10,q11c"
    )
    rows = [
        '1,1,"water, 1",1.8,1.81,1.7,-76.4,,,,-75.4,1e-05,-1.1,0.01,0.2',
        "2,2,eau é2,1.82,1.79,1.72,-76.41,,,,-75.41,-2e-05,-1.2,0.02,0.21",
    ]
    data = read(text_of(rows, header), "O1_processed_data_alf_1_2_3.csv")
    np.testing.assert_array_equal(data.features, [[1.8, 1.81, 1.7], [1.82, 1.79, 1.72]])
    assert list(data.targets) == ["iqa", "q00", "q10", "q11c"]
    np.testing.assert_array_equal(data.targets["q11c"], [0.2, 0.21])
    assert data.ignored == ("point_id", "point_name", "wfn_energy", "-dE/df1", "-dE/df2",
                            "-dE/df3", "integration_error")
    assert (data.system, data.atom, data.alf) == (None, "O1", (0, 1, 2))
    # ichor leaves points without IQA empty
    empty = "3,3,water3,1.83,1.79,1.72,-76.41" + "," * 8
    with pytest.raises(TrainingError, match=(
        r"line 4, column 11 \(iqa\): the cell is empty \(2 lines have empty cells\); remove"
    )):
        read(text_of([*rows, empty, empty], header))


def test_ichor_features_with_properties(read):
    data = read(
        "f1,f2,f3,iqa,integration_error,q00\n1.8,1.9,1.7,-75.4,1e-4,-1.0\n",
        "O1_features_with_properties.csv",
    )
    assert data.atom == "O1" and data.system is None
    assert list(data.targets) == ["iqa", "q00"] and data.ignored == ("integration_error",)


def test_diatomic_molecule(read):
    data = read("f1_F2,iqa\n1.7,-0.4\n1.8,-0.41\n", "H1_processed_data_alf_1_2.csv")
    assert data.n_atoms == 2 and data.alf == (0, 1, -1) and data.atom == "H1"
    np.testing.assert_array_equal(data.features, [[1.7], [1.8]])


@pytest.mark.parametrize(("name", "expected"), [
    ("WATER_MONOMER_N4_INT_VALIDATION_SET.csv", ("WATER_MONOMER", "N4")),
    ("C2_H5_N2_TRAINING_SET.csv", ("C2_H5", "N2")),
    ("CHLORAMINE_CL2.csv", ("CHLORAMINE", "Cl2")),
    ("NH3_N1.csv", ("NH3", "N1")),
    ("N1_features_with_properties.csv", (None, "N1")),
    ("data.csv", (None, None)),
    ("set_Q1.csv", (None, None)),  # not an element
    ("set_X1.csv", (None, None)),
    ("run_B12.csv", (None, None)),  # not one of four atoms
])
def test_names_of_files(read, name, expected):
    data = read(text_of(), name)
    assert (data.system, data.atom) == expected


@pytest.mark.parametrize("alf", ["1_2_5", "2_1_3", "1_2_2", "1_2", "1_0_2"])
def test_impossible_alf_in_name(read, alf):
    with pytest.raises(TrainingError, match=f"the ALF of N1 in the name of the file, {alf}, is"):
        read(text_of(), f"N1_processed_data_alf_{alf}.csv")


def test_constant_features_are_listed_and_constant_targets_allowed(read):
    rows = [re.sub(r"^(\d),([^,]+),([^,]+),[^,]+(.*),[^,]+$", r"\1,\2,\3,1.5\4,-54.9", row)
            for row in ROWS]
    data = read(text_of(rows))
    assert data.constant == ("f3",)
    np.testing.assert_array_equal(data.targets["iqa"], -54.9)


@pytest.mark.parametrize(("text", "message"), [
    ("", ": the file is empty"),
    ("\n \n", ": the file is empty"),
    (HEADER + "\n", ": there are no points after the header"),
    (text_of().replace(",", ";"), "line 1: there are no columns of features f1, f2, ...; separated "
     "by commas there are: ;f1;f2"),
    (text_of(header=ROWS[0]), "line 1: there are no columns of features"),
    (text_of(header="i,f1,f2,f3,f4,f5,f6,q11,wfn_energy"), "line 1: there is no column of a prop"),
    (text_of(header=",f1,f2,f3,f4,f6,f7,q00,iqa"), "line 1: there is no column f5, but one f7"),
    (text_of(header=",f0,f1,f2,f3,f4,f5,q00,iqa"),
     r"line 1, column 2 \(f0\): features are numbered from f1"),
    (text_of(header=",f1,f2,f3,f4,f5,f6x,q00,iqa"), r"line 1, column 7 \(f6x\): is this a feature"),
    (text_of(header=",f1,f2,f3,f4,f5,g6,q00,iqa"),
     "line 1: an atom of a molecule has 1 feature .* not 5"),
    (text_of(header=",f1,f2,a,b,c,d,q00,iqa"), "line 1: an atom of a molecule .* not 2"),
    (text_of(header=",f1,f2,f3,f4,f5,f1_H2,q00,iqa"),
     r"line 1, column 7 \(f1_H2\): 'f1_H2' stands twice, first in column 2"),
    (text_of(header=",f1,f2,f3,f4,f5,f6,iqa,IQA"),
     r"line 1, column 9 \(IQA\): 'IQA' stands twice, first in column 8"),
    (text_of(header=",f1,f2,f3,f4,f5,f6,iqa,"), "line 1: column 9 has no name"),
    (text_of(header="f1,f2,f3,f4,f5,f6,q00,iqa"),
     "line 2: 9 cells, but the header in line 1 has 8"),
    (text_of([*ROWS[:2], ROWS[2] + ","]), "line 4: 10 cells, but the header in line 1 has 9"),
    (text_of([ROWS[0], ROWS[1].rpartition(",")[0]]), "line 3: 8 cells, but the header"),
    ("\n" + text_of([ROWS[0], "", "1,2"]), "line 5: 2 cells, but the header in line 2 has 9"),
    (text_of(cells(1, {8: ""})), r"line 3, column 9 \(iqa\): the cell is empty; remove"),
    (text_of([ROWS[0], "," * 8]), r"line 3, column 2 \(f1\): the cell is empty; remove"),
    (text_of(cells(1, {4: "abc"})), r"line 3, column 5 \(f4\): 'abc' is not a finite number"),
    (text_of(cells(2, {4: "nan"})), r"line 4, column 5 \(f4\): 'nan' is not a finite number"),
    (text_of(cells(2, {7: "-inf"})), r"line 4, column 8 \(q00\): '-inf' is not a finite"),
    (text_of(cells(2, {8: "1e999"})), r"line 4, column 9 \(iqa\): '1e999' is not a finite"),
    (text_of(cells(0, {8: "-54_95"})), r"line 2, column 9 \(iqa\): '-54_95' is not a finite"),
    (text_of(cells(0, {8: "٣.1"})), r"line 2, column 9 \(iqa\): '٣.1' is not a finite"),
    (text_of(cells(0, {8: "1.0D-5"})), r"line 2, column 9 \(iqa\): '1.0D-5' is not a finite"),
    (text_of(cells(0, {8: '"-54,95"'})), r"line 2, column 9 \(iqa\): '-54,95' is not a finite"),
    (text_of(cells(0, {8: "5 4"})), r"line 2, column 9 \(iqa\): '5 4' is not a finite"),
    (text_of(cells(0, {1: "0.0"})), r"line 2, column 2 \(f1\): 0.0 is a feature out of range; a d"),
    (text_of(cells(0, {2: "-1.9"})), r"line 2, column 3 \(f2\): -1.9 is a feature out of range; a"),
    (text_of(cells(2, {4: "-0.0"})), r"line 4, column 5 \(f4\): -0.0 is a feature out of range; a"),
    (text_of(cells(2, {3: "105.2"})), r"column 4 \(f3\): 105.2 is a .*; an angle must be within"),
    (text_of(cells(2, {3: "-0.1"})), r"column 4 \(f3\): -0.1 is a .*; an angle must be within"),
    (text_of(cells(2, {5: "3.15"})), r"column 6 \(f5\): 3.15 is a .*; an angle must be within"),
    (text_of(cells(2, {6: "3.15"})), r"column 7 \(f6\): 3.15 is a .*; an azimuth must be within"),
    (text_of(cells(2, {6: "-3.15"})), r"column 7 \(f6\): -3.15 is a .*; an azimuth must be within"),
    (text_of(cells(2, {5: "93", 6: "-99"})), r"range \(2 features are out of range\); an angle"),
    (text_of([*ROWS, ROWS[1]]), "lines 3 and 5: they are the same point; remove one of the lines"),
    (text_of([*ROWS, *ROWS]),
     r"lines 2 and 5 \(3 points are such repetitions\): they are the same"),
    (text_of([*ROWS, ROWS[1].replace("54.96", "54.97")]),
     "lines 3 and 5: their features are equal, but iqa is -54.96 and -54.97; keep"),
    (text_of([*ROWS, ROWS[1].replace("54.96", "54.97").replace("0.35", "0.36")]),
     "lines 3 and 5: their features are equal, but q00 is 0.35 and 0.36; keep"),
    (text_of()[:-1], "line 4: the last line does not end with a newline"),
    (text_of()[:-3], "line 4: the last line does not end with a newline"),
    (text_of(cells(1, {0: '"1'})), "line 3: not a line of a CSV file"),
    (text_of().encode() + b"\xff\xfe", "line 5: not plain text; is this a CSV file"),
])
def test_bad_files(read, text, message):
    with pytest.raises(TrainingError, match=message) as caught:
        read(text)
    assert "AMMONIA_N1_TRAINING_SET.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_azimuths_of_both_signs_of_pi_are_one_point(read):
    """atan2(-0.0, -1) is -pi."""
    rows = [*cells(0, {6: repr(-np.pi)})[:1], *cells(0, {6: repr(np.pi)})[:1]]
    assert read(text_of(rows[:1])).features[0, 5] == -np.pi
    with pytest.raises(TrainingError, match="lines 2 and 3: they are the same point"):
        read(text_of(rows))


def test_rounded_pi_is_in_range(read):
    data = read(text_of(cells(0, {3: "3.1415927", 6: "-3.1415927"})))
    assert data.features[0, 2] == 3.1415927 and data.features[0, 5] == -3.1415927


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(TrainingError, match=r"none.csv: cannot be read: No such file"):
        read_training_set(tmp_path / "none.csv")
    with pytest.raises(TrainingError, match="cannot be read: Is a directory"):
        read_training_set(str(tmp_path))


FUZZ = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# splices of any text; the reader must give an error or a set that is as good as any
SPLICE = st.sampled_from([",", "\n", "\r", '"', "-", "+", ".", "e", "0", "9", " ", "nan", "f", "f7",
                          "iqa", "\x00", "\ufeff", "é", "\u2028", ",,", "\n\n", "1e400", "_", ";"])


@settings(max_examples=400, **FUZZ)
@given(st.integers(0, 400), st.integers(0, 12), SPLICE | st.just(""))
@example(0, 400, "")
def test_damaged_files_never_give_a_traceback(tmp_path, plain, start, length, splice):
    text = text_of()
    start = min(start, len(text))
    damaged = text[:start] + splice + text[start + length:]
    path = tmp_path / "damaged.csv"
    path.write_bytes(damaged.encode())
    try:
        data = read_training_set(path)
    except TrainingError as error:
        assert str(error).startswith(str(path)) and "Traceback" not in str(error)
        return
    assert data.features.shape[1] in (1, 3, 6) and data.targets
    values = np.column_stack([data.features, *data.targets.values()])
    assert np.isfinite(values).all() and (data.features[:, :2] > 0).all()
    if data.features.shape == (3, 6):
        # whatever passes differs from the original in no more than the numbers that were hit
        changed = (data.features != plain.features).sum()
        assert changed <= 1 + (length + len(splice)) // 2


@settings(max_examples=150, **FUZZ)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_error(tmp_path, content):
    path = tmp_path / "bytes.csv"
    path.write_bytes(content)
    with pytest.raises(TrainingError):
        read_training_set(path)


@settings(max_examples=100, **FUZZ)
@given(st.integers(1, len(text_of()) - 1))
def test_truncated_files(tmp_path, plain, length):
    """Cut anywhere but at the end of a line is an error; whole lines are what they were."""
    path = tmp_path / "truncated.csv"
    text = text_of()[:length]
    path.write_text(text)
    if text.endswith("\n") and text.count("\n") > 1:
        n = text.count("\n") - 1
        np.testing.assert_array_equal(read_training_set(path).features, plain.features[:n])
    else:
        with pytest.raises(TrainingError):
            read_training_set(path)


class TestWriting:
    def write(self, tmp_path, features, targets):
        write_training_set(tmp_path / "new.csv", TrainingSet(features, targets))

    def test_layout(self, tmp_path, plain):
        self.write(tmp_path, plain.features, plain.targets)
        lines = (tmp_path / "new.csv").read_text().split("\n")
        assert lines[0] == HEADER and lines[1] == ROWS[0] and lines[-1] == "" and len(lines) == 5

    def test_never_overwrites(self, tmp_path, plain):
        (tmp_path / "new.csv").write_text("precious")
        with pytest.raises(TrainingError, match="exists; remove it or choose another name"):
            self.write(tmp_path, plain.features, plain.targets)
        assert (tmp_path / "new.csv").read_text() == "precious"

    def test_missing_folder(self, tmp_path, plain):
        with pytest.raises(TrainingError, match="cannot be written: No such file"):
            write_training_set(tmp_path / "no" / "new.csv", plain)

    @pytest.mark.parametrize(("features", "targets", "message"), [
        (np.ones((2, 5)), {"iqa": np.zeros(2)}, r"F is 1 or 3N - 6, not of shape \(2, 5\)"),
        (np.ones((0, 3)), {"iqa": np.zeros(0)}, r"at least one point"),
        (np.ones(3), {"iqa": np.zeros(3)}, r"not of shape \(3,\)"),
        (np.ones((1, 3)), {}, "targets must be iqa or moments q00 to q44s, not: none"),
        (np.ones((1, 3)), {"energy": np.zeros(1)}, "not: energy"),
        (np.ones((2, 3)), {"iqa": np.zeros(3)}, r"iqa has the shape \(3,\) instead of \(2,\)"),
        (np.ones((1, 3)), {"iqa": [np.nan]}, r"line 2, column 5 \(iqa\): nan is not a finite"),
        (-np.ones((1, 3)), {"iqa": [1.0]}, r"line 2, column 2 \(f1\): -1.0 is a feature out of"),
        (np.ones((2, 3)), {"iqa": [1.0, 1.0]}, "lines 2 and 3: they are the same point"),
    ])
    def test_refuses_what_could_not_be_read(self, tmp_path, features, targets, message):
        with pytest.raises(TrainingError, match=message):
            self.write(tmp_path, features, targets)
        assert not (tmp_path / "new.csv").exists()
