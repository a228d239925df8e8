"""PyTorch's side of gpu.ts on a CUDA device: `gpu_torch.py BATCH full|quick`. Eager, f32, TF32 off. Prints JSON.

The MDT is that of models/mdt.ts as to shapes and operations (12 blocks of 384 with relative position bias, a
side-interpolator, 64 tokens of which 44 are kept in the masked pass), with weights of its own: for times only.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

if not torch.cuda.is_available():
    sys.exit("torch has no CUDA device")

batch, quick = int(sys.argv[1]), sys.argv[2] == "quick"
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.manual_seed(0)
dev = torch.device("cuda")
D, H, DEPTH, T, KEPT = 384, 6, 12, 64, 44


class Block(nn.Module):
    def __init__(self, biased):
        super().__init__()
        self.ada, self.qkv, self.proj = nn.Linear(D, 6 * D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.fc1, self.fc2 = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.bias = nn.Parameter(torch.zeros(H, 225)) if biased else None

    def forward(self, x, c, pairs=None):
        n, t, _ = x.shape
        s1, a1, g1, s2, a2, g2 = self.ada(F.silu(c)).unsqueeze(1).chunk(6, -1)
        y = F.layer_norm(x, (D,), eps=1e-6) * (1 + a1) + s1
        q, k, v = self.qkv(y).view(n, t, 3, H, D // H).permute(2, 0, 3, 1, 4)
        mask = None if pairs is None else self.bias[:, pairs].transpose(0, 1) if pairs.dim() == 3 else self.bias[:, pairs]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(n, t, D)
        x = x + g1 * self.proj(y)
        y = F.layer_norm(x, (D,), eps=1e-6) * (1 + a2) + s2
        return x + g2 * self.fc2(F.gelu(self.fc1(y), approximate="tanh"))


class Net(nn.Module):
    def __init__(self, channels, masked):
        super().__init__()
        self.embed, self.time1, self.time2 = nn.Linear(4 * channels, D), nn.Linear(256, D), nn.Linear(D, D)
        self.blocks = nn.ModuleList(Block(masked) for _ in range(DEPTH))
        self.side = Block(masked) if masked else None
        self.token = nn.Parameter(torch.zeros(1, 1, D)) if masked else None
        self.ada, self.out = nn.Linear(D, 2 * D), nn.Linear(D, 4 * channels)

    def forward(self, x, time_features, keep=None):
        c = self.time2(F.silu(self.time1(time_features)))
        x = self.embed(x)
        full = torch.randint(225, (T, T), device=dev) if self.side else None
        pairs = full
        if keep is not None:
            rows = keep.unsqueeze(-1).expand(-1, -1, D)
            x = x.gather(1, rows)
            pairs = full[keep.unsqueeze(2), keep.unsqueeze(1)]
        for block in self.blocks[: DEPTH - 2]:
            x = block(x, c, pairs)
        if keep is not None:
            x = self.token.expand(batch, T, D).scatter(1, rows, x)
            x = x + self.side(x, c, full)
        for block in self.blocks[DEPTH - 2 :]:
            x = block(x, c, full)
        shift, scale = self.ada(F.silu(c)).unsqueeze(1).chunk(2, -1)
        return self.out(F.layer_norm(x, (D,), eps=1e-6) * (1 + scale) + shift)


def timed(run, repeats):
    for _ in range(3):
        run()
    rounds = []
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        torch.cuda.synchronize()
        rounds.append((time.perf_counter() - start) / repeats * 1e3)
    return sorted(rounds)[1]


def trainer(channels, masked):
    net = Net(channels, masked).to(dev)
    average = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, foreach=True)
    x, target = torch.randn(2, batch, T, 4 * channels, device=dev)
    features = torch.randn(batch, 256, device=dev)

    def run():
        optimizer.zero_grad()
        F.mse_loss(net(x, features), target).backward()
        if masked:
            keep = torch.rand(batch, T, device=dev).argsort(1)[:, :KEPT]
            F.mse_loss(net(x, features, keep), target).backward()
        optimizer.step()
        if masked:
            torch._foreach_lerp_(average, [p.detach() for p in net.parameters()], 1e-4)

    return run


ms = {}
for n in [64] if quick else [512, 1024, 2048, 4096]:
    a, b = torch.randn(2, n, n, device=dev)
    ms[f"matmul {n}³"] = timed(lambda: a @ b, 20)
block = Block(False).to(dev)
tokens, condition = torch.randn(batch, T, D, device=dev, requires_grad=True), torch.randn(batch, D, device=dev, requires_grad=True)


def block_step():
    block(tokens, condition).sum().backward()
    for leaf in [*block.parameters(), tokens, condition]:
        leaf.grad = None  # as gpu.ts disposes of them: nothing is added up


ms["DiT block"] = timed(block_step, 10)
ms["DiT-S/2 step"] = timed(trainer(4, False), 10)
ms["MDT-S/2 step"] = timed(trainer(3, True), 10)
print(json.dumps({"version": torch.__version__, "device": torch.cuda.get_device_name(), "ms": ms}))
