"""The command line: ``hierpanel fit FORMULA DATA.csv --out FOLDER`` prints a summary, writes report.html and fit.nc."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import hierpanel as hp


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, or 2 after printing what was wrong with the input."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"hierpanel: {message}", file=sys.stderr)
            return int(options.run(options))
    except (hp.HierpanelError, OSError) as error:
        print(f"hierpanel: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hierpanel", description="Bayesian panel and multilevel regression.")
    parser.add_argument("--version", action="version", version=f"hierpanel {hp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    fit = commands.add_parser("fit", help="fit a model to a CSV or Parquet file and print its summary")
    fit.add_argument("formula", help='such as "log_wage ~ experience + (1 | worker)"')
    fit.add_argument("data", type=Path, help="a .csv (also .gz) or .parquet file")
    fit.add_argument("--family", default="gaussian", help="gaussian, bernoulli, bernoulli(probit), poisson, …")
    fit.add_argument("--weights", help="column of precision weights")
    fit.add_argument("--panel", nargs=2, metavar=("UNIT", "TIME"), help="columns of a panel, for lag, within, …")
    fit.add_argument("--method", default="auto")
    fit.add_argument("--draws", type=int, default=1000, help="draws kept in each chain (default 1000)")
    fit.add_argument("--tune", type=int, default=1000, help="warm-up draws in each chain (default 1000)")
    fit.add_argument("--chains", type=int, default=4)
    fit.add_argument("--cores", type=int)
    fit.add_argument("--seed", type=int, help="the same seed gives the same draws")
    fit.add_argument("--target-accept", type=float)
    fit.add_argument("--out", type=Path, help="folder for report.html and fit.nc; made if it is not there")
    fit.add_argument("--quiet", action="store_true", help="no progress bar")
    fit.set_defaults(run=_fit)

    explain = commands.add_parser("explain", help="say what a model would estimate, and its priors, without fitting it")
    explain.add_argument("formula")
    explain.add_argument("data", type=Path)
    explain.add_argument("--family", default="gaussian")
    explain.add_argument("--weights")
    explain.add_argument("--panel", nargs=2, metavar=("UNIT", "TIME"))
    explain.set_defaults(run=_explain)

    show = commands.add_parser("summary", help="print the summary of a saved fit")
    show.add_argument("file", type=Path, help="a fit.nc")
    show.set_defaults(run=_summary)
    return parser


def _fit(options: argparse.Namespace) -> int:
    model = _model(options)
    fit = model.fit(
        options.method,
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        cores=options.cores,
        seed=options.seed,
        target_accept=options.target_accept,
        progress=not options.quiet,
    )
    print(fit.summary())
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        fit.report(options.out / "report.html")
        fit.save(options.out / "fit.nc")
        print(f"\nwrote {options.out / 'report.html'} and {options.out / 'fit.nc'}")
    return 0


def _explain(options: argparse.Namespace) -> int:
    model = _model(options)
    print(f"{model.explain()}\n\n{model.prior_summary()}")
    return 0


def _summary(options: argparse.Namespace) -> int:
    print(hp.load(options.file).summary())
    return 0


def _model(options: argparse.Namespace) -> hp.Model:
    read = pd.read_parquet if options.data.suffix == ".parquet" else pd.read_csv
    if not options.data.is_file():
        raise hp.FileError(f"there is no file {options.data}")
    try:
        table = read(options.data)
    except Exception as error:  # each reader and each kind of damage has its own class
        raise hp.DataError(f"{options.data} cannot be read as a table: {error}") from error
    return hp.Model(options.formula, table, family=options.family, weights=options.weights, panel=options.panel, env={})


if __name__ == "__main__":
    sys.exit(main())
