"""What stands in the documentation runs, and prints what the pages say."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ase_fflux

DOCS = Path(__file__).resolve().parents[2] / "docs"
SLOW = ("active-learning", "distilled", "own-molecule")

_spec = importlib.util.spec_from_file_location("docs_pages", DOCS / "pages.py")
pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pages)


@pytest.mark.parametrize("page", [
    pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in SLOW else [])
    for p in pages.executed_pages()
])
def test_page(page, tmp_path):
    if page.read_text().startswith(pages.WITH_DATA) and not pages.DATA.is_dir():
        pytest.skip(f"published reference data not found at {pages.DATA} (set FFLUX_REFERENCE)")
    for program, package in (("i-pi ", "ipi"), ("tblite", "tblite"), ("mbis", "pyscf")):
        if program in page.read_text() and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    pages.run_page(page, tmp_path)


@pytest.mark.parametrize(("expected", "printed", "alike"), [
    ("energy -12.345 eV", "energy   -12.346 eV", True),
    ("energy -12.345 eV", "energy -13.346 eV", False),
    ("3 steps", "4 steps", False),
    ("C1 to O3", "C1 to O4", False),
    ("1.0e-5 eV", "1.1e-5 eV", True),
    ("1.0e-5 eV", "1.0e-4 eV", False),
    ("in ... s\n...\nend", "in 3.4 s\na\nb\nend", True),
    ("in ... s\nend", "in 3.4 s\na\nend", False),
])
def test_what_a_page_says_is_compared_with_what_is_printed(expected, printed, alike):
    assert pages.same(expected, printed) is alike


@pytest.mark.parametrize("block", [
    "```sh\necho 1.5\n```\n```text\n1.9\n```",
    "```python\nx = 1\n```\n```python\nprint(y)\n```",
    "```sh\nfalse\n```",
    "![a picture](pictures/missing.png)",
])
def test_a_page_that_is_wrong_is_found(block, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{pages.MARK} -->\n{block}\n")
    with pytest.raises(pages.PageError, match="page.md"):
        pages.run_page(page, tmp_path)


def test_python_of_a_page_is_one_process_and_update_keeps_what_is_right(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 2\n```\n```sh\necho shell ...\n```\n```text\nshell ...\n```\n"
        "```python\nprint(x)\n```\n```text\n3\n```\nend\n"
    )
    pages.run_page(page, tmp_path, update=True)
    text = page.read_text()
    assert "```text\nshell ...\n```" in text and text.endswith("```text\n2\n```\nend\n")


def test_pictures_of_the_concepts_are_drawn(tmp_path):
    script = DOCS / "pictures" / "concepts.py"
    subprocess.run([sys.executable, script, tmp_path], check=True)
    assert {p.name for p in tmp_path.iterdir()} == {"frame.png", "processes.png"}


def test_the_reference_has_all_public_names():
    listed = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    public = {name: getattr(ase_fflux, name) for name in ase_fflux.__all__}
    # errors stand there as a module
    missing = [
        name for name, thing in public.items()
        if f"{thing.__module__}.{name}" not in listed and thing.__module__ not in listed
    ]
    assert not missing
    for path in listed:
        module, _, name = path.rpartition(".")
        if importlib.util.find_spec(module) and "." in module:
            assert hasattr(importlib.import_module(module), name), path


def test_the_readme_is_short():
    assert len((DOCS.parent / "README.md").read_bytes()) <= 6000
