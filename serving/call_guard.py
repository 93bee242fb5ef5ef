"""The outermost interceptor: what every call goes through, whatever it asks for."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
from google.protobuf.message import DecodeError

from recsys.errors import CallCancelledError, OverloadedError, RequestError
from serving.calls import CallsUnderWay
from serving.logs import serving_log
from serving.status_mapping import status_of

if TYPE_CHECKING:
    Interceptor = grpc.ServerInterceptor[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Interceptor = grpc.ServerInterceptor

HEALTH: Final = "/grpc.health."
UNKNOWN_METHOD: Final = "unknown"
"""What the log calls methods that nobody offers: their names are the caller's."""

SUMMARY_SECONDS: Final = 1.0
"""Refusals for overload are logged together, this often at most: they come by the thousand."""

Answering = Callable[[bytes, grpc.ServicerContext], bytes]
Screening = Callable[[float], OverloadedError | None]

log = serving_log()


class CallGuard(Interceptor):
    """Ends every call with a fixed status and says in the log how it ended.

    No error's own text reaches a caller unless it was written for one (`status_of`); that holds for
    messages that can't be read, answers that can't be written and methods nobody offers, too.
    Health is answered by threads of its own, is never refused, and is logged only when it fails.
    The log says method, status and duration, never what was asked or for whom.
    Under overload calls are refused where they come in: they take no thread and are not read, for
    what refusals take, they take from the calls that are scored.

    Args:
        calls: counts all but health checks and streams.
        threads: run calls that were screened.
        health_threads: run the health service.
        screen: gives what screens the calls of a method now, None where none are: it is told how
            many seconds a call has left, and says what to tell a call that can't be taken.
        on_end: told method, status and seconds of every call; of a stream, to its end.
    """

    def __init__(
        self,
        calls: CallsUnderWay,
        threads: Executor,
        health_threads: Executor,
        screen: Callable[[str], Screening | None],
        on_end: Callable[[str, grpc.StatusCode, float], None],
    ) -> None:
        self._calls = calls
        self._screen = screen
        self._on_end = on_end
        self._threads = threads
        self._health_threads = health_threads
        self._refusals = _Summary()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wrap the method's handler, and offer one for unknown methods."""
        method = handler_call_details.method
        try:
            handler = continuation(handler_call_details)
        except Exception as error:  # noqa: BLE001
            return grpc.stream_stream_rpc_method_handler(self._failing(error, method))
        if handler is None:
            return grpc.stream_stream_rpc_method_handler(self._unknown)
        if handler.unary_unary:
            answering = self._unary(handler, method)
            if (refusal := self._screen(method)) is not None:
                return self._screened(answering, method, refusal)
            return grpc.unary_unary_rpc_method_handler(answering)
        kind, behaviour = next(
            (kind, behaviour)
            for kind in ("unary_stream", "stream_unary", "stream_stream")
            if (behaviour := getattr(handler, kind))
        )
        wrap = getattr(grpc, f"{kind}_rpc_method_handler")
        guarded = self._streaming(behaviour, method)
        wrapped: Handler = wrap(guarded, handler.request_deserializer, handler.response_serializer)
        return wrapped

    def _screened(self, answering: Answering, method: str, refusal: Screening) -> Handler:
        """A handler that ends a call that is refused in the thread that takes calls in.

        It answers the others as `answering` does. A handler of streams reads no message unless it
        asks for one; the caller of a method without streams can't tell.
        """

        def screened(
            messages: Iterator[bytes],
            context: grpc.ServicerContext,
            send: Callable[[bytes | None], None],
        ) -> None:
            started = time.perf_counter()
            if (refused := refusal(context.time_remaining())) is not None:
                self._end(context, method, started, refused)

            def answer() -> None:
                with suppress(Exception):  # the context has the status of a call that failed
                    try:
                        message = next(messages)
                    except (StopIteration, grpc.RpcError):
                        self._end(context, method, started, CallCancelledError("no message came"))
                    send(answering(message, context))
                send(None)

            self._threads.submit(answer)

        screened.experimental_non_blocking = True  # type: ignore[attr-defined]
        screened.experimental_thread_pool = _INLINE  # type: ignore[attr-defined]
        handler: Handler = grpc.stream_stream_rpc_method_handler(screened)
        return handler

    def _unary(self, handler: Handler, method: str) -> Answering:
        read = handler.request_deserializer or bytes
        write = handler.response_serializer or bytes
        behaviour: Callable[[Any, Any], Any] = handler.unary_unary  # type: ignore[assignment]
        is_health = method.startswith(HEALTH)

        def guarded(message: bytes, context: grpc.ServicerContext) -> bytes:
            started = time.perf_counter()
            counted: AbstractContextManager[None] = (
                nullcontext() if is_health else self._calls.one()
            )
            try:
                with counted:
                    answer: bytes = write(behaviour(_read(read, message), context))
            except BaseException as error:  # noqa: BLE001
                self._end(context, method, started, error)
            self._ended(method, _code(context), started)
            return answer

        if is_health:
            guarded.experimental_thread_pool = self._health_threads  # type: ignore[attr-defined]
        return guarded

    def _streaming(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        @functools.wraps(behaviour)  # with the attributes by which gRPC chooses threads
        def guarded(asked: object, context: grpc.ServicerContext, *send: object) -> object:
            started = time.perf_counter()
            try:
                answers = behaviour(asked, context, *send)
            except BaseException as error:  # noqa: BLE001
                self._end(context, method, started, error)
            return answers if send or answers is None else each(answers, asked, context, started)

        def each(
            answers: Iterator[object], asked: object, context: grpc.ServicerContext, started: float
        ) -> Iterator[object]:
            try:
                yield from answers
            except Exception as error:  # noqa: BLE001
                self._end(context, method, started, error)

            def ended() -> None:
                self._ended(method, _code_after(asked), started)

            if not context.add_callback(ended):  # it is over already
                ended()

        return guarded

    def _failing(
        self, error: Exception, method: str
    ) -> Callable[[object, grpc.ServicerContext], NoReturn]:
        started = time.perf_counter()

        def failing(_: object, context: grpc.ServicerContext) -> NoReturn:
            self._end(context, method, started, error)

        return failing

    def _unknown(self, _: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self._ended(UNKNOWN_METHOD, grpc.StatusCode.UNIMPLEMENTED, time.perf_counter())
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server offers no such method")

    def _end(
        self, context: grpc.ServicerContext, method: str, started: float, error: BaseException
    ) -> NoReturn:
        if isinstance(error, grpc.RpcError) and not context.is_active():
            error = CallCancelledError("the caller left")  # gRPC's way to say so within a stream
        status = status_of(error)
        self._ended(method, status.code, started)
        context.abort_with_status(status)

    def _ended(self, method: str, code: grpc.StatusCode, started: float) -> None:
        seconds = time.perf_counter() - started
        self._on_end(method, code, seconds)
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._refusals.note()
        elif code is not grpc.StatusCode.OK or not method.startswith(HEALTH):
            log.info("call", method=method, code=code.name, milliseconds=round(1000 * seconds, 1))


class _Inline(ThreadPoolExecutor):
    """Runs what it is given in the thread that gives it."""

    def submit(  # type: ignore[override]
        self, action: Callable[..., object], /, *arguments: object
    ) -> Future[object]:
        done: Future[object] = Future()
        done.set_result(action(*arguments))
        return done


_INLINE: Final = _Inline(1)


class _Summary:
    """Logs at most one line a period on refused calls; with how many there were since the last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._count = 0
        self._next = 0.0

    def note(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._count += 1
            if now < self._next:
                return
            count, self._count = self._count, 0
            self._next = now + SUMMARY_SECONDS
        log.warning("overloaded", refused=count)


def _code(context: Any) -> grpc.StatusCode:
    """What a handler set that returned; the method is missing in grpc's stubs."""
    return context.code() or grpc.StatusCode.OK


def _code_after(asked: object) -> grpc.StatusCode:
    """How a stream ended that was answered to its end, once it is over.

    Of a caller who leaves, gRPC may say first that there are no more messages; the next time it
    is asked for one, it tells.
    """
    try:
        if isinstance(asked, Iterator):
            next(asked)
    except grpc.RpcError:
        return grpc.StatusCode.CANCELLED
    except StopIteration:
        pass
    return grpc.StatusCode.OK


def _read(read: Callable[[bytes], Any], message: bytes) -> Any:
    try:
        return read(message)
    except (DecodeError, UnicodeDecodeError) as error:
        raise RequestError(
            "request", "is no message of the type that this method takes; see the .proto file"
        ) from error
