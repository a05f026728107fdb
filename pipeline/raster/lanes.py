"""A vector of 16 float32 for numba kernels: a row of a tile as one value.

LLVM's own vectoriser makes vector code of a flat loop over pixels, but it can't keep a whole row in a register while
rows go by, nor sum ten registers at once. Kernels that work on `Lanes` say what belongs into a register; on a machine
with narrower ones LLVM splits each value.

Inside kernels `+ - * /`, `max`, `min` and `<=` take lanes and float32 scalars, which are spread over all lanes.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import cgutils, imputils, types
from numba.core.base import BaseContext
from numba.core.datamodel.manager import DataModelManager
from numba.core.errors import TypingError
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing import templates
from numba.core.typing.context import BaseContext as TypingContext
from numba.core.typing.templates import AbstractTemplate, Signature, signature
from numba.extending import lower_builtin, models, register_model

from pipeline.geometry.jit import njit
from pipeline.types import F32

WIDTH = 16
FLAGS = ("reassoc", "contract", "arcp", "nsz")
"""Reductions may be reordered, but infinities keep their meaning (as in `layout.STRICT_MATH`)."""

Builder = Any
"""An `ir.IRBuilder`; llvmlite's decorators hide the signatures of its methods from type checkers."""
Values = Sequence[ir.Value]
Build = Callable[[BaseContext, Builder, Signature, Values], ir.Value]
Binary = Callable[[Builder, ir.Value, ir.Value], ir.Value]

lower_cast, infer_global = (
    cast(Callable[..., Callable[..., object]], decorator) for decorator in (imputils.lower_cast, templates.infer_global)
)
"""As type checkers should see them."""

LOG2_E, LN_2_HIGH, LN_2_LOW = 1 / math.log(2), 0.693359375, math.log(2) - 0.693359375
HALF_ROOT_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
EXPONENTIAL_TERMS = 6
"""Terms of Taylor's series; what is left of the exponent is at most half of ln 2."""

_VECTOR, _INTEGERS = (ir.VectorType(kind, WIDTH) for kind in (ir.FloatType(), ir.IntType(32)))


class Lanes:
    """16 float32 in a kernel, as type checkers see them; numba's type of them is `LanesType`."""

    def _combined(self, other: Lanes | np.float32 | float) -> Lanes: ...

    __add__ = __sub__ = __mul__ = __truediv__ = __le__ = __lt__ = _combined
    __radd__ = __rsub__ = __rmul__ = __rtruediv__ = _combined


class LanesType(types.Type):
    """16 float32."""

    def __init__(self) -> None:
        super().__init__("Lanes")

    def can_convert_from(self, typingctx: TypingContext, other: types.Type) -> Conversion | None:
        """A float32 is spread over all lanes."""
        return Conversion.safe if other == types.float32 else None


class MaskType(types.Type):
    """16 truth values."""

    def __init__(self) -> None:
        super().__init__("Mask")


LANES, MASK = LanesType(), MaskType()


def _intrinsic(typed: Callable[..., Signature]) -> Callable[[Build], Callable[..., Any]]:
    """Let kernels call what a function builds; `typed` gives the signature for the types of a call's arguments."""

    def decorated(build: Build) -> Callable[..., Any]:
        def definition(_context: TypingContext, *kinds: types.Type) -> tuple[Signature, Build]:
            return typed(*kinds), build

        context = inspect.Parameter("_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = inspect.signature(typed).parameters.values()
        definition.__name__, definition.__doc__ = build.__name__, build.__doc__
        vars(definition)["__signature__"] = inspect.Signature([context, *names])
        return extending.intrinsic(definition)

    return decorated


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: DataModelManager, kind: types.Type) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: DataModelManager, kind: types.Type) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), WIDTH))


def _spread(builder: Builder, scalar: ir.Value) -> ir.Value:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(_INTEGERS, [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


def _constant(builder: Builder, number: float) -> ir.Value:
    return _spread(builder, ir.Constant(ir.FloatType(), number))


def _integer(number: int) -> ir.Value:
    return ir.Constant(_INTEGERS, [number] * WIDTH)


def _times(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fmul(a, b, flags=FLAGS)


def _plus(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.fadd(a, b, flags=FLAGS)


@lower_cast(types.Float, LanesType)
def _cast(context: BaseContext, builder: Builder, source: types.Type, target: types.Type, value: ir.Value) -> ir.Value:
    return _spread(builder, value)


def _register(function: Callable[..., object], result: types.Type, build: Binary) -> None:
    """Let kernels apply an operator to two lanes, or to lanes and a float32."""

    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Sequence[types.Type], kws: Mapping[str, types.Type]) -> Signature | None:
            if LANES in args and all(kind in (LANES, types.float32) for kind in args):
                return signature(result, LANES, LANES)
            return None

    @lower_builtin(function, LANES, LANES)
    def _lower(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
        return build(builder, *args)


def _smaller(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    """One instruction, where neither may be NaN."""
    flags = ("nnan", "nsz")
    return builder.select(builder.fcmp_ordered("<=", a, b, flags=flags), a, b, flags=flags)


_register(operator.add, LANES, _plus)
_register(operator.sub, LANES, lambda builder, a, b: builder.fsub(a, b, flags=FLAGS))
_register(operator.mul, LANES, _times)
_register(operator.truediv, LANES, lambda builder, a, b: builder.fdiv(a, b, flags=FLAGS))
_register(max, LANES, lambda builder, a, b: builder.select(builder.fcmp_ordered(">=", a, b), a, b))
_register(min, LANES, _smaller)
_register(operator.le, MASK, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))


@_intrinsic(lambda mask, yes, no: signature(LANES, MASK, LANES, LANES))
def select(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """`yes` where the mask holds, else `no`."""
    return builder.select(*args)


@_intrinsic(lambda scalar: signature(LANES, types.float32))
def spread(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """A float32 in all lanes."""
    return _spread(builder, args[0])


def _pointer(context: BaseContext, builder: Builder, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    if kind.layout != "C" or kind.dtype != types.float32:
        raise TypingError(f"lanes are loaded from and stored to contiguous float32 arrays, not {kind}")
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@_intrinsic(lambda array, index: signature(LANES, array, types.intp))
def load(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The 16 elements of a contiguous float32 array from a flat index on."""
    return builder.load(_pointer(context, builder, sig.args[0], *args), align=4)


@_intrinsic(lambda array, index, value: signature(types.void, array, types.intp, LANES))
def store(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Write to the 16 elements of a contiguous float32 array from a flat index on."""
    array, index, value = args
    builder.store(value, _pointer(context, builder, sig.args[0], array, index), align=4)
    return context.get_dummy_value()


@_intrinsic(lambda texels, start, width, u, v: signature(LANES, texels, types.intp, types.int32, LANES, LANES))
def bilinear(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Grey values of an image at places between its pixels, column u and row v; both at least 0.

    `texels` (contiguous uint32) has from `start` on the image's rows of `width` words, each of a pixel with its right,
    lower and diagonal neighbours as bytes: a value is one load. LLVM's own vectoriser leaves the whole loop scalar
    where it takes gathers to be slow.
    """
    texels, start, width, u, v = args
    if sig.args[0].layout != "C" or sig.args[0].dtype != types.uint32:
        raise TypingError(f"texels are contiguous uint32 arrays, not {sig.args[0]}")
    column, row = (builder.fptosi(place, _INTEGERS) for place in (u, v))
    stride = builder.insert_element(ir.Constant(_INTEGERS, ir.Undefined), width, ir.Constant(ir.IntType(32), 0))
    stride = builder.shuffle_vector(stride, ir.Constant(_INTEGERS, ir.Undefined), _integer(0))
    first = builder.gep(context.make_array(sig.args[0])(context, builder, texels).data, [start])
    first = builder.bitcast(first, ir.PointerType())
    places = builder.gep(first, [builder.add(builder.mul(row, stride), column)], source_etype=ir.IntType(32))
    places.type = ir.VectorType(ir.PointerType(), WIDTH)  # llvmlite doesn't know that an index may be a vector
    everywhere = ir.VectorType(ir.IntType(1), WIDTH)
    kind = ir.FunctionType(_INTEGERS, [places.type, ir.IntType(32), everywhere, _INTEGERS])
    gather = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.gather.v{WIDTH}i32.v{WIDTH}p0")
    mask, nothing = ir.Constant(everywhere, [1] * WIDTH), ir.Constant(_INTEGERS, ir.Undefined)
    words = builder.call(gather, [places, ir.IntType(32)(4), mask, nothing])
    a, b, c, d = (
        builder.sitofp(builder.and_(builder.lshr(words, _integer(8 * byte)), _integer(255)), _VECTOR)
        for byte in range(4)
    )

    def between(one: ir.Value, other: ir.Value, share: ir.Value) -> ir.Value:
        return _plus(builder, one, _times(builder, share, builder.fsub(other, one, flags=FLAGS)))

    right, below = (builder.fsub(place, builder.sitofp(whole, _VECTOR)) for place, whole in ((u, column), (v, row)))
    return between(between(a, b, right), between(c, d, right), below)


@_intrinsic(lambda value: signature(types.float32, LANES))
def total(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The sum of the lanes."""
    name, scalar = f"llvm.vector.reduce.fadd.v{WIDTH}f32", ir.FloatType()
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(scalar, [scalar, _VECTOR]), name)
    return builder.call(function, [scalar(-0.0), args[0]], fastmath=("reassoc", "nsz"))


@_intrinsic(lambda value: signature(types.float32, LANES))
def largest(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The largest of the lanes."""
    name = f"llvm.vector.reduce.fmax.v{WIDTH}f32"
    kind = ir.FunctionType(ir.FloatType(), [_VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args, fastmath=("nnan",))


def _halves(builder: Builder, a: ir.Value, b: ir.Value, first: Sequence[int], second: Sequence[int]) -> ir.Value:
    """Sum of two shuffles of a pair of vectors; both lists name lanes of `a` (0-15) and `b` (16-31)."""
    low, high = (builder.shuffle_vector(a, b, ir.Constant(_INTEGERS, list(order))) for order in (first, second))
    return builder.fadd(low, high, flags=FLAGS)


def _each_quarter(order: Sequence[int]) -> list[int]:
    """The same choice of 4 lanes from each quarter; an index above 3 names the second vector."""
    return [quarter + k % 4 + WIDTH * (k // 4) for quarter in range(0, WIDTH, 4) for k in order]


def _quarters(order: Sequence[int]) -> list[int]:
    """Whole quarters; an index above 3 names the second vector."""
    return [4 * k % WIDTH + WIDTH * (k // 4) + lane for k in order for lane in range(4)]


@_intrinsic(lambda values: signature(LANES, values))
def sum_each(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Lanes of which each is the sum of one of up to 16 values; the lanes beyond their number hold anything."""
    level = cgutils.unpack_tuple(builder, args[0])
    for first, second in (
        (_each_quarter((0, 4, 1, 5)), _each_quarter((2, 6, 3, 7))),
        (_each_quarter((0, 1, 4, 5)), _each_quarter((2, 3, 6, 7))),
        (_quarters((0, 2, 4, 6)), _quarters((1, 3, 5, 7))),
        (_quarters((0, 2, 4, 6)), _quarters((1, 3, 5, 7))),
    ):
        level = level if len(level) % 2 == 0 else [*level, level[-1]]
        pairs = zip(level[::2], level[1::2], strict=True)
        level = [_halves(builder, a, b, first, second) for a, b in pairs]
    return level[0]


@_intrinsic(lambda array, row, chosen, values: signature(types.int64, array, types.int64, types.int64, values))
def store_rows(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Write the chosen lanes of a tuple of 16 values, each as a row of 16; returns the row after the last.

    The array (rows, 16) is written from `row` on, and one row behind the last; what is chosen are `bits`.
    """
    array, row, chosen, values = args
    columns = cgutils.unpack_tuple(builder, values)
    for step in (8, 4, 2, 1):  # a transposition: the halves of pairs of blocks change places
        low = [lane if not lane & step else lane - step + WIDTH for lane in range(WIDTH)]
        high = [lane + step if not lane & step else lane + WIDTH for lane in range(WIDTH)]
        for k in range(WIDTH):
            if not k & step:
                a, b = columns[k], columns[k + step]
                columns[k] = builder.shuffle_vector(a, b, ir.Constant(_INTEGERS, low))
                columns[k + step] = builder.shuffle_vector(a, b, ir.Constant(_INTEGERS, high))
    whole = ir.IntType(64)
    for lane, value in enumerate(columns):
        at = builder.mul(row, whole(WIDTH))
        builder.store(value, _pointer(context, builder, sig.args[0], array, at), align=4)
        row = builder.add(row, builder.and_(builder.lshr(chosen, whole(lane)), whole(1)))
    return row


@_intrinsic(lambda number: signature(types.int64, types.int64))
def lowest(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The number of the lowest bit that is set, of an integer that isn't 0."""
    return builder.cttz(args[0], ir.IntType(1)(1))


@_intrinsic(lambda array, index: signature(types.void, array, types.intp))
def prefetch(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Ask for the cache line of an element of a contiguous array that will be read soon."""
    array, index = args
    data = context.make_array(sig.args[0])(context, builder, array).data
    byte = ir.IntType(8).as_pointer()
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    address = builder.bitcast(builder.gep(data, [index]), byte)
    builder.call(function, [address, flag(0), flag(3), flag(1)])
    return context.get_dummy_value()


@_intrinsic(lambda mask: signature(types.int64, mask))
def bits(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The truth values as the bits of an integer, the first lane lowest."""
    return builder.zext(builder.bitcast(args[0], ir.IntType(WIDTH)), ir.IntType(64))


def _called(builder: Builder, name: str, value: ir.Value) -> ir.Value:
    """LLVM's own function of each lane."""
    kind = ir.FunctionType(_VECTOR, [_VECTOR])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{WIDTH}f32"), [value])


@_intrinsic(lambda value: signature(LANES, LANES))
def root(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Square roots."""
    return _called(builder, "sqrt", args[0])


@_intrinsic(lambda value: signature(LANES, LANES))
def floor(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """Rounded down."""
    return _called(builder, "floor", args[0])


@_intrinsic(lambda value: signature(LANES, LANES))
def exponential(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The exponential of each lane, within 2e-7 of it; lanes must lie in [-87, 88]."""
    constant, times, plus = (partial(build, builder) for build in (_constant, _times, _plus))
    twos = _called(builder, "rint", builder.fmul(args[0], constant(LOG2_E)))
    # ln 2 in two parts, so that what is left of the exponent is exact
    rest = plus(times(twos, constant(-LN_2_HIGH)), args[0])
    rest = plus(times(twos, constant(-LN_2_LOW)), rest)
    result = constant(1 / math.factorial(EXPONENTIAL_TERMS))
    for term in range(EXPONENTIAL_TERMS - 1, -1, -1):
        result = plus(times(result, rest), constant(1 / math.factorial(term)))
    exponent = builder.add(builder.fptosi(twos, _INTEGERS), _integer(127))
    return times(result, builder.bitcast(builder.shl(exponent, _integer(23)), _VECTOR))


@_intrinsic(lambda value: signature(LANES, LANES))
def logarithm(context: BaseContext, builder: Builder, sig: Signature, args: Values) -> ir.Value:
    """The natural logarithm of each lane, within 2e-7; of 0 it is about -88. Lanes must not be negative."""
    constant, times, plus = (partial(build, builder) for build in (_constant, _times, _plus))
    # value = 2^exponent * mantissa, with a mantissa from sqrt(1/2) to sqrt(2)
    bits_of = builder.bitcast(args[0], _INTEGERS)
    exponent = builder.ashr(builder.sub(bits_of, _integer(HALF_ROOT_BITS)), _integer(23))
    mantissa = builder.bitcast(builder.sub(bits_of, builder.shl(exponent, _integer(23))), _VECTOR)
    # log m = 2 artanh((m - 1) / (m + 1))
    part = builder.fdiv(plus(mantissa, constant(-1)), plus(mantissa, constant(1)), flags=FLAGS)
    square = times(part, part)
    series = constant(2 / 9)
    for term in (7, 5, 3, 1):
        series = plus(times(series, square), constant(2 / term))
    return plus(times(builder.sitofp(exponent, _VECTOR), constant(math.log(2))), times(series, part))


@njit
def line_aligned_buffer(count: int) -> F32:
    """Memory that starts with a cache line, so that no row of lanes straddles two."""
    raw = np.empty(count + WIDTH, np.float32)
    skip = -(raw.ctypes.data // 4) % WIDTH
    return raw[skip : skip + count]
