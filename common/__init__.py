"""What is the same in several stages."""

import os

# The features' products are small: threads of numpy's would take the cores from torch.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
