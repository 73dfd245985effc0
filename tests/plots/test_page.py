"""Pages, looked at by a real browser where there is one."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.plots.page import Page

BROWSER = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
))), None)
EVIL = "</script><script>document.body.dataset.evil = 1</script>"

# a headless browser paints when it finds time for it, which on a busy machine may be never
FRAMES = """
<script>
window.requestAnimationFrame = draw => setTimeout(() => draw(performance.now()), 20);
</script>
"""
LOOK = """
<script>
document.addEventListener("securitypolicyviolation", e => {
  document.body.dataset.refused = e.effectiveDirective;
});
const figure = document.querySelector("figure.viewer"), canvas = figure.querySelector("canvas");
function painted() {
  const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let sum = 0;
  for (let k = 0; k < all.length; k += 4) sum += all[k + 3] > 0 ? 1 + all[k] : 0;
  return sum;
}
const before = painted();
document.querySelectorAll("tr[data-index]")[1].click();
const chosen = painted();
canvas.dispatchEvent(new PointerEvent("pointermove", {buttons: 1, movementX: 90, movementY: 40}));
Object.assign(figure.dataset, {before, chosen, turned: painted()});
const picture = new Image();
picture.src = "http://127.0.0.1:9/picture.png";
document.body.append(picture);
</script>
"""


def looked_at(file, more=""):
    """The page as the browser has it after 2 s of its own time."""
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH")
    seen = file.with_name("seen.html")
    text = file.read_text("utf-8").replace("<body>", f"<body>{FRAMES}")
    assert FRAMES in text
    seen.write_text(text.replace("</body>", f"{more}</body>"), "utf-8")
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={file.parent / 'profile'}", "--virtual-time-budget=2000", "--dump-dom",
         seen.as_uri()],
        capture_output=True, text=True, timeout=300, check=True,
    )
    return done.stdout


def attributes(dom, tag):
    (found,) = re.findall(rf"<{tag}[^>]*>", dom)
    return dict(re.findall(r'data-([\w-]+)="([^"]*)"', found))


@pytest.fixture
def page(tmp_path):
    """Water standing still and moving."""
    page = Page(f"water {EVIL}")
    page.heading("Modes & more")
    page.text(f"a < b {EVIL}")
    page.table(("quantity", "value/cm-1"), [("x < y", "1.0")])
    water = molecule("H2O")
    mode = np.array([[0, 0, 0], [0, 0.1, 0], [0, -0.1, 0]])
    page.molecules(
        water, [(f"rest {EVIL}", water.positions, None), ("stretch", water.positions, mode)],
        ("mode", "wavenumber/cm-1"), [("1", "-"), ("2", "3600.0")],
    )
    page.picture(lambda file: file.write_bytes(b"\x89PNG"), 'a "picture"')
    page.picture(lambda file: None, "that could not be drawn")
    page.write(tmp_path / "page.html")
    return tmp_path / "page.html"


def test_one_file_without_links(page):
    text = page.read_text("utf-8")
    assert not re.search(r"https?://|@import|<link|src=\"(?!data:)", text)
    assert "default-src 'none'" in text
    assert text.count("<img") == 1 and 'alt="a &quot;picture&quot;"' in text


def test_text_is_escaped(page):
    text = page.read_text("utf-8")
    assert EVIL not in text and "a &lt; b" in text and "x &lt; y" in text
    assert text.count("</script>") == 2  # of the data and of the viewer


def test_a_page_without_molecules_has_no_script(tmp_path):
    page = Page("nothing that moves")
    page.lines("1\n2")
    page.write(tmp_path / "page.html")
    assert "<script" not in (tmp_path / "page.html").read_text()


def test_molecules_are_drawn_chosen_turned_and_moved(page):
    dom = looked_at(page, LOOK)
    body, figure = attributes(dom, "body"), attributes(dom, "figure")
    assert "error" not in body and "evil" not in body
    assert figure["item"] == "1" and "<figcaption>stretch</figcaption>" in dom
    before, chosen, turned = (int(figure[name]) for name in ("before", "chosen", "turned"))
    # thousands of pixels, other ones with the mode displaced, others again when it is turned
    assert min(before, chosen, turned) > 1e5 and len({before, chosen, turned}) == 3
    assert int(figure["frames"]) > 3
    rows = re.findall(r'<tr data-shows[^>]*class="([^"]*)"', dom)
    assert rows.count("chosen") == 1


def test_nothing_is_loaded(page):
    assert attributes(looked_at(page, LOOK), "body")["refused"] == "img-src"
