"""How Sphinx builds the site: `make docs`. Nothing is fetched, neither then nor when it is read."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "auditor"
author = "the auditor developers"
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"][
    "version"
]

extensions = ["myst_parser", "generated", "mathml"]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
suppress_warnings: list[str] = []

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

html_theme = "furo"
html_title = "auditor"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_math_renderer = "mathml"
pygments_style = "friendly"
python_use_unqualified_type_names = True
