"""Compiled functions in several threads: those of torch, so that no second set of threads competes with them.

numba's parallel loops start threads of their own. These and torch's take the cores from each other at each change. And
calling compiled code in several threads from Python takes longer than most of what is computed here. So compiled code
calls the OpenMP library that torch has loaded.
"""

import ctypes
from functools import cache

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from compact_biomed.engine.compiled.cache import FAILED_IN_THREAD

_START = "GOMP_parallel"  # of GNU's OpenMP library: call a function with a pointer, in n threads, and wait for all


@cache
def available() -> bool:
    """Return whether torch's threads are those of GNU OpenMP; if so, let compiled code start them from now on."""
    import torch  # noqa: F401  which loads the library

    start = getattr(ctypes.CDLL(None), _START, None)
    if start is not None:
        llvmlite.binding.add_symbol(_START, ctypes.cast(start, ctypes.c_void_p).value)
    return start is not None


@intrinsic
def in_threads(typing, function, arguments, threads):
    """Call function(*arguments, share, threads) from compiled code in so many threads, with share = 0, 1, ...

    Args:
        function: compiled; its result is ignored.
        arguments: a tuple.
        threads: at least 1. If there are fewer, some take several shares.

    Raises:
        RuntimeError: the function failed in a thread.
    """
    signature_of_share = typing.resolve_function_type(function, (*arguments, types.int64, types.int64), {})

    def generate(context, builder, signature, values):
        _, packed, threads = values
        state_type = ir.LiteralStructType([packed.type, threads.type, threads.type, threads.type])
        state, zero = cgutils.alloca_once(builder, state_type), ir.Constant(threads.type, 0)
        for i, value in enumerate((packed, zero, threads, zero)):
            builder.store(value, cgutils.gep_inbounds(builder, state, 0, i))
        thread = _thread(context, builder.module, state_type, function, signature_of_share)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        start = ir.FunctionType(ir.VoidType(), [thread.type, pointer, number, number])
        start = cgutils.get_or_insert_function(builder.module, start, _START)
        arguments = (builder.bitcast(state, pointer), builder.trunc(threads, number), ir.Constant(number, 0))
        builder.call(start, (thread, *arguments))
        failed = builder.load(cgutils.gep_inbounds(builder, state, 0, 3))
        with builder.if_then(builder.icmp_signed("!=", failed, zero), likely=False):
            context.call_conv.return_user_exc(builder, RuntimeError, (FAILED_IN_THREAD,))
        return context.get_dummy_value()

    return types.void(function, arguments, types.int64), generate


def _thread(context, module: ir.Module, state_type: ir.Type, function, signature) -> ir.Function:
    """Return the function that each thread runs, given a pointer to what all threads share.

    They share the arguments, the number of the next share, the number of shares, and whether a thread has failed.
    """
    name = module.get_unique_name(f"thread_of_{function.dispatcher.py_func.__name__}")
    thread = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()]), name)
    thread.linkage = "internal"
    start, more, done = (thread.append_basic_block(label) for label in ("start", "more", "done"))
    builder = ir.IRBuilder(start)
    state = builder.bitcast(thread.args[0], state_type.as_pointer())
    packed, following, shares, failed = (cgutils.gep_inbounds(builder, state, 0, i) for i in range(4))
    arguments, shares = cgutils.unpack_tuple(builder, builder.load(packed)), builder.load(shares)
    one = ir.Constant(shares.type, 1)
    compiled = function.dispatcher.get_compile_result(signature)
    context.active_code_library.add_linking_library(compiled.library)

    def take_one() -> ir.Value:
        share = builder.atomic_rmw("add", following, one, "monotonic")
        builder.cbranch(builder.icmp_signed("<", share, shares), more, done)
        return share

    # Until no share is left: there may be fewer threads than shares.
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
