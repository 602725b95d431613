"""The wage panel of Vella & Verbeek (1998), as linearmodels ships it -> hierpanel/data_files/wage_panel.csv.gz

Run from the repo root: python tests/reference/make_wage_panel.py
"""

import gzip
from pathlib import Path

from linearmodels.datasets import wage_panel

NAMES = {
    "nr": "worker",
    "year": "year",
    "lwage": "log_wage",
    "exper": "experience",
    "expersq": "experience_sq",
    "union": "union",
    "married": "married",
    "educ": "education",
    "black": "black",
    "hisp": "hispanic",
    "hours": "hours",
    "occupation": "occupation",
}


def main() -> None:
    data = wage_panel.load()[list(NAMES)].rename(columns=NAMES).sort_values(["worker", "year"])
    text = data.to_csv(index=False, lineterminator="\n")
    Path("hierpanel/data_files/wage_panel.csv.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
