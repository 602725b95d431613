"""Bayesian panel and multilevel regression from one line of formula.

>>> import hierpanel as hp
>>> df = hp.datasets.load("wage_panel")
>>> model = hp.Model("log_wage ~ experience + (1 + experience | worker)", df)
"""

from hierpanel import datasets
from hierpanel.errors import (
    DataError,
    FamilyError,
    FileError,
    FitError,
    FormulaError,
    HierpanelError,
    PriorError,
    RouteError,
)
from hierpanel.formula import parse
from hierpanel.model import Model, fit, load
from hierpanel.pooling import Pooling, pooling
from hierpanel.results.contrasts import comparisons, predictions, slopes
from hierpanel.results.datagrid import datagrid
from hierpanel.results.describe import PanelDescription, describe_panel
from hierpanel.results.fit import Fit
from hierpanel.results.journal import table
from hierpanel.results.journal_table import JournalTable
from hierpanel.results.loo import compare
from hierpanel.simulate import simulate
from hierpanel.spec import Prior, family

__version__ = "0.1.0"
__all__ = [
    "DataError",
    "FamilyError",
    "FileError",
    "Fit",
    "FitError",
    "FormulaError",
    "HierpanelError",
    "JournalTable",
    "Model",
    "PanelDescription",
    "Pooling",
    "Prior",
    "PriorError",
    "RouteError",
    "compare",
    "comparisons",
    "datagrid",
    "datasets",
    "describe_panel",
    "family",
    "fit",
    "load",
    "parse",
    "pooling",
    "predictions",
    "simulate",
    "slopes",
    "table",
]
