"""Samples of PyTorch's own operator, module and optimizer tests, with PyTorch's values, gradients and second derivatives.
python pytorch_samples.py FOLDER writes cases.json and tensors.bin, which run.ts reads. Needs torch, numpy, expecttest."""

import inspect
import json
import math
import sys
import warnings
import zlib
from collections import Counter
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.common_optimizers import optim_db
from torch.utils import _pytree as pytree

import pytorch_functions
from pytorch_calls import CALLS, INTEGERS, Call, Unsupported

warnings.filterwarnings('ignore')
torch.set_num_threads(1)

MOST_ELEMENTS = 20_000  # larger samples repeat smaller ones
MOST_ELEMENTS_SECOND = 4_000
MOST_REFERENCES = 60  # samples of an operator's reference tests, which differ in shapes and strides only
VARIANTS = {'complex', 'triton_optimized', 'decomposed', 'without_cudnn'}


class Dump:
    """Cases, and the tensors that they refer to as [dtype, shape, first byte]."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.binary = open(self.folder / 'tensors.bin', 'wb')
        self.cases, self.unsupported, self.counts = [], Counter(), Counter()

    def tensor(self, t):
        t = t.detach().contiguous()
        kind = {torch.float32: 'f32', torch.float64: 'f64'}.get(t.dtype, 'i32')
        if kind == 'i32':
            t = t.to(torch.int32)
        self.binary.write(b'\0' * (-self.binary.tell() % 8))
        at = self.binary.tell()
        self.binary.write(t.numpy(force=True).tobytes())
        return [kind, list(t.shape), at]

    def close(self):
        self.binary.close()
        about = {'torch': torch.__version__, 'cases': self.cases, 'unsupported': dict(self.unsupported)}
        (self.folder / 'cases.json').write_text(json.dumps(about))


def numeral(x):
    """A number as JSON has it; NaN, infinities and −0 as strings."""
    if isinstance(x, float) and (not math.isfinite(x) or (x == 0 and math.copysign(1, x) < 0)):
        return {'number': {math.inf: 'Infinity', -math.inf: '-Infinity'}.get(x, '-0' if x == 0 else 'NaN')}
    return x


def float_leaves(struct, dtype, fixed):
    """A copy of a structure with fresh float leaves in a dtype, and the leaves, but for the fixed tensors. One tensor used
    twice is one leaf."""
    copies, leaves = {}, []

    def copy(t):
        if not isinstance(t, torch.Tensor):
            return t
        if id(t) not in copies:
            copies[id(t)] = t.detach().clone()
            if t.dtype.is_floating_point:
                copies[id(t)] = t.detach().to(dtype).clone()
                if not any(t is other for other in fixed):
                    leaves.append(copies[id(t)].requires_grad_())
        return copies[id(t)]

    return pytree.tree_map(copy, struct), leaves


def results(f, struct, dtype, fixed):
    copy, leaves = float_leaves(struct, dtype, fixed)
    y = f(*copy[0], **copy[1])
    if y is NotImplemented:
        raise Unsupported('operands that PyTorch does not implement')
    return list(y) if isinstance(y, (tuple, list)) else [y], leaves


def derivatives(f, struct, dtype, random, second, fixed):
    """Values, gradients of Σ cotangent · y by the leaves, and of Σ v · gradient by the leaves and the cotangents."""
    ys, xs = results(f, struct, dtype, fixed)
    if not xs or not all(y.requires_grad for y in ys):
        return [y.detach() for y in ys], None, None
    cotangents = [c.to(dtype).requires_grad_() for c in random['cotangents']]
    gs = torch.autograd.grad(ys, xs, cotangents, create_graph=second, allow_unused=True)
    zero = lambda g, x: torch.zeros_like(x) if g is None else g.detach()
    first = [zero(g, x) for g, x in zip(gs, xs)]
    terms = [(g * v.to(dtype)).sum() for g, v in zip(gs, random['directions']) if g is not None and g.requires_grad]
    if not second:
        return [y.detach() for y in ys], first, None
    inputs = xs + cotangents
    found = torch.autograd.grad(sum(terms), inputs, allow_unused=True) if terms else [None] * len(inputs)
    return [y.detach() for y in ys], first, [zero(g, x) for g, x in zip(found, inputs)]


def add(dump, op, tag, f, args, kwargs, call):
    """Adds a case: the call, its operands, and PyTorch's results in f64 and, from the same operands, in f32."""
    struct = (list(args), dict(kwargs))
    tensors = [t for t in pytree.tree_leaves(struct) if isinstance(t, torch.Tensor)]
    operands = list({id(t): t for t in tensors if not any(t is other for other in call.fixed)}.values())
    elements = sum(t.numel() for t in operands)
    if elements > MOST_ELEMENTS:
        raise Unsupported(f'more than {MOST_ELEMENTS} elements')
    integers = not any(t.dtype.is_floating_point for t in operands)
    places = {id(t): i for i, t in enumerate(operands)}
    constants = []

    def argument(a):
        if isinstance(a, torch.Tensor):
            if id(a) in places:
                return {'operand': places[id(a)]}
            constants.append(a)
            return {'constant': len(constants) - 1}
        if isinstance(a, (list, tuple)):
            return [argument(x) for x in a]
        if isinstance(a, dict):
            return {'options': {key: argument(value) for key, value in a.items()}}
        return numeral(a)

    arguments = [argument(a) for a in call.args]
    f = call.adapt(f)
    generator = torch.Generator().manual_seed(zlib.crc32(f'{op} {tag} {dump.counts[op]}'.encode()))
    dump.counts[op] += 1  # one operator's samples do not change the numbers of another's
    normal = lambda t: torch.randn(t.shape, generator=generator)
    ys, xs = results(f, struct, torch.float64, call.fixed)
    random = {'cotangents': [normal(y) for y in ys], 'directions': [normal(x) for x in xs]}
    second = call.second and elements + sum(y.numel() for y in ys) <= MOST_ELEMENTS_SECOND
    exact = derivatives(f, struct, torch.float64, random, second, call.fixed)
    single = None if integers else derivatives(f, struct, torch.float32, random, second, call.fixed)
    case = {
        'op': op, 'part': part_of(op), 'tag': tag, 'call': call.name, 'args': arguments, 'elementwise': call.elementwise,
        'operands': [dump.tensor(t) for t in operands], 'constants': [dump.tensor(t) for t in constants],
    }  # fmt: skip
    if exact[1] is not None:
        case['random'] = {key: [dump.tensor(t) for t in ts] for key, ts in random.items()}
    for name, wide, narrow in zip(('values', 'first', 'second'), exact, single or (None,) * 3):
        if wide is not None:
            case[name] = [dump.tensor(t) for t in wide]
            case[f'{name}32'] = None if narrow is None else [dump.tensor(t) for t in narrow]
    dump.cases.append(case)


def part_of(op):
    given = pytorch_functions.MODULES.get(op) or CALLS.get(op)
    return 'functions' if getattr(given, '__module__', None) == 'pytorch_functions' else 'ops'


def attempt(dump, op, tag, f, args, kwargs, make):
    try:
        inspect.signature(make).bind(*args, **kwargs)
    except TypeError as error:  # an argument that the call does not take
        dump.unsupported[f'{op}: {error}'] += 1
        return
    try:
        add(dump, op, tag, f, args, kwargs, make(*args, **kwargs))
    except Unsupported as reason:
        dump.unsupported[f'{op}: {reason}'] += 1


def is_complex(sample):
    leaves = pytree.tree_leaves((sample.input, sample.args, sample.kwargs))
    return any(isinstance(x, complex) or (isinstance(x, torch.Tensor) and x.is_complex()) for x in leaves)


def operators(dump, dtype):
    for op in op_db:
        if op.name not in CALLS or op.variant_test_name in VARIANTS or dtype not in op.dtypes:
            continue
        if dtype == torch.int32 and op.name not in INTEGERS | pytorch_functions.INTEGERS:
            continue
        torch.manual_seed(0)
        samples = [('sample', s) for s in op.sample_inputs('cpu', dtype)]
        if op.reference_inputs_func is not None:
            more = [('reference', s) for s in op.reference_inputs('cpu', dtype)]
            samples += more[:: max(1, math.ceil(len(more) / MOST_REFERENCES))]
        for source, s in samples:
            if not is_complex(s):
                attempt(dump, op.name, source, op.op, (s.input, *s.args), s.kwargs, CALLS[op.name])


# ---- modules --------------------------------------------------------------------------------------------------------


def of_layer(name, *options):
    """A layer of demask from the module's parameters and these attributes of it."""
    return lambda m: lambda x: Call(name, x, m.weight, getattr(m, 'bias', None), *[getattr(m, o) for o in options])


def of_function(name, *options):
    return lambda m: lambda *x: CALLS[f'nn.functional.{name}'](*x, **{o: getattr(m, o) for o in options})


MODULES = pytorch_functions.MODULES | {
    'nn.Linear': of_layer('layer Linear'),
    'nn.LayerNorm': lambda m: lambda x: layer_norm_module(m, x),
    'nn.GroupNorm': lambda m: lambda x: group_norm_module(m, x),
    'nn.Embedding': lambda m: lambda x: Call('layer Embedding', x, m.weight),
    'nn.Conv2d': lambda m: lambda x: conv_module(m, x),
    'nn.ReLU': of_function('relu'), 'nn.SiLU': of_function('silu'), 'nn.GELU': of_function('gelu', 'approximate'),
    'nn.Softplus': of_function('softplus', 'beta', 'threshold'), 'nn.Sigmoid': lambda m: CALLS['sigmoid'],
    'nn.Tanh': lambda m: CALLS['tanh'], 'nn.LogSigmoid': of_function('logsigmoid'),
    'nn.Softmax': lambda m: lambda x: CALLS['softmax'](x, m.dim),
    'nn.LogSoftmax': lambda m: lambda x: CALLS['log_softmax'](x, m.dim),
    'nn.MSELoss': of_function('mse_loss', 'reduction'), 'nn.L1Loss': of_function('l1_loss', 'reduction'),
    'nn.SmoothL1Loss': of_function('smooth_l1_loss', 'reduction', 'beta'),
    'nn.CrossEntropyLoss': of_function(
        'cross_entropy', 'weight', 'ignore_index', 'reduction', 'label_smoothing'),
    'nn.AvgPool2d': of_function('avg_pool2d', 'kernel_size', 'stride', 'padding', 'ceil_mode', 'count_include_pad',
                                'divisor_override'),
    'nn.MaxPool2d': of_function('max_pool2d', 'kernel_size', 'stride', 'padding', 'dilation', 'ceil_mode',
                                'return_indices'),
    'nn.ConvTranspose2d': lambda m: lambda x: CALLS['nn.functional.conv_transpose2d'](
        x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation),
}  # fmt: skip


def layer_norm_module(m, x):
    if len(m.normalized_shape) != 1 or (m.weight is None) != (m.bias is None):
        raise Unsupported('several axes, or weight or bias alone')
    return Call('layer LayerNorm', x, m.weight, m.bias, m.eps)


def group_norm_module(m, x):
    if m.weight is None or m.bias is None:
        raise Unsupported('no weight and bias')
    return Call('layer GroupNorm', x, m.weight, m.bias, m.num_groups, m.eps)


def conv_module(m, x):
    if m.padding_mode != 'zeros':
        raise Unsupported('padding_mode')
    call = CALLS['nn.functional.conv2d'](x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
    return Call('layer Conv2d', *call.args)


def modules(dump, dtype):
    for info in module_db:
        if info.name not in MODULES:
            continue
        torch.manual_seed(0)
        for given in info.module_inputs_func(info, device='cpu', dtype=dtype, requires_grad=False, training=True):
            made = given.constructor_input
            module = info.module_cls(*made.args, **made.kwargs).to(dtype)
            forward = given.forward_input
            inputs = inspect.signature(module.forward).bind(*forward.args, **forward.kwargs).args
            attempt_module(dump, info.name, given.desc, module, inputs)


def attempt_module(dump, name, tag, module, inputs):
    """The module as a function of its parameters and inputs."""
    parameters = dict(module.named_parameters())
    n = len(parameters)

    def f(*xs):
        dtype = next((x.dtype for x in xs if x.dtype.is_floating_point), torch.float32)
        buffers = {k: b.to(dtype) if b.dtype.is_floating_point else b.clone() for k, b in module.named_buffers()}
        return torch.func.functional_call(module, dict(zip(parameters, xs)) | buffers, tuple(xs[n:]))

    def make(*xs):
        return MODULES[name](module)(*xs[n:])

    attempt(dump, name, tag, f, (*parameters.values(), *inputs), {}, make)


# ---- optimizers -----------------------------------------------------------------------------------------------------

STEPS = 5


def optimizers(dump):
    for info in optim_db:
        name = info.optim_cls.__name__
        if name not in ('SGD', 'AdamW'):
            continue
        for given in info.optim_inputs_func('cpu', torch.float32):
            if any(isinstance(value, torch.Tensor) for value in given.kwargs.values()):
                dump.unsupported[f'{name}: {given.desc}'] += 1
                continue
            torch.manual_seed(0)
            start, gradients = torch.randn(3, 7), torch.randn(STEPS, 3, 7)
            steps = lambda x, gs: optimized(info.optim_cls, given.kwargs, x, gs)
            call = Call(f'optimizer {name}', start, gradients, dict(given.kwargs))
            add(dump, name, given.desc, steps, (start, gradients), {}, call)


def optimized(cls, options, start, gradients):
    """The parameter after one step with each gradient."""
    p = start.detach().clone().requires_grad_()
    optimizer = cls([p], **options)
    for g in gradients.detach():
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


if __name__ == '__main__':
    dump = Dump(sys.argv[1])
    for dtype in (torch.float32, torch.int32):
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no second derivative
            operators(dump, dtype)
    modules(dump, torch.float32)
    optimizers(dump)
    dump.close()
    print(f'{len(dump.cases)} cases of {len({c["op"] for c in dump.cases})} operators, modules and optimizers')
