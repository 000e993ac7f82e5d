"""Train on all GPUs of a machine.

torchrun --nproc-per-node=gpu train_on_gpus.py interactions.npz model.safetensors
"""

import os
import sys

import torch
from scipy.sparse import load_npz

from sklrec.neural import MultVAE
from sklrec.persistence import save

if torch.cuda.is_available():
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # each process has a GPU of its own
torch.distributed.init_process_group()

X = load_npz(sys.argv[1])
vae = MultVAE(early_stopping=True, random_state=0, verbose=1).fit(X)
if torch.distributed.get_rank() == 0:  # all have the same model
    save(vae, sys.argv[2])
torch.distributed.destroy_process_group()
