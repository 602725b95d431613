"""What maketables asks of a fit, so that its tables take hierpanel's fits beside those of other packages.

Source: the plug-in format of maketables 0.2.
"""

from typing import Any

import pandas as pd


class Protocol:
    """The attributes of maketables' protocol; each is a function of `journal`."""

    def __maketables_stat__(self: Any, key: str) -> Any:
        from hierpanel.results import journal

        return journal.maketables_stat(self, key)

    @property
    def __maketables_coef_table__(self: Any) -> pd.DataFrame:
        from hierpanel.results import journal

        return journal.maketables_coef_table(self)

    @property
    def __maketables_stat_labels__(self: Any) -> dict[str, str]:
        from hierpanel.results import journal

        return journal.maketables_stat_labels(self)

    @property
    def __maketables_default_stat_keys__(self: Any) -> list[str]:
        from hierpanel.results import journal

        return journal.maketables_default_stat_keys(self)

    @property
    def __maketables_depvar__(self: Any) -> str:
        from hierpanel.results import journal

        return journal.maketables_depvar(self)

    @property
    def __maketables_fixef_string__(self: Any) -> str | None:
        from hierpanel.results import journal

        return journal.maketables_fixef_string(self)

    @property
    def __maketables_vcov_info__(self: Any) -> dict[str, str | None]:
        from hierpanel.results import journal

        return journal.maketables_vcov_info(self)
