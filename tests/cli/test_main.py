import ast
import errno
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import ase_fflux
from ase_fflux.base import errors
from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.cli import main as cli


@pytest.fixture
def verb(monkeypatch):
    """Makes ``fflux opt`` run a function of the arguments."""

    def install(run):
        def add_parser(subparsers):
            subparsers.add_parser("opt").add_argument("words", nargs="*")

        fake = SimpleNamespace(add_parser=add_parser, run=run)
        monkeypatch.setattr(cli, "_module", lambda name: fake)

    return install


def test_version(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"fflux {ase_fflux.__version__}\n"


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    assert done.value.code == 0
    out = capsys.readouterr().out
    for name, summary in cli.VERBS.items():
        assert f"  {name} " in out and summary in out


@pytest.mark.parametrize("argv", [["optimise"], ["--mode"]])
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main(argv)
    assert done.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and error.count("\n") == 1
    assert "`fflux --help` explains" in error


@pytest.mark.parametrize("argv, said", [
    (["op", "x.xyz"], "there is no verb 'op'; did you mean opt?"),
    (["optimise"], "; did you mean opt?"),
    (["1234"], "there is no verb '1234' ("),
    (["opt", "x.xyz", "--models", "y"], "--models y; did you mean --model? (`fflux opt --help`"),
    (["opt", "x.xyz", "--optimiser=bfgs"], "; did you mean --optimizer? (`fflux opt"),
    (["label", "x.xyz", "--source", "y"], "--source y (`fflux label"),
    (["opt", "x.xyz", "y.xyz"], "unrecognized arguments: y.xyz (`fflux opt --help`"),
])
def test_what_was_meant_is_said(argv, said, capsys):
    with pytest.raises(SystemExit):
        cli.main(argv)
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_wrong_options_are_one_line_with_the_verb(capsys):
    for argv in (["opt"], ["opt", "x.xyz", "--fmax", "0"], ["build", "x.xyz", "--labels"]):
        with pytest.raises(SystemExit) as done:
            cli.main(argv)
        error = capsys.readouterr().err
        assert done.value.code == 2 and error.count("\n") == 1
        assert error.startswith("fflux: error: ") and f"`fflux {argv[0]} --help`" in error


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb_teaches(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as done:
        cli.main([verb, "--help"])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert f"  fflux {verb} " in said and "example" in said
    assert "exit status:" in " ".join(said.lower().split()) and "2 error" in said
    assert all(len(line) <= 100 for line in said.splitlines())


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from ase_fflux.cli.main import parser; parser().format_help(); "
        "heavy = {'ase', 'numpy', 'scipy', 'numba', 'phonopy', 'matplotlib'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_exit_status_and_command(verb):
    seen = []
    verb(lambda args: seen.append(args.command) or 1)
    assert cli.main(["opt", "a file.xyz"]) == 1
    assert seen == ["fflux opt 'a file.xyz'"]
    verb(lambda args: None)
    assert cli.main(["opt"]) == 0


def test_errors_are_one_line(verb, capsys):
    def run(args):
        raise FFLUXError("first line\n   second")

    verb(run)
    assert cli.main(["opt"]) == 2
    assert capsys.readouterr().err == "fflux: error: first line second\n"


def test_file_errors_name_the_file(verb, capsys, tmp_path):
    verb(lambda args: open(tmp_path / "none" / "x.json"))
    assert cli.main(["opt"]) == 2
    assert capsys.readouterr().err == f"fflux: error: {tmp_path}/none/x.json: " \
        "No such file or directory\n"


def test_interrupt(verb, capsys):
    def run(args):
        raise KeyboardInterrupt

    verb(run)
    assert cli.main(["opt"]) == 130
    assert capsys.readouterr().err == "fflux: interrupted\n"


def test_warnings_are_one_line(verb, capsys):
    verb(lambda args: warnings.warn("low\ncoverage", FFLUXWarning, stacklevel=1))
    before = warnings.showwarning
    assert cli.main(["opt"]) == 0
    assert capsys.readouterr().err == "fflux: warning: low coverage\n"
    assert warnings.showwarning is before


@pytest.mark.parametrize("category", [UserWarning, RuntimeWarning, DeprecationWarning])
def test_warnings_of_libraries_are_not_for_users(verb, capsys, category, monkeypatch):
    verb(lambda args: warnings.warn("shape of an array", category, stacklevel=1))
    assert cli.main(["opt"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.warnoptions", ["default"])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["opt"]) == 0
    assert capsys.readouterr().err == "fflux: warning: shape of an array\n"


def test_every_warning_of_ours_is_one_that_users_see():
    folder = Path(ase_fflux.__file__).parent
    calls = [
        (path.name, node.lineno, getattr(node.args[1], "id", "") if node.args[1:] else "")
        for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
    ]
    assert calls
    for *where, category in calls:
        assert issubclass(getattr(errors, category, Warning), FFLUXWarning), (where, category)


def test_logs_of_libraries_are_not_shown(tmp_path):
    code = (
        "import logging, types; from ase_fflux.cli import main as cli; "
        "verb = types.SimpleNamespace(add_parser=lambda s: s.add_parser('opt'), "
        "run=lambda args: logging.getLogger('library').error('of a library')); "
        "cli._module = lambda name: verb; cli.main(['opt']); "
        "logging.getLogger('library').error('afterwards')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "afterwards\n"


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "w.xyz"), "w.xyz: Permission denied"),
        (MemoryError("Unable to allocate 2 TiB"), "out of memory (Unable to allocate 2 TiB)"),
        (FFLUXError("b\udcfcd.xyz: no such file"), "b\\xfcd.xyz: no such file"),
    ],
)
def test_what_the_machine_refuses_is_one_line(verb, capsys, error, said):
    def run(args):
        raise error

    verb(run)
    assert cli.main(["opt"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"fflux: error: {said}") and shown.count("\n") == 1


def test_the_command_can_be_written_anywhere(verb):
    commands = []
    verb(lambda args: commands.append(args.command))
    cli.main(["opt", "b\udcfcd.xyz"])
    assert commands == ["fflux opt 'b\\xfcd.xyz'"]


def test_without_a_verb_there_is_help(capsys):
    assert cli.main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "example:" in said.err and "optimise a geometry" in said.err


def test_what_is_not_expected_keeps_its_traceback(verb):
    def run(args):
        raise ZeroDivisionError

    verb(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["opt"])
