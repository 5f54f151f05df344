from pipeline.config import *  # noqa
from pipeline.config import run, settings as read  # noqa
