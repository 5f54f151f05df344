from pipeline.evaluation.metrics import *  # noqa: F403
from pipeline.evaluation.metrics import measure  # noqa
from pipeline.evaluation.scoring import choose_groups  # noqa
from pipeline.evaluation.tables import with_interval  # noqa
