"""Calls of the everyday functions, beside those of pytorch_calls.py: comparisons, reductions, sorting, arrangements, einsum,
indexing, losses, and the layers made of them."""

import math

import torch

from pytorch_calls import Call, axes, calls, need, number, one_dtype, operand, sizes

# ---- elementwise ----------------------------------------------------------------------------------------------------


def unary(name, **options):
    def f(x, *, decimals=0):
        need(decimals == 0, 'decimals')
        one_dtype(x)
        return Call(name, x, elementwise=True, **options)

    return f


UNARY = {
    'isnan': 'isNaN', 'logical_not': 'logicalNot', 'round': 'round', 'ceil': 'ceil', 'trunc': 'trunc', 'log1p': 'log1p',
    'expm1': 'expm1', 'tan': 'tan',
}  # fmt: skip
for torch_name, name in UNARY.items():
    calls(torch_name)(unary(name))


def binary(name, numbers=True, **options):
    def f(a, b):
        need(torch.is_tensor(a) or torch.is_tensor(b), 'two numbers')
        need(numbers or (torch.is_tensor(a) and torch.is_tensor(b)), 'a number')
        one_dtype(a, b)
        tensors = [x for x in (a, b) if torch.is_tensor(x)]
        need(not any(isinstance(x, float) for x in (a, b)) or tensors[0].dtype.is_floating_point, 'type promotion')
        return Call(name, operand(a), operand(b), elementwise=True, **options)

    return f


BINARY = {
    'gt': binary('greater'), 'ge': binary('greaterEqual'), 'ne': binary('notEqual'),
    'logical_and': binary('logicalAnd', False), 'logical_or': binary('logicalOr', False),
    'atan2': binary('atan2'),
}  # fmt: skip
for torch_name, f in BINARY.items():
    calls(torch_name)(f)


@calls('remainder')
def remainder(a, b):
    need(torch.is_tensor(a), 'a number as first operand, for which PyTorch has no gradient')
    return binary('remainder', second=False)(a, b)


# ---- reductions -----------------------------------------------------------------------------------------------------


@calls('std')
def std(x, dim=None, unbiased=None, keepdim=False, *, correction=1):
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    ddof = 1 if correction is None else correction
    options = {'ddof': number(ddof if unbiased is None else int(unbiased)), 'keepDims': keepdim}
    return Call('std', x, axes(x, dim), options)


@calls('logsumexp')
def logsumexp(x, dim, keepdim=False):
    one_dtype(x)
    need(x.dtype.is_floating_point, 'integers')
    need(x.dim() > 0, 'an axis of a scalar')
    return Call('logsumexp', x, axes(x, dim), keepdim)


@calls('prod')
def prod(x, dim=None, keepdim=False, *, dtype=None):
    need(dtype is None, 'dtype')
    one_dtype(x)
    return Call('prod', x, axes(x, dim), keepdim)


def logic(name):
    def f(x, dim=None, keepdim=False):
        one_dtype(x)
        return Call(name, x, axes(x, dim), keepdim)

    return f


def position(name):
    def f(x, dim=None, keepdim=False):
        one_dtype(x)
        need(x.dim() > 0 or dim is None, 'an axis of a scalar')
        return Call(name, x, dim, keepdim)

    return f


for torch_name, f in {
    'any': logic('any'), 'all': logic('all'), 'argmax': position('argmax'), 'argmin': position('argmin'),
}.items():  # fmt: skip
    calls(torch_name)(f)


@calls('linalg.vector_norm')
def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    need(dtype is None, 'dtype')
    need(x.dim() > 0, 'an axis of a scalar')
    return Call('norm', x, axes(x, dim), {'p': number(ord), 'keepDims': keepdim}, second=ord not in (math.inf, -math.inf))


@calls('norm')
def norm(x, p='fro', dim=None, keepdim=False, dtype=None):
    need(isinstance(p, (int, float)), 'a norm of matrices')
    return vector_norm(x, p, dim, keepdim, dtype=dtype)


# ---- along an axis --------------------------------------------------------------------------------------------------


@calls('cumsum')
def cumsum(x, dim, *, dtype=None):
    need(dtype is None and x.dim() > 0, 'dtype or a scalar')
    one_dtype(x)
    return Call('cumsum', x, dim)


def first_result(call):
    call.adapt = lambda f: lambda *args, **kwargs: f(*args, **kwargs)[0]
    return call


@calls('sort')
def sort(x, dim=-1, descending=False, stable=False):
    need(x.dim() > 0, 'a scalar')
    one_dtype(x)
    return first_result(Call('sortedValues', x, dim, descending))


@calls('argsort')
def argsort(x, dim=-1, descending=False, stable=False):
    need(x.dim() > 0 and x.unique().numel() == x.numel(), 'a scalar or equal elements')
    one_dtype(x)
    return Call('argsort', x, dim, {'descending': descending})


@calls('topk')
def topk(x, k, dim=-1, largest=True, sorted=True):
    need(x.dim() > 0 and sorted, 'a scalar or an order that is not defined')
    one_dtype(x)
    return first_result(Call('topValues', x, k, dim, largest))


# ---- arrangement ----------------------------------------------------------------------------------------------------


@calls('squeeze')
def squeeze(x, dim=None):
    if dim is None:
        return Call('squeeze', x)
    given = [dim] if isinstance(dim, int) else list(dim)
    need(x.dim() > 0 and all(x.shape[axis] == 1 for axis in given), 'an axis that is not of size 1')
    return Call('squeeze', x, given)


@calls('flatten')
def flatten(x, start_dim=0, end_dim=-1):
    return Call('flatten', x, start_dim, end_dim)


@calls('flip')
def flip(x, dims):
    return Call('flip', x, sizes([dims]))


@calls('flipud')
def flipud(x):
    return Call('flip', x, [0])


@calls('fliplr')
def fliplr(x):
    return Call('flip', x, [1])


@calls('roll')
def roll(x, shifts, dims=None):
    need(x.dim() > 0, 'a scalar')
    given = [shifts] if isinstance(shifts, int) else list(shifts)
    along = None if dims is None or dims == () else [dims] if isinstance(dims, int) else list(dims)
    return Call('roll', x, given) if along is None else Call('roll', x, given, along)


@calls('tile', 'repeat')
def tile(x, *counts):
    return Call('tile', x, sizes(counts))


@calls('repeat_interleave')
def repeat_interleave(x, repeats, dim=None, *, output_size=None):
    need(isinstance(repeats, int) and dim is not None and x.dim() > 0, 'counts of their own, or no axis')
    return Call('repeat', x, repeats, dim)


def triangle(name):
    def f(x, diagonal=0):
        return Call(name, x, diagonal)

    return f


calls('tril')(triangle('tril'))
calls('triu')(triangle('triu'))

# ---- products and indices -------------------------------------------------------------------------------------------


@calls('einsum')
def einsum(tensors, equation):
    one_dtype(*tensors)
    return Call('einsum', equation, *tensors)


@calls('__getitem__')
def getitem(x, items):
    given = items if isinstance(items, tuple) else (items,)

    def item(i):
        if isinstance(i, slice):
            need(i.step is None or i.step > 0, 'a step below 0')
            return {name: v for name, v in (('start', i.start), ('end', i.stop), ('step', i.step)) if v is not None}
        if i is Ellipsis:
            return '...'
        if isinstance(i, list):
            i = torch.tensor(i)
        if torch.is_tensor(i):
            need(i.dtype in (torch.int32, torch.int64), 'a mask')
        need(not isinstance(i, bool), 'a boolean')
        return i

    return Call('index', x, *[item(i) for i in given])


# ---- creation -------------------------------------------------------------------------------------------------------


def like(name):
    def f(x, *value, dtype=None, device=None, layout=None, requires_grad=False, pin_memory=False, memory_format=None):
        need(dtype in (None, x.dtype), 'dtype')
        return Call(name, x, *[number(v) for v in value])

    return f


for torch_name, name in {'zeros_like': 'zerosLike', 'ones_like': 'onesLike', 'full_like': 'fullLike'}.items():
    calls(torch_name)(like(name))


@calls('nn.functional.one_hot')
def one_hot(ids, num_classes=-1):
    need(num_classes >= 0, 'classes that are counted')
    return Call('oneHot', ids, num_classes)


# ---- activations, norms, losses -------------------------------------------------------------------------------------


@calls('nn.functional.leaky_relu')
def leaky_relu(x, negative_slope=0.01, inplace=False):
    return Call('leakyRelu', x, number(negative_slope), elementwise=True)


@calls('nn.functional.elu')
def elu(x, alpha=1.0, inplace=False):
    return Call('elu', x, number(alpha), elementwise=True)


@calls('nn.functional.rms_norm')
def rms_norm(x, normalized_shape, weight=None, eps=None):
    need(len(normalized_shape) == 1, 'several axes')
    need(eps is not None, 'an eps that depends on the dtype')
    return Call('rmsNorm', x, weight, eps)


@calls('nn.functional.conv1d')
def conv1d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    one = lambda v: v if isinstance(v, (int, str)) else v[0]
    need(x.dim() == 3, 'a signal without a batch')
    options = {'stride': one(stride), 'padding': one(padding), 'dilation': one(dilation), 'groups': groups}
    return Call('conv1d', x, weight, bias, options)


def given_options(**options):
    return {name: value for name, value in options.items() if value is not None}


def constant_weights(call):
    """Weights without a gradient: PyTorch has none for them."""
    detached = lambda x: x.detach() if torch.is_tensor(x) else x
    call.adapt = lambda f: lambda x, target, *args, **kwargs: f(
        x, target, *map(detached, args), **{name: detached(value) for name, value in kwargs.items()}
    )
    return call


@calls('nn.functional.binary_cross_entropy')
def binary_cross_entropy(x, target, weight=None, size_average=None, reduce=None, reduction='mean'):
    options = given_options(weight=weight, reduction=reduction)
    return constant_weights(Call('crossEntropyOfWeights', 'binaryCrossEntropy', x, target, options))


@calls('nn.functional.binary_cross_entropy_with_logits')
def with_logits(x, target, weight=None, size_average=None, reduce=None, reduction='mean', pos_weight=None):
    options = given_options(weight=weight, positiveWeight=pos_weight, reduction=reduction)
    return constant_weights(Call('crossEntropyOfWeights', 'binaryCrossEntropyWithLogits', x, target, options))


@calls('nn.functional.kl_div')
def kl_div(x, target, size_average=None, reduce=None, reduction='mean', log_target=False):
    need(x.shape == target.shape and x.dim() > 0, 'broadcasting or a scalar')
    reduction = {'batchmean': 'batchMean'}.get(reduction, reduction)
    return Call('klDivergence', x, target, {'reduction': reduction, 'logTarget': log_target})


# The operators that both are exact on integers.
INTEGERS = {
    'isnan', 'logical_not', 'round', 'ceil', 'trunc', 'gt', 'ge', 'ne', 'logical_and', 'logical_or', 'remainder', 'prod',
    'any', 'all', 'argmax', 'argmin', 'cumsum', 'sort', 'argsort', 'topk', 'squeeze', 'flatten', 'flip', 'flipud',
    'fliplr', 'roll', 'tile', 'repeat', 'repeat_interleave', 'tril', 'triu', 'einsum', '__getitem__', 'zeros_like',
    'ones_like', 'full_like',
}  # fmt: skip

# ---- modules --------------------------------------------------------------------------------------------------------


def batch_norm(m):
    def make(x):
        need(m.momentum is not None and m.track_running_stats, 'momentum of None or no running moments')
        return Call('layer BatchNorm', x, m.weight, m.bias, m.eps)

    return make


def multi_head(m):
    def make(q, k, v, key_padding_mask=None, need_weights=True, attn_mask=None, average_weights=True, is_causal=False):
        need(q.dim() == 3, 'a sequence without a batch')
        need(key_padding_mask is None and attn_mask is None, 'a mask, which has the opposite sense')
        need(m.bias_k is None and not m.add_zero_attn and m.dropout == 0, 'an option')
        packed = m.in_proj_weight is not None
        weights = [m.in_proj_weight] if packed else [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight]
        biases = [b for b in (m.in_proj_bias, m.out_proj.bias) if b is not None]
        return first_result(
            Call('layer MultiHeadAttention', [q, k, v], [[*weights, m.out_proj.weight], biases], m.num_heads, m.batch_first)
        )

    return make


def function(name, *options):
    return lambda m: lambda *x: FUNCTIONS[name](*x, **{o: getattr(m, o) for o in options})


FUNCTIONS = {
    'leaky_relu': leaky_relu, 'elu': elu, 'bce': binary_cross_entropy, 'bce_logits': with_logits, 'kl_div': kl_div,
    'flatten': flatten,
}  # fmt: skip

MODULES = {
    'nn.RMSNorm': lambda m: lambda x: rms_norm(x, m.normalized_shape, m.weight, m.eps),
    'nn.Conv1d': lambda m: lambda x: conv_module(m, x),
    'nn.BatchNorm1d': batch_norm, 'nn.BatchNorm2d': batch_norm, 'nn.BatchNorm3d': batch_norm,
    'nn.MultiheadAttention': multi_head,
    'nn.LeakyReLU': function('leaky_relu', 'negative_slope'), 'nn.ELU': function('elu', 'alpha'),
    'nn.BCELoss': function('bce', 'weight', 'reduction'),
    'nn.BCEWithLogitsLoss': function('bce_logits', 'weight', 'reduction', 'pos_weight'),
    'nn.KLDivLoss': function('kl_div', 'reduction', 'log_target'),
    'nn.Flatten': function('flatten', 'start_dim', 'end_dim'),
}  # fmt: skip


def conv_module(m, x):
    need(m.padding_mode == 'zeros', 'padding_mode')
    return conv1d(x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
