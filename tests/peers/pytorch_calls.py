"""Calls of PyTorch's operators as calls of demask: each function has the signature of PyTorch's operator and returns a
Call, whose name is one of calls.ts. Raises Unsupported for an option or a form that demask does not have."""

import math

import torch

Tensor = torch.Tensor
CALLS = {}


class Unsupported(Exception):
    """An option that demask does not have."""


class Call:
    """Name and arguments (tensors, numbers, lists, None) of a call of calls.ts. `elementwise`: errors are measured per
    element rather than against the largest one. `second`: second derivatives are compared. `fixed`: tensors without a
    gradient. `adapt`: what is compared, from PyTorch's function."""

    def __init__(self, name, *args, elementwise=False, second=True, fixed=()):
        self.name, self.args, self.elementwise, self.second, self.fixed = name, args, elementwise, second, fixed
        self.adapt = lambda f: f


def calls(*names):
    def register(f):
        for name in names:
            CALLS[name] = f
        return f

    return register


def need(condition, reason):
    if not condition:
        raise Unsupported(reason)


def is_tensor(x):
    return isinstance(x, Tensor)


def one_dtype(*xs):
    dtypes = {x.dtype for x in xs if is_tensor(x)}
    need(torch.bool not in dtypes, 'bool tensors')
    need(len(dtypes) <= 1, 'type promotion')


def number(x):
    need(isinstance(x, (int, float)) and not isinstance(x, bool), 'a bool or complex number')
    return float(x)


def operand(x):
    return x if is_tensor(x) else number(x)


# ---- one operand ----------------------------------------------------------------------------------------------------

UNARY = {
    'abs': 'abs', 'sign': 'sign', 'sgn': 'sign', 'floor': 'floor', 'isfinite': 'isFinite', 'neg': 'neg',
    'square': 'square', 'sqrt': 'sqrt', 'rsqrt': 'rsqrt', 'reciprocal': 'reciprocal', 'exp': 'exp', 'log': 'log',
    'sin': 'sin', 'cos': 'cos', 'tanh': 'tanh', 'erf': 'erf', 'sigmoid': 'sigmoid', 'clone': 'copy',
    'nn.functional.relu': 'relu', 'nn.functional.silu': 'silu', 'nn.functional.logsigmoid': 'logSigmoid',
}  # fmt: skip


def unary(name):
    def f(x, memory_format=None, inplace=False):
        one_dtype(x)
        return Call(name, x, elementwise=True)

    return f


for torch_name, name in UNARY.items():
    CALLS[torch_name] = unary(name)


@calls('nn.functional.softplus')
def softplus(x, beta=1, threshold=20):
    need(threshold == 20, 'threshold')
    return Call('softplus', x, number(beta), elementwise=True)


@calls('nn.functional.gelu')
def gelu(x, approximate='none'):
    return Call('gelu' if approximate == 'none' else 'geluTanh', x, elementwise=True)


# ---- two operands ---------------------------------------------------------------------------------------------------


def binary(name, a, b, **options):
    need(is_tensor(a) or is_tensor(b), 'two numbers')
    one_dtype(a, b)
    whole = [x.is_integer() for x in (a, b) if isinstance(x, float)]
    floats = [x.dtype.is_floating_point for x in (a, b) if is_tensor(x)]
    need(all(whole) or all(floats), 'type promotion')
    return Call(name, operand(a), operand(b), elementwise=True, **options)


@calls('add', '__radd__')
def add(a, b, *, alpha=1):
    if alpha == 1:
        return binary('add', a, b)
    one_dtype(a, b)
    return Call('addScaled', a, operand(b), number(alpha))


@calls('sub')
def sub(a, b, *, alpha=1):
    return binary('sub', a, b) if alpha == 1 else add(a, b, alpha=-alpha)


@calls('__rsub__')
def rsub(a, b):
    return binary('sub', b, a)


@calls('mul', '__rmul__')
def mul(a, b):
    return binary('mul', a, b)


@calls('div', 'true_divide')
def div(a, b, *, rounding_mode=None):
    need(rounding_mode is None, 'rounding_mode')
    need((a if is_tensor(a) else b).dtype.is_floating_point, 'integers as first operand')
    return binary('div', a, b)


@calls('pow', 'float_power')
def power(a, b):
    need((a if is_tensor(a) else b).dtype.is_floating_point, 'integers as base')
    return binary('pow', a, b)


@calls('maximum')
def maximum(a, b):
    return binary('maximum', a, b, second=False)


@calls('minimum')
def minimum(a, b):
    return binary('minimum', a, b, second=False)


def comparison(name, swap=False):
    def f(a, b):
        return binary(name, *((b, a) if swap else (a, b)))

    return f


CALLS |= {
    'eq': comparison('equal'), 'lt': comparison('less'), 'le': comparison('lessEqual'),
    'gt': comparison('less', True), 'ge': comparison('lessEqual', True),
}  # fmt: skip


@calls('clamp')
def clamp(x, min=None, max=None):
    one_dtype(x, min, max)
    bounds = {'min': min, 'max': max}
    given = {name: operand(bound) for name, bound in bounds.items() if bound is not None}
    return Call('clamp', x, given, elementwise=True, second=False)


@calls('clamp_min')
def clamp_min(x, low):
    return maximum(x, low)


@calls('clamp_max')
def clamp_max(x, high):
    return minimum(x, high)


@calls('where')
def where(a, condition, b):
    need(is_tensor(a) or is_tensor(b), 'two numbers')
    one_dtype(a, b)
    return Call('where', condition, operand(a), operand(b), elementwise=True)


@calls('masked_fill')
def masked_fill(x, mask, value):
    need(not is_tensor(value) or value.dtype == x.dtype, 'type promotion')
    return Call('where', mask, operand(value), x, elementwise=True)


# ---- reductions -----------------------------------------------------------------------------------------------------


def axes(x, dim):
    need(x.dim() > 0 or dim is None or dim == (), 'an axis of a scalar')
    if dim is None or (isinstance(dim, (list, tuple)) and len(dim) == 0):
        return None
    return [dim] if isinstance(dim, int) else list(dim)


def reduction(name, **options):
    def f(x, dim=None, keepdim=False, *, dtype=None):
        need(dtype is None, 'dtype')
        one_dtype(x)
        return Call(name, x, axes(x, dim), keepdim, **options)

    return f


CALLS |= {
    'sum': reduction('sum'), 'mean': reduction('mean'),
    'amax': reduction('max', second=False), 'amin': reduction('min', second=False),
}  # fmt: skip


def extremum(name, binary_call):
    def f(x, dim=None, keepdim=False):
        if is_tensor(dim):
            return binary_call(x, dim)
        need(dim is None, 'values and indices')
        return Call(name, x, None, False, second=False)

    return f


CALLS |= {'max': extremum('max', maximum), 'min': extremum('min', minimum)}


def spread(name):
    def f(x, dim=None, unbiased=None, keepdim=False, *, correction=1):
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        ddof = 1 if correction is None else correction
        return Call(name, x, axes(x, dim), number(ddof if unbiased is None else int(unbiased)), keepdim)

    return f


CALLS |= {'var': spread('variance'), 'std': spread('deviation')}


@calls('sum_to_size')
def sum_to_size(x, *size):
    return Call('sumTo', x, sizes(size))


# ---- products -------------------------------------------------------------------------------------------------------


@calls('matmul', 'mm', 'bmm', 'mv', 'dot')
def matmul(a, b):
    one_dtype(a, b)
    return Call('matmul', a, b)


@calls('__rmatmul__')
def rmatmul(a, b):
    return matmul(b, a)


@calls('nn.functional.linear')
def linear(x, weight, bias=None):
    return Call('linear', x, weight, bias)


@calls('addmm', 'baddbmm')
def addmm(x, a, b, *, beta=1, alpha=1):
    return Call('addmm', x, a, b, number(beta), number(alpha))


@calls('addcmul')
def addcmul(x, a, b, *, value=1):
    one_dtype(x, a, b)
    return Call('addcmul', x, a, b, number(value))


# ---- movement -------------------------------------------------------------------------------------------------------


def sizes(given):
    flat = given[0] if len(given) == 1 and isinstance(given[0], (list, tuple, torch.Size)) else given
    return [int(n) for n in flat]


@calls('reshape', 'view')
def reshape(x, *shape):
    need(not isinstance(shape[0], torch.dtype), 'a view as another dtype')
    return Call('reshape', x, sizes(shape))


@calls('reshape_as', 'view_as')
def reshape_as(x, other):
    return Call('reshape', x, list(other.shape))


@calls('permute')
def permute(x, *order):
    return Call('permute', x, sizes(order))


@calls('transpose')
def transpose(x, a, b):
    need(x.dim() > 0, 'a scalar')
    order = list(range(x.dim()))
    order[a], order[b] = order[b], order[a]
    return Call('permute', x, order)


@calls('t', 'mT')
def matrix_transpose(x):
    need(x.dim() >= 2, 'fewer than two axes')
    return Call('transpose', x)


@calls('unsqueeze')
def unsqueeze(x, axis):
    return Call('unsqueeze', x, axis)


@calls('expand', 'broadcast_to')
def expand(x, *shape):
    return Call('broadcastTo', x, sizes(shape))


@calls('expand_as')
def expand_as(x, other):
    return Call('broadcastTo', x, list(other.shape))


@calls('narrow')
def narrow(x, dim, start, length):
    need(x.dim() > 0, 'a scalar')
    first, n = int(start), x.shape[dim]
    return Call('slice', x, dim, first, None if first + length == (n if first >= 0 else 0) else first + length)


@calls('select')
def select(x, dim, index):
    shape = list(x.shape)
    first = index % shape.pop(dim)
    return Call('select', x, dim, first, shape)


@calls('chunk')
def chunk(x, chunks, dim=0):
    need(x.shape[dim] % chunks == 0, 'unequal parts')
    return Call('split', x, chunks, dim)


@calls('split', 'split_with_sizes')
def split(x, parts, dim=0):
    if isinstance(parts, int):
        need(parts > 0 and x.shape[dim] % parts == 0, 'unequal parts')
        return Call('split', x, x.shape[dim] // parts, dim)
    need(len(set(parts)) == 1, 'unequal parts')
    return Call('split', x, len(parts), dim)


@calls('cat')
def cat(xs, dim=0):
    one_dtype(*xs)
    need(len({x.dim() for x in xs}) == 1, 'the legacy empty tensor')
    return Call('concat', list(xs), dim)


@calls('stack')
def stack(xs, dim=0):
    return Call('stack', list(xs), dim)


@calls('nn.functional.pad', 'constant_pad_nd')
def pad(x, widths, mode='constant', value=None):
    need(mode != 'circular', 'mode')
    need(all(n >= 0 for n in widths), 'negative padding')
    before, shape = [0] * x.dim(), list(x.shape)
    for i in range(len(widths) // 2):
        before[-1 - i] = widths[2 * i]
        shape[-1 - i] += widths[2 * i] + widths[2 * i + 1]
    border = mode if mode != 'constant' else 0.0 if value is None else number(value)
    return Call('pad', x, before, shape, border)


# ---- indices --------------------------------------------------------------------------------------------------------


@calls('gather')
def gather(x, dim, index, *, sparse_grad=False):
    need(x.dim() > 0, 'a scalar')
    need(x.dim() == index.dim(), 'an empty index of another rank')
    return Call('gather', x, dim, index)


@calls('scatter')
def scatter(x, dim, index, source, *, reduce=None):
    need(x.dim() > 0, 'a scalar')
    need(reduce is None, 'reduce, which has no gradient in PyTorch')
    columns = index.movedim(dim, -1).reshape(-1, index.shape[dim]).tolist() if index.numel() > 0 else []
    need(all(len(set(column)) == len(column) for column in columns), 'an element that is named twice')
    return Call('scatter', x, dim, index, operand(source))


@calls('index_select')
def index_select(x, dim, index):
    need(x.dim() > 0, 'a scalar')
    return Call('indexSelect', x, dim % x.dim(), index.reshape(-1))


@calls('scatter_add')
def scatter_add(x, dim, index, source):
    need(x.dim() > 0, 'a scalar')
    return Call('scatter', x, dim, index, source, {'reduce': 'add'})


@calls('nn.functional.embedding')
def embedding(table, ids, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    need(padding_idx is None and max_norm is None and not scale_grad_by_freq and not sparse, 'an option')
    return Call('embedding', table, ids)


# ---- windows --------------------------------------------------------------------------------------------------------


def both(value, what):
    values = set(value) if isinstance(value, (list, tuple)) else {value}
    need(len(values) == 1, f'{what} of two sizes')
    return values.pop()


def pair(value):
    return [value] * 2 if isinstance(value, int) else list(value) * (2 if len(value) == 1 else 1)


def image(x):
    need(x.dim() == 4, 'an image without a batch')


def window(kernel, stride, padding, dilation):
    down, across = pair(padding)
    return {'kernel': pair(kernel), 'stride': pair(stride), 'padding': [down, down, across, across],
            'dilation': pair(dilation)}


@calls('nn.functional.conv2d')
def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    image(x)
    options = {'stride': pair(stride), 'padding': padding if isinstance(padding, str) else pair(padding),
               'dilation': pair(dilation), 'groups': groups}
    return Call('conv2d', x, weight, bias, options)


@calls('nn.functional.conv_transpose2d')
def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    image(x)
    more = zip(pair(output_padding), pair(stride))
    need(all(n < step for n, step in more), 'an output_padding of a stride or more')
    options = {'stride': pair(stride), 'padding': pair(padding), 'outputPadding': pair(output_padding),
               'dilation': pair(dilation), 'groups': groups}
    return Call('convTranspose2d', x, weight, bias, options)


@calls('nn.functional.unfold')
def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    image(x)
    return Call('unfold', x, window(kernel_size, stride, padding, dilation))


@calls('nn.functional.fold')
def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    need(x.dim() == 3, 'patches without a batch')
    w = window(kernel_size, stride, padding, dilation)
    return Call('fold', x, w, [x.shape[0], x.shape[1] // math.prod(w['kernel']), *pair(output_size)])


@calls('nn.functional.avg_pool2d')
def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    image(x)
    size, border = both(kernel_size, 'kernel'), both(padding, 'padding')
    need(not ceil_mode and divisor_override is None, 'ceil_mode or divisor_override')
    need(border == 0 or not count_include_pad, 'count_include_pad')
    return Call('avgPool2d', x, size, both(stride, 'stride') if stride else size, border)


@calls('nn.functional.max_pool2d')
def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    image(x)
    need(not ceil_mode and not return_indices and both(dilation, 'dilation') == 1, 'an option')
    size = both(kernel_size, 'kernel')
    return Call('maxPool2d', x, size, both(stride, 'stride') if stride else size, both(padding, 'padding'), second=False)


@calls('nn.functional.upsample_bilinear')
def upsample_bilinear(x, size=None, scale_factor=None):
    return interpolate(x, size, scale_factor, 'bilinear', True)


@calls('nn.functional.interpolate', 'nn.functional.upsample_nearest')
def interpolate(x, size=None, scale_factor=None, mode='nearest', align_corners=None, recompute_scale_factor=None, antialias=False):
    need(mode in ('nearest', 'bilinear', 'bicubic') and not antialias, 'a mode')
    image(x)
    factors = None if scale_factor is None else [float(f) for f in pair_of(scale_factor)]
    if size is None and recompute_scale_factor:
        size = [math.floor(n * f) for n, f in zip(x.shape[2:], factors)]
    target = {'scaleFactor': factors} if size is None else pair(size)
    return Call('interpolate', x, target, mode, {'alignCorners': bool(align_corners)})


def pair_of(value):
    return [value] * 2 if isinstance(value, (int, float)) else list(value) * (2 if len(value) == 1 else 1)


# ---- norms, softmax, attention, losses ------------------------------------------------------------------------------


@calls('nn.functional.layer_norm')
def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
    need(len(shape) == 1, 'several axes')
    need((weight is None) == (bias is None), 'weight or bias alone')
    return Call('layerNorm', x, weight, bias, eps)


@calls('nn.functional.group_norm')
def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    need(weight is not None and bias is not None, 'no weight or bias')
    return Call('groupNorm', x, groups, weight, bias, eps)


def softmax(name):
    def f(x, dim=None, dtype=None):
        need(dtype is None and x.dim() > 0, 'dtype or a scalar')
        return Call(name, x, dim)

    return f


CALLS |= {'softmax': softmax('softmax'), 'log_softmax': softmax('logSoftmax')}


@calls('nn.functional.scaled_dot_product_attention')
def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    need(dropout_p == 0 and not enable_gqa, 'an option')
    options = {'isCausal': is_causal}
    if scale is not None:
        options['scale'] = number(scale)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        return Call('attention', q, k, v, None, {**options, 'mask': attn_mask})
    return Call('attention', q, k, v, attn_mask, options)


@calls('nn.functional.cross_entropy')
def cross_entropy(x, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction='mean', label_smoothing=0.0):
    need(size_average is None and reduce is None, 'size_average or reduce')
    options = {'labelSmoothing': number(label_smoothing), 'reduction': reduction}
    if not target.dtype.is_floating_point:
        options['ignoreIndex'] = ignore_index
    if weight is not None:
        options['weight'] = weight
    return Call('crossEntropy', x, target, options, fixed=() if weight is None else (weight,))


def loss(name, *options):
    def f(x, target, reduction='mean', **given):
        need(set(given) <= set(options) and x.shape == target.shape, 'an option')
        return Call(name, x, target, {'reduction': reduction, **given})

    return f


CALLS |= {
    'nn.functional.mse_loss': loss('mse'), 'nn.functional.l1_loss': loss('l1'),
    'nn.functional.smooth_l1_loss': loss('smoothL1', 'beta'),
}  # fmt: skip

# The operators that both are exact on integers.
INTEGERS = {
    'abs', 'sign', 'neg', 'square', 'add', 'sub', 'mul', 'maximum', 'minimum', 'eq', 'lt', 'le', 'gt', 'ge', 'clamp',
    'clamp_min', 'clamp_max', 'where', 'masked_fill', 'sum', 'amax', 'amin', 'sum_to_size', 'reshape', 'permute',
    'transpose', 'expand', 'narrow', 'chunk', 'cat', 'stack', 'nn.functional.pad', 'gather', 'index_select',
    'scatter', 'scatter_add', 'nn.functional.relu', 'matmul', 'floor', 'isfinite', 'nn.functional.linear',
}  # fmt: skip
