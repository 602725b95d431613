"""Example data: ``load(name)`` returns a pandas DataFrame. Nothing is downloaded."""

from importlib import resources

import numpy as np
import pandas as pd

from hierpanel.errors import DataError

# name → (description, source)
DATASETS = {
    "wage_panel": (
        "545 men × 8 years (1980-1987), 4,360 rows: worker, year, log_wage, experience, experience_sq, union, married, "
        "education, black, hispanic, hours, occupation",
        "Vella and Verbeek (1998), Journal of Applied Econometrics 13, 163-183",
    ),
    "wage_sim": (
        "simulated panel, 50 workers × 10 years: mean 2.5, sd of workers 0.3, experience 0.02, residual sd 0.2",
        "simulated, seed 42",
    ),
    "sleepstudy": ("reaction times of 18 subjects over 10 days", "Belenky et al. (2003), Journal of Sleep Research 12"),
    "penicillin": ("144 assays: 24 plates crossed with 6 samples", "Davies and Goldsmith (1972), table 6.6"),
    "dyestuff": ("yields of 6 batches × 5", "Davies and Goldsmith (1972), table 6.4"),
    "dyestuff2": ("simulated yields of 6 batches × 5 without any batch variance", "Box and Tiao (1973), table 5.1.4"),
    "pastes": ("strength of 10 batches × 3 casks × 2 assays", "Davies and Goldsmith (1972), table 6.5"),
    "radon": ("log radon in 919 houses of 85 counties", "Gelman and Hill (2007), chapter 12"),
    "cbpp": (
        "new cases of a disease in 15 herds over 4 periods",
        "Lesnoff et al. (2004), Preventive Veterinary Medicine 66",
    ),
    "insteval": (
        "73,421 ratings y (1-5) of lectures by 2,972 students s, of 1,128 lecturers d, in 14 departments: "
        "s, d, studage, lectage (both in semesters), service, dept",
        "lme4 (InstEval): university lecture evaluations at ETH Zurich",
    ),
}


def load(name: str) -> pd.DataFrame:
    """Return one of the example data sets of `DATASETS`.

    Parameters
    ----------
    name : str
        ``"wage_panel"`` (Vella and Verbeek, 1998), ``"wage_sim"``, ``"sleepstudy"``, ``"penicillin"``, ``"dyestuff"``,
        ``"dyestuff2"``, ``"pastes"``, ``"radon"``, ``"cbpp"`` or ``"insteval"``.

    Raises
    ------
    DataError
        For any other name.

    Examples
    --------
    >>> load("wage_panel").shape
    (4360, 12)
    """
    if name == "wage_sim":
        return _wage_sim()
    if name not in DATASETS:
        raise DataError(f"there is no data set {name!r}; there are: {', '.join(DATASETS)}")
    with resources.as_file(resources.files("hierpanel") / "data_files" / f"{name}.csv.gz") as path:
        return pd.read_csv(path)


def _wage_sim() -> pd.DataFrame:
    """Simulate the wage panel; the legacy generator keeps the textbook's draws."""
    random = np.random.RandomState(42)
    worker, year = np.repeat(np.arange(50), 10), np.tile(np.arange(10), 50)
    experience = year + random.poisson(5, 50)[worker]
    effect = random.normal(2.5, 0.3, 50)
    log_wage = effect[worker] + 0.02 * experience + random.normal(0, 0.2, 500)
    return pd.DataFrame({"worker": worker, "year": year, "experience": experience, "log_wage": log_wage})
