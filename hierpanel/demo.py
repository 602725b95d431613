"""``make demo``: fit the wage panel, print the summary, write report.html in the working folder."""

from pathlib import Path

import hierpanel as hp


def main() -> None:
    """Fit log wages on experience with varying intercepts and slopes of 545 men over 8 years."""
    df = hp.datasets.load("wage_panel")
    fit = hp.fit("log_wage ~ experience + (1 + experience | worker)", df, seed=1)
    print(fit.summary())
    path = Path("report.html")
    fit.report(path)
    print(f"\nwrote {path} ({path.stat().st_size / 1e6:.1f} MB): open it in a browser")


if __name__ == "__main__":
    main()
