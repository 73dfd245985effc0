"""Print the lower bounds of pyproject.toml as constraints for pip: `ase==3.29.*` and so on."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["labels"], *extras["test"], *extras["dask"]]:
    match = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement)
    if match:
        print(f"{match[1]}=={match[2]}.*")
