"""A vector of 16 float32 for numba kernels: a row of a tile as one value.

LLVM's own vectoriser makes vector code of a flat loop over pixels, but it can't keep a whole row in a register while
rows go by, nor sum ten registers at once. Kernels that work on `Lanes` say what belongs into a register; on a machine
with narrower ones LLVM splits each value.

Inside kernels `+ - * /`, `max`, `min` and `<=` take lanes and float32 scalars, which are spread over all lanes.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import extending, njit
from numba.core import cgutils, imputils, types
from numba.core.base import BaseContext
from numba.core.errors import TypingError
from numba.core.typeconv.castgraph import Conversion
from numba.core.typing import templates
from numba.core.typing.context import BaseContext as TypingContext
from numba.core.typing.templates import AbstractTemplate, Signature, signature
from numba.extending import lower_builtin, models, register_model

from pipeline.types import F32

WIDTH = 16
MARKS = 64
"""Masks that are looked at at once."""
FLAGS = ("reassoc", "contract", "arcp", "nsz")
"""Reductions may be reordered, but infinities keep their meaning (as in `blending.STRICT_MATH`)."""

intrinsic = cast(Callable[[Callable[..., Any]], Callable[..., Any]], extending.intrinsic)
lower_cast, infer_global = (cast(Callable[..., Any], f) for f in (imputils.lower_cast, templates.infer_global))
"""As type checkers should see them: the typing context is no argument of the caller's."""

Builder = Any
"""An `ir.IRBuilder`; llvmlite's decorators hide the signatures of its methods from type checkers."""
Intrinsic = tuple[Signature, Callable[[BaseContext, Builder, Signature, Sequence[ir.Value]], ir.Value]]
"""What numba's intrinsics return: their signature, and the function that builds their code."""
Binary = Callable[[Builder, ir.Value, ir.Value], ir.Value]

LOG2_E, LN_2_HIGH, LN_2_LOW = 1 / math.log(2), 0.693359375, math.log(2) - 0.693359375
HALF_ROOT_BITS = int(np.float32(math.sqrt(0.5)).view(np.int32))
EXPONENTIAL_TERMS = 6
"""Terms of Taylor's series; what is left of the exponent is at most half of ln 2."""

_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


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


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, _VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: types.Type) -> None:
        super().__init__(manager, kind, ir.VectorType(ir.IntType(1), WIDTH))


def _spread(builder: Builder, scalar: ir.Value) -> ir.Value:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


@lower_cast(types.Float, LanesType)
def _cast(context: BaseContext, builder: Builder, source: types.Type, target: types.Type, value: ir.Value) -> ir.Value:
    return _spread(builder, value)


def _register(function: Callable[..., Any], result: types.Type, build: Binary) -> None:
    """Let kernels apply an operator to two lanes, or to lanes and a float32."""

    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args: Sequence[types.Type], kws: Any) -> Any:
            if LANES in args and all(kind in (LANES, types.float32) for kind in args):
                return signature(result, LANES, LANES)
            return None

    @lower_builtin(function, LANES, LANES)
    def _lower(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return build(builder, *args)


def _smaller(builder: Builder, a: ir.Value, b: ir.Value) -> ir.Value:
    """One instruction, where neither may be NaN."""
    flags = ("nnan", "nsz")
    return builder.select(builder.fcmp_ordered("<=", a, b, flags=flags), a, b, flags=flags)


_register(operator.add, LANES, lambda builder, a, b: builder.fadd(a, b, flags=FLAGS))
_register(operator.sub, LANES, lambda builder, a, b: builder.fsub(a, b, flags=FLAGS))
_register(operator.mul, LANES, lambda builder, a, b: builder.fmul(a, b, flags=FLAGS))
_register(operator.truediv, LANES, lambda builder, a, b: builder.fdiv(a, b, flags=FLAGS))
_register(max, LANES, lambda builder, a, b: builder.select(builder.fcmp_ordered(">=", a, b), a, b))
_register(min, LANES, _smaller)
_register(operator.le, MASK, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))


@intrinsic
def select(typing_context: TypingContext, mask: types.Type, yes: types.Type, no: types.Type) -> Intrinsic:
    """`yes` where the mask holds, else `no`."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.select(*args)

    return signature(LANES, MASK, LANES, LANES), build


@intrinsic
def spread(typing_context: TypingContext, scalar: types.Type) -> Intrinsic:
    """A float32 in all lanes."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return _spread(builder, args[0])

    return signature(LANES, types.float32), build


def _pointer(context: BaseContext, builder: Builder, kind: types.Array, array: ir.Value, index: ir.Value) -> ir.Value:
    if kind.layout != "C" or kind.dtype != types.float32:
        raise TypingError(f"lanes are loaded from and stored to contiguous float32 arrays, not {kind}")
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


@intrinsic
def load(typing_context: TypingContext, array: types.Type, index: types.Type) -> Intrinsic:
    """The 16 elements of a contiguous float32 array from a flat index on."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.load(_pointer(context, builder, sig.args[0], *args), align=4)

    return signature(LANES, array, types.intp), build


@intrinsic
def store(typing_context: TypingContext, array: types.Type, index: types.Type, value: types.Type) -> Intrinsic:
    """Write to the 16 elements of a contiguous float32 array from a flat index on."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        array, index, value = args
        builder.store(value, _pointer(context, builder, sig.args[0], array, index), align=4)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, LANES), build


@intrinsic
def largest(typing_context: TypingContext, value: types.Type) -> Intrinsic:
    """The largest of the lanes."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        name = f"llvm.vector.reduce.fmax.v{WIDTH}f32"
        kind = ir.FunctionType(ir.FloatType(), [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args, fastmath=("nnan",))

    return signature(types.float32, LANES), build


def _halves(builder: Builder, a: ir.Value, b: ir.Value, first: Sequence[int], second: Sequence[int]) -> ir.Value:
    """Sum of two shuffles of a pair of vectors; both lists name lanes of `a` (0-15) and `b` (16-31)."""
    indices = ir.VectorType(ir.IntType(32), WIDTH)
    low, high = (builder.shuffle_vector(a, b, ir.Constant(indices, list(order))) for order in (first, second))
    return builder.fadd(low, high, flags=FLAGS)


def _each_quarter(order: Sequence[int]) -> list[int]:
    """The same choice of 4 lanes from each quarter; an index above 3 names the second vector."""
    return [quarter + k % 4 + WIDTH * (k // 4) for quarter in range(0, WIDTH, 4) for k in order]


def _quarters(order: Sequence[int]) -> list[int]:
    """Whole quarters; an index above 3 names the second vector."""
    return [4 * k % WIDTH + WIDTH * (k // 4) + lane for k in order for lane in range(4)]


@intrinsic
def sum_each(typing_context: TypingContext, values: types.Type) -> Intrinsic:
    """Lanes of which each is the sum of one of up to 16 values; the lanes beyond their number hold anything."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
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

    return signature(LANES, values), build


@intrinsic
def store_rows(
    typing_context: TypingContext, array: types.Type, row: types.Type, chosen: types.Type, values: types.Type
) -> Intrinsic:
    """Write the chosen lanes of 16 values one behind the other, each as a row of 16; returns the row after the last.

    Args:
        typing_context: numba's typing context.
        array: (rows, 16) contiguous float32; one row behind the last that is chosen is overwritten.
        row: The first to write.
        chosen: Bits, see `bits`.
        values: A tuple of 16.
    """

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        array, row, chosen, values = args
        columns = cgutils.unpack_tuple(builder, values)
        indices = ir.VectorType(ir.IntType(32), WIDTH)
        for step in (8, 4, 2, 1):  # a transposition: the halves of pairs of blocks change places
            low = [lane if not lane & step else lane - step + WIDTH for lane in range(WIDTH)]
            high = [lane + step if not lane & step else lane + WIDTH for lane in range(WIDTH)]
            for k in range(WIDTH):
                if not k & step:
                    a, b = columns[k], columns[k + step]
                    columns[k] = builder.shuffle_vector(a, b, ir.Constant(indices, low))
                    columns[k + step] = builder.shuffle_vector(a, b, ir.Constant(indices, high))
        whole = ir.IntType(64)
        for lane, value in enumerate(columns):
            at = builder.mul(row, whole(WIDTH))
            builder.store(value, _pointer(context, builder, sig.args[0], array, at), align=4)
            row = builder.add(row, builder.and_(builder.lshr(chosen, whole(lane)), whole(1)))
        return row

    return signature(types.int64, array, types.int64, types.int64, values), build


@intrinsic
def marked(typing_context: TypingContext, masks: types.Type, index: types.Type, bit: types.Type) -> Intrinsic:
    """Which of 64 uint16 from an index on have a bit in common with `bit`; the truth values as bits, see `bits`."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        array, index, bit = args
        if sig.args[0].layout != "C" or sig.args[0].dtype != types.uint16:
            raise TypingError(f"masks are contiguous uint16 arrays, not {sig.args[0]}")
        data = context.make_array(sig.args[0])(context, builder, array).data
        kind = ir.VectorType(ir.IntType(16), MARKS)
        values = builder.load(builder.bitcast(builder.gep(data, [index]), kind.as_pointer()), align=2)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), bit, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), MARKS), [0] * MARKS)
        common = builder.and_(values, builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros))
        found = builder.icmp_unsigned("!=", common, ir.Constant(kind, [0] * MARKS))
        return builder.bitcast(found, ir.IntType(64))

    return signature(types.int64, masks, types.intp, types.uint16), build


@intrinsic
def lowest(typing_context: TypingContext, number: types.Type) -> Intrinsic:
    """The number of the lowest bit that is set, of an integer that isn't 0."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.cttz(args[0], ir.IntType(1)(1))

    return signature(types.int64, types.int64), build


@intrinsic
def prefetch(typing_context: TypingContext, array: types.Type, index: types.Type) -> Intrinsic:
    """Ask for the cache line of an element of a contiguous array that will be read soon."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        array, index = args
        data = context.make_array(sig.args[0])(context, builder, array).data
        byte = ir.IntType(8).as_pointer()
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(data, [index]), byte)
        builder.call(function, [address, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return signature(types.void, array, types.intp), build


@intrinsic
def bits(typing_context: TypingContext, mask: types.Type) -> Intrinsic:
    """The truth values as the bits of an integer, the first lane lowest."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        return builder.zext(builder.bitcast(args[0], ir.IntType(WIDTH)), ir.IntType(64))

    return signature(types.int64, mask), build


@intrinsic
def root(typing_context: TypingContext, value: types.Type) -> Intrinsic:
    """Square roots."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.sqrt.v{WIDTH}f32"), args)

    return signature(LANES, LANES), build


@intrinsic
def floor(typing_context: TypingContext, value: types.Type) -> Intrinsic:
    """Rounded down."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.floor.v{WIDTH}f32"), args)

    return signature(LANES, LANES), build


@intrinsic
def exponential(typing_context: TypingContext, value: types.Type) -> Intrinsic:
    """The exponential of each lane, within 2e-7 of it; lanes must lie in [-87, 88]."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        def constant(number: float) -> ir.Value:
            return _spread(builder, ir.Constant(ir.FloatType(), number))

        def plus_product(a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
            return builder.fadd(builder.fmul(a, b, flags=FLAGS), c, flags=FLAGS)

        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        rounded = cgutils.get_or_insert_function(builder.module, kind, f"llvm.rint.v{WIDTH}f32")
        twos = builder.call(rounded, [builder.fmul(args[0], constant(LOG2_E))])
        # ln 2 in two parts, so that what is left of the exponent is exact
        rest = plus_product(twos, constant(-LN_2_HIGH), args[0])
        rest = plus_product(twos, constant(-LN_2_LOW), rest)
        result = constant(1 / math.factorial(EXPONENTIAL_TERMS))
        for term in range(EXPONENTIAL_TERMS - 1, -1, -1):
            result = plus_product(result, rest, constant(1 / math.factorial(term)))
        integers = ir.VectorType(ir.IntType(32), WIDTH)
        exponent = builder.add(builder.fptosi(twos, integers), ir.Constant(integers, [127] * WIDTH))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(integers, [23] * WIDTH)), _VECTOR)
        return builder.fmul(result, power, flags=FLAGS)

    return signature(LANES, LANES), build


@intrinsic
def logarithm(typing_context: TypingContext, value: types.Type) -> Intrinsic:
    """The natural logarithm of each lane, within 2e-7; of 0 it is about -88. Lanes must not be negative."""

    def build(context: BaseContext, builder: Builder, sig: Signature, args: Sequence[ir.Value]) -> ir.Value:
        integers = ir.VectorType(ir.IntType(32), WIDTH)

        def constant(number: float) -> ir.Value:
            return _spread(builder, ir.Constant(ir.FloatType(), number))

        def integer(number: int) -> ir.Value:
            return ir.Constant(integers, [number] * WIDTH)

        def times(a: ir.Value, b: ir.Value) -> ir.Value:
            return builder.fmul(a, b, flags=FLAGS)

        def plus(a: ir.Value, b: ir.Value) -> ir.Value:
            return builder.fadd(a, b, flags=FLAGS)

        # value = 2^exponent * mantissa, with a mantissa from sqrt(1/2) to sqrt(2)
        bits_of = builder.bitcast(args[0], integers)
        exponent = builder.ashr(builder.sub(bits_of, integer(HALF_ROOT_BITS)), integer(23))
        mantissa = builder.bitcast(builder.sub(bits_of, builder.shl(exponent, integer(23))), _VECTOR)
        # log m = 2 artanh((m - 1) / (m + 1))
        part = builder.fdiv(plus(mantissa, constant(-1)), plus(mantissa, constant(1)), flags=FLAGS)
        square = times(part, part)
        series = constant(2 / 9)
        for term in (7, 5, 3, 1):
            series = plus(times(series, square), constant(2 / term))
        return plus(times(builder.sitofp(exponent, _VECTOR), constant(math.log(2))), times(series, part))

    return signature(LANES, LANES), build


@njit
def line_aligned_buffer(count: int) -> F32:
    """Memory that starts with a cache line, so that no row of lanes straddles two."""
    raw = np.empty(count + WIDTH, np.float32)
    skip = -(raw.ctypes.data // 4) % WIDTH
    return raw[skip : skip + count]
