"""One training step that is recorded once and replayed: on a GPU, small networks and small batches wait for the launching of kernels.

It knows nothing of what is trained. A step must have fixed shapes, take all that changes from its inputs, and never wait for the device.
"""

import torch

WARM_UP = 4


class Step:
    """`loss_at(*inputs)` is lowered by `optimizer`, whose learning rates are tensors. Calling it with inputs makes a step and returns the loss.
    On a CPU, and for the first few steps, nothing is recorded."""

    def __init__(self, loss_at, optimizer, most_norm=1.0):
        self.loss_at, self.optimizer, self.most_norm = loss_at, optimizer, most_norm
        self.params = [p for group in optimizer.param_groups for p in group["params"]]
        self.done, self.graph, self.inputs = 0, None, None

    def step(self):
        loss = self.loss_at(*self.inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, self.most_norm)
        self.optimizer.step()
        return loss.detach()

    def __call__(self, *inputs):
        if self.inputs is None:
            self.inputs = [x.clone() for x in inputs]
        for kept, x in zip(self.inputs, inputs, strict=True):
            kept.copy_(x)
        self.done += 1
        if self.graph is not None:
            self.graph.replay()
            return self.loss.clone()
        self.optimizer.zero_grad(set_to_none=True)
        if not self.inputs[0].is_cuda:
            return self.step()
        if self.done <= WARM_UP:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                loss = self.step()
            torch.cuda.current_stream().wait_stream(side)
            return loss
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = self.step()
        # What is recorded has not been run.
        self.graph.replay()
        return self.loss.clone()


def adamw(groups, device, weight_decay=0.05):
    """AdamW over [(parameters, learning rate)], fit for Step."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.optim.AdamW([{"params": p, "lr": torch.tensor(float(rate), device=device)} for p, rate in groups if p], weight_decay=weight_decay, capturable=on_gpu, foreach=on_gpu)
