"""A compiled function run by several threads: those of torch, so that no second set of them waits beside it.

numba's own parallel loops bring threads of theirs, which take the cores from those of torch, and those from them, at
each change; and to call compiled code in several threads from Python takes longer than most of what is computed here.
"""

import ctypes
from functools import cache

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from compact_biomed.engine.compiled.kept import FAILED

_START = "GOMP_parallel"  # of GNU's OpenMP library: call a function with a pointer, in n threads, and wait for all


@cache
def available() -> bool:
    """Whether torch's threads are those of GNU OpenMP; if so, compiled code can start them from now on."""
    import torch  # noqa: F401  which loads the library

    try:
        start = getattr(ctypes.CDLL(None), _START, None)
    except TypeError:  # Windows
        start = None
    if start is not None:
        llvmlite.binding.add_symbol(_START, ctypes.cast(start, ctypes.c_void_p).value)
    return start is not None


@intrinsic
def in_threads(typing, function, arguments, threads):
    """Compiled code calls function(*arguments, share, threads) in so many threads, with share = 0, 1, ...

    Args:
        function: compiled; its result is dropped.
        arguments: a tuple.
        threads: at least 1. Where there are fewer, some take several shares.

    Raises:
        RuntimeError: the function failed in a thread.
    """
    one = typing.resolve_function_type(function, (*arguments, types.int64, types.int64), {})

    def generate(context, builder, signature, values):
        _, packed, threads = values
        shared = ir.LiteralStructType([packed.type, threads.type, threads.type, threads.type])
        place, zero = cgutils.alloca_once(builder, shared), ir.Constant(threads.type, 0)
        for i, value in enumerate((packed, zero, threads, zero)):
            builder.store(value, cgutils.gep_inbounds(builder, place, 0, i))
        thread = _thread(context, builder.module, shared, function, one)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        start = ir.FunctionType(ir.VoidType(), [thread.type, pointer, number, number])
        start = cgutils.get_or_insert_function(builder.module, start, _START)
        arguments = (builder.bitcast(place, pointer), builder.trunc(threads, number), ir.Constant(number, 0))
        builder.call(start, (thread, *arguments))
        failed = builder.load(cgutils.gep_inbounds(builder, place, 0, 3))
        with builder.if_then(builder.icmp_signed("!=", failed, zero), likely=False):
            context.call_conv.return_user_exc(builder, RuntimeError, (FAILED,))
        return context.get_dummy_value()

    return types.void(function, arguments, types.int64), generate


def _thread(context, module: ir.Module, shared: ir.Type, function, signature) -> ir.Function:
    """What each thread does, as a function of a pointer to what they share: the arguments, the next share, how many,
    and whether one has failed."""
    name = module.get_unique_name(f"thread_of_{function.dispatcher.py_func.__name__}")
    thread = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), name)
    thread.linkage = "internal"
    start, more, done = (thread.append_basic_block(label) for label in ("start", "more", "done"))
    builder = ir.IRBuilder(start)
    place = builder.bitcast(thread.args[0], shared.as_pointer())
    packed, following, shares, failed = (cgutils.gep_inbounds(builder, place, 0, i) for i in range(4))
    arguments, shares = cgutils.unpack_tuple(builder, builder.load(packed)), builder.load(shares)
    one = ir.Constant(shares.type, 1)
    compiled = function.dispatcher.get_compile_result(signature)
    context.active_code_library.add_linking_library(compiled.library)

    def take_one() -> ir.Value:
        share = builder.atomic_rmw("add", following, one, "monotonic")
        builder.cbranch(builder.icmp_signed("<", share, shares), more, done)
        return share

    # Until none is left, in case that there are fewer threads than were asked for.
    first = take_one()
    builder.position_at_end(more)
    share = builder.phi(shares.type)
    share.add_incoming(first, start)
    values = (*arguments, share, shares)
    status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, signature, values)
    with builder.if_then(status.is_error, likely=False):
        builder.store(one, failed)
    last = builder.block
    share.add_incoming(take_one(), last)
    builder.position_at_end(done)
    builder.ret_void()
    return thread
