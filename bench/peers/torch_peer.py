"""PyTorch eager: `torch_peer.py FOLDER THREADS`. The talk is that of serve.ts."""

import json
import os
import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
index = json.load(open(os.path.join(folder, "index.json")))
values = np.fromfile(os.path.join(folder, "values.bin"), dtype=np.float32)


def given(name):
    shape, at = index[name]["shape"], index[name]["at"]
    return torch.from_numpy(values[at : at + int(np.prod(shape))].reshape(shape).copy())


def digest(y):
    y = y.detach().reshape(-1).double()
    stride = y.numel() // 16
    return [y.square().mean().sqrt().item()] + [y[i * stride + i % stride].item() for i in range(16)]


class Op:
    def __init__(self, compute, *names):
        self.x, self.compute = [given(n) for n in names], compute

    @torch.no_grad()
    def run(self):
        self.compute(*self.x)

    @torch.no_grad()
    def check(self):
        return digest(self.compute(*self.x))


def block(w, p, x, c):
    def linear(name, z):
        return F.linear(z, w[p + name + ".weight"], w[p + name + ".bias"])

    shift1, scale1, gate1, shift2, scale2, gate2 = linear("adaLN_modulation.1", F.silu(c)).unsqueeze(1).chunk(6, -1)
    n, t, d = x.shape
    y = F.layer_norm(x, (d,), eps=1e-6) * (1 + scale1) + shift1
    q, k, v = linear("attn.qkv", y).view(n, t, 3, 6, d // 6).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
    x = x + gate1 * linear("attn.proj", y)
    y = F.layer_norm(x, (d,), eps=1e-6) * (1 + scale2) + shift2
    return x + gate2 * linear("mlp.fc2", F.gelu(linear("mlp.fc1", y), approximate="tanh"))


def weights(prefix=""):
    network = ("x_embedder.", "t_embedder.", "blocks.", "final_layer.")
    return {n: given(n).requires_grad_() for n in index if n.startswith(network) and n.startswith(prefix)}


class Block:
    def __init__(self):
        self.w = weights("blocks.0.")
        self.x, self.c, self.g = given("x").requires_grad_(), given("c").requires_grad_(), given("g")

    def run(self):
        for z in [self.x, self.c, *self.w.values()]:
            z.grad = None
        self.y = block(self.w, "blocks.0.", self.x, self.c)
        self.y.backward(self.g)

    def check(self):
        self.run()
        names = ["attn.qkv.weight", "attn.proj.bias", "mlp.fc1.weight", "adaLN_modulation.1.weight"]
        seen = [self.y, self.x.grad, self.c.grad] + [self.w["blocks.0." + n].grad for n in names]
        return [v for z in seen for v in digest(z)]


class Step:
    def __init__(self):
        self.w = weights()
        self.data = {n: given(n) for n in ["patches", "frequencies", "target", "pos_embed"]}
        self.optimizer = torch.optim.AdamW(self.w.values(), lr=1e-4, weight_decay=0.01, fused=True)

    def forward(self):
        def linear(name, z):
            return F.linear(z, self.w[name + ".weight"], self.w[name + ".bias"])

        c = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", self.data["frequencies"])))
        x = linear("x_embedder.proj", self.data["patches"]) + self.data["pos_embed"]
        for i in range(12):
            x = block(self.w, f"blocks.{i}.", x, c)
        shift, scale = linear("final_layer.adaLN_modulation.1", F.silu(c)).unsqueeze(1).chunk(2, -1)
        return linear("final_layer.linear", F.layer_norm(x, (384,), eps=1e-6) * (1 + scale) + shift)

    def run(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(self.forward(), self.data["target"])
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def check(self):
        return [self.run()]


class Forward(Step):
    @torch.no_grad()
    def run(self):
        self.forward()

    @torch.no_grad()
    def check(self):
        return digest(self.forward())


works = {
    "matmul": lambda: Op(torch.matmul, "a", "b"),
    "layerNorm": lambda: Op(lambda x: F.layer_norm(x, (384,), eps=1e-6), "rows"),
    "softmax": lambda: Op(lambda x: F.softmax(x, -1), "scores"),
    "gelu": lambda: Op(lambda x: F.gelu(x, approximate="tanh"), "wide"),
    "block": Block,
    "step": Step,
    "forward": Forward,
}


def say(message):
    print("@@" + json.dumps(message), flush=True)


say({"version": f"PyTorch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()})", "works": list(works), "without": {}})
current, work = None, None
for line in sys.stdin:
    request = json.loads(line)
    try:
        if request["name"] != current:
            work = None
            work = works[request["name"]]()
            current = request["name"]
        if "seconds" not in request:
            say({"values": work.check()})
            continue
        times, losses = [], []
        end = time.perf_counter() + request["seconds"]
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            loss = work.run()
            times.append(1000 * (time.perf_counter() - start))
            if loss is not None:
                losses.append(loss)
        say({"times": times, "losses": losses, "resident": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})
    except Exception as error:
        say({"error": str(error).split("\n")[0]})
