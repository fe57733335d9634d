"""Processes that train one network together, as torchrun starts them: sums of gradients, what the first of them decides or makes.

Every rank holds the same weights, draws the same batches and computes its part of each; what its part counts for is said by who knows the
loss. A process without torchrun is a group of one, for which nothing here does anything. It knows nothing of what is trained.
"""

import os
import signal
import sys
from datetime import timedelta

import numpy as np
import parent
import torch
from torch import distributed

# Others wait for the first while it simulates.
WAIT = timedelta(minutes=40)


class Ranks:
    def __init__(self, rank=0, size=1):
        self.rank, self.size = rank, size
        self.shapes = self.flat = self.views = None

    @property
    def first(self):
        return self.rank == 0

    def part(self, rows):
        """This rank's rows of an array, as many in each call for as many rows."""
        return np.array_split(rows, self.size)[self.rank]

    def sum(self, tensors):
        """Puts in the place of each tensor its sum over the ranks."""
        if self.size == 1:
            return
        shapes = [t.shape for t in tensors]
        if self.shapes != shapes:
            self.shapes, sizes = shapes, [t.numel() for t in tensors]
            self.flat = torch.zeros(sum(sizes), device=tensors[0].device)
            self.views = [v.view(shape) for v, shape in zip(self.flat.split(sizes), shapes, strict=True)]
        torch._foreach_copy_(self.views, tensors)
        distributed.all_reduce(self.flat)
        torch._foreach_copy_(tensors, self.views)

    def told(self, number):
        """The first one's number."""
        if self.size == 1:
            return number
        box = torch.tensor(float(number), dtype=torch.float64)
        distributed.broadcast(box, 0)
        return box.item()

    def made_by_first(self, make):
        """What `make()` is on the first rank, where alone it is called."""
        box = [make() if self.first else None]
        if self.size > 1:
            distributed.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]

    def same(self, net):
        """Gives all ranks the first one's weights."""
        if self.size > 1:
            for x in net.state_dict().values():
                box = x.contiguous()
                distributed.broadcast(box, 0)
                x.copy_(box)

    def drift(self, params):
        """The largest difference of a weight from the first rank's, over all ranks."""
        if self.size == 1:
            return 0.0
        mine = torch.nn.utils.parameters_to_vector(p.detach() for p in params)
        of_first = mine.clone()
        distributed.broadcast(of_first, 0)
        most = (mine - of_first).abs().max()
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        return most.item()

    def end(self):
        if self.size > 1:
            distributed.destroy_process_group()


ALONE = Ranks()


def begin(device):
    """The group that torchrun started this process in, and the device of this rank."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        return ALONE, device
    # torchrun ends its processes itself, but not if it is killed by -9.
    if parent.CAN:
        parent.end_with(os.getppid(), signal.SIGKILL)
    elif os.environ["RANK"] == "0":
        print("if torchrun is killed by -9 its processes go on, and are to be ended by hand; only Linux ends them", file=sys.stderr, flush=True)
    gpu = torch.device(device).type == "cuda"
    if gpu:
        place, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= there:
            raise SystemExit(f"process {place} has no GPU of its own: {there} are visible; " + (f"start torchrun with --nproc-per-node {there}" if there else "--device cpu trains without"))
        torch.cuda.set_device(place)
        device = f"cuda:{place}"
    # Numbers and histories stay on the CPU, where waiting for them does not hold up a GPU.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=WAIT)
    return Ranks(distributed.get_rank(), size), device
