"""Set before anything is imported: no test reaches a network, and none writes into the user's caches."""

import os
import tempfile


os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors; and runs are forked, which threads do not survive
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp(prefix="spanbert-tests-"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
