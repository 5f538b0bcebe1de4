"""Chat templates: Jinja in the immutable sandbox, within limits of time, memory and size.

The sandbox keeps a template away from the interpreter, but it stops neither loops nor growth, so
rendering runs on a CPU timer and under a memory limit, and its output is counted. A template that
spends its time inside one C call, where no Python handler runs, meets a second timer, which ends
the process; the daemon reports that.
"""

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import jinja2
import jinja2.debug  # jinja imports it at the first error, when no file may be read any more
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
from jinja2.exceptions import SecurityError

from chatsafe_runtime.worker.quota import OutOfTime, cpu_limit, memory_limit

MAX_CPU_S: Final = 1.0
# User time that ends the process; reached only inside one endless C call.
_KILL_CPU_S: Final = 4.0
MAX_MEMORY_BYTES: Final = 256 * 1024 * 1024
MAX_RANGE: Final = 10_000
# Placeholders stand for the contents, so a rendered chat is short; per message there is room for
# one and its markup.
_OUTPUT_BYTES_PER_MESSAGE: Final = 512
_OUTPUT_BYTES: Final = 64 * 1024
_MAX_REASON_CHARS: Final = 200
_MAX_POWER_BITS: Final = 4096

TemplateMessage = Mapping[str, str]


class TemplateFailed(Exception):
    """The template cannot be used; the message is the reason, in words."""


class TemplateRefused(Exception):
    """The template itself refused these messages (`raise_exception`), and said why."""


class _GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's text for training; here it changes nothing."""

    tags: set[str] = {"generation"}  # noqa: RUF012 (jinja's own declaration)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Growth in one C call is refused before it happens; no timer could stop it."""
        if operator == "**" and not _is_small_power(left, right):
            raise SecurityError("a power of this size")
        if operator == "*" and isinstance(left, int) != isinstance(right, int):
            times, thing = (left, right) if isinstance(left, int) else (right, left)
            if hasattr(thing, "__len__") and len(thing) * times > MAX_MEMORY_BYTES // 8:
                raise SecurityError("a repetition of this size")
        return super().call_binop(context, operator, left, right)


def _is_small_power(base: Any, exponent: Any) -> bool:
    if isinstance(base, int) and isinstance(exponent, int):
        return base.bit_length() * abs(exponent) <= _MAX_POWER_BITS
    return isinstance(base, int | float) and isinstance(exponent, int | float)


def _limited_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MAX_RANGE:
        raise SecurityError(f"a range of more than {MAX_RANGE} numbers")
    return numbers


def _raise_exception(reason: object) -> None:
    raise TemplateRefused(str(reason)[:_MAX_REASON_CHARS])


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As templates written for Hugging Face expect: plain, not escaped for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def warm_up() -> None:
    """Have Python and Jinja load all that they load late; afterwards no file can be opened."""
    source = (
        "{% for m in messages %}{{ m|tojson }}\\n{{ strftime_now('%d %b') }}{% endfor %}{{ 1/0 }}"
    )
    template = ChatTemplate(source, bos_text="", eos_text="", context_window=0)
    with contextlib.suppress(TemplateFailed):
        template.render([{"role": "user", "content": "\u00e9"}])


class ChatTemplate:
    """One compiled template. Raises TemplateFailed when it does not compile."""

    def __init__(self, source: str, *, bos_text: str, eos_text: str, context_window: int) -> None:
        environment = _Environment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _GenerationBlock],
        )
        for name in ("lipsum", "cycler", "joiner"):
            del environment.globals[name]
        environment.globals.update(
            range=_limited_range, raise_exception=_raise_exception, strftime_now=_strftime_now
        )
        environment.filters["tojson"] = _to_json
        self._variables = {"bos_token": bos_text, "eos_token": eos_text}
        self._max_bytes = 4 * context_window + _OUTPUT_BYTES
        with _limits():
            self._template = environment.from_string(source)

    def render(self, messages: Sequence[TemplateMessage]) -> str:
        """The prompt up to where the assistant's answer begins.

        Raises TemplateRefused with the template's own words, TemplateFailed for anything else.
        """
        max_bytes = self._max_bytes + _OUTPUT_BYTES_PER_MESSAGE * len(messages)
        parts: list[str] = []
        with _limits():
            for part in self._template.generate(
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **self._variables,
            ):
                parts.append(part)
                max_bytes -= len(part.encode("utf-8", "replace"))
                if max_bytes < 0:
                    raise TemplateFailed("its output is far longer than the model's context")
        return "".join(parts)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Bound CPU and memory, and turn every way to fail into our two exceptions."""
    with memory_limit(MAX_MEMORY_BYTES), cpu_limit(MAX_CPU_S, _KILL_CPU_S):
        try:
            yield
            return
        except (TemplateRefused, TemplateFailed):
            raise
        except OutOfTime:
            reason = f"it runs for more than {MAX_CPU_S:g} s"
        except MemoryError:
            reason = "it needs too much memory"
        except RecursionError:
            reason = "it nests too deeply"
        except jinja2.TemplateSyntaxError as error:
            reason = f"line {error.lineno}: {error.message}"
        except Exception as error:
            # A template's run-time error may quote a message's text; its kind does not.
            reason = f"it fails with {type(error).__name__}"
        raise TemplateFailed(reason[:_MAX_REASON_CHARS])
