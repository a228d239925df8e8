"""PyTorch's side of chain.ts: a chain of 1,000 mul/add on one-element tensors, forward and backward, in milliseconds."""

import json
import sys
import time

import torch

torch.set_num_threads(1)
repeats = int(sys.argv[1])


def run() -> float:
    x = torch.tensor([1.0], requires_grad=True)
    a, b = torch.tensor([0.999]), torch.tensor([0.001])
    start = time.perf_counter()
    y = x
    for _ in range(500):
        y = y * a + b
    y.backward()
    return (time.perf_counter() - start) * 1e3


for _ in range(20):
    run()
print(json.dumps({"version": torch.__version__, "ms": [run() for _ in range(repeats)]}))
