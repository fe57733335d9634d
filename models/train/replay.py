"""One training step that is recorded once and replayed: on a GPU, small networks and small batches wait for the launching of kernels.

It knows nothing of what is trained. A step must have fixed shapes, take all that changes from its inputs, and never wait for the device.
Of several processes (ranks.py) each records two graphs, and gradients are summed between them: nothing of NCCL is recorded.
"""

import ranks
import torch

WARM_UP = 4


class Step:
    """`loss_at(*inputs)` is lowered by `optimizer`, whose learning rates are tensors. Calling it with inputs makes a step and returns the loss.
    On a CPU, and for the first few steps, nothing is recorded. With a `group` of several `loss_at` gives what this rank adds to the loss."""

    def __init__(self, loss_at, optimizer, most_norm=1.0, group=ranks.ALONE):
        self.loss_at, self.optimizer, self.most_norm, self.group = loss_at, optimizer, most_norm, group
        self.params = [p for g in optimizer.param_groups for p in g["params"]]
        self.done, self.graphs, self.inputs = 0, [], None

    def backward(self):
        """Loss and gradients of this rank."""
        self.loss = self.loss_at(*self.inputs)
        self.loss.backward()
        self.loss = self.loss.detach()

    def all_reduce(self):
        """Those of all ranks in the place of this one's."""
        self.group.sum([p.grad for p in self.params if p.grad is not None] + [self.loss])

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.params, self.most_norm)
        self.optimizer.step()

    def step(self):
        self.backward()
        self.all_reduce()
        self.update()

    def record(self):
        """The whole step as one graph, or, if ranks have to meet within it, what is before that and what is after."""
        alone = self.group.size == 1
        # The thread that watches over NCCL asks for its events at any time.
        mode = "global" if alone else "thread_local"
        for part in (self.step,) if alone else (self.backward, self.update):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode=mode):
                part()
            self.graphs.append(graph)

    def replay(self):
        self.graphs[0].replay()
        for graph in self.graphs[1:]:
            self.all_reduce()
            graph.replay()

    def __call__(self, *inputs):
        if self.inputs is None:
            self.inputs = [x.clone() for x in inputs]
        for kept, x in zip(self.inputs, inputs, strict=True):
            kept.copy_(x)
        self.done += 1
        if not self.graphs:
            self.optimizer.zero_grad(set_to_none=True)
            if not self.inputs[0].is_cuda:
                self.step()
                return self.loss
            if self.done <= WARM_UP:
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    self.step()
                torch.cuda.current_stream().wait_stream(side)
                return self.loss
            # What is recorded has not been run.
            self.record()
        self.replay()
        return self.loss.clone()


def adamw(groups, device, weight_decay=0.05):
    """AdamW over [(parameters, learning rate)], fit for Step."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.optim.AdamW([{"params": p, "lr": torch.tensor(float(rate), device=device)} for p, rate in groups if p], weight_decay=weight_decay, capturable=on_gpu, foreach=on_gpu)
