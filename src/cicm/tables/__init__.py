"""The paper's tables and figures as data, and what makes them: plan, run, render.

The files lie in the package and not beside it, as recipes do: `cicm table` finds them from a checkout and from an
installed package alike. A table file of one's own is given by its path.
"""

from cicm.tables.plan import Row, Table, load_table, table_names
from cicm.tables.series import Job, Missing, Series
